"""The rehearsal stage in a real browser, also after the process was killed."""

import os
import re
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

import noskgpt
from bot.core import transcript
from tests.bot import page as stage
from tests.bot.process import (
    LOADING_HANGS,
    REPLIES_WAIT,
    WITH_PLANNED_STEPS,
    bot_process,
    clean_end,
    created,
)

# In CI a missing browser fails the tests instead of skipping them.
pytestmark = pytest.mark.skipif(
    stage.CHROMIUM is None and "CI" not in os.environ, reason=stage.NO_CHROMIUM
)

DATABASE = Path("var/rehearsal-bard.sqlite3")
FOOTER = re.compile(r"\d characters · ")


@asynccontextmanager
async def open_page(channel: str, weights: Path) -> AsyncIterator[Page]:
    async with (
        stage.rehearsal("--channel", channel, weights=weights) as address,
        stage.browser_page(address) as page,
    ):
        await expect(page.locator("#channel-name")).to_have_text(channel)
        yield page


def turns() -> list[dict[str, Any]]:
    """Return the shown turns, each with its shown take."""
    with closing(sqlite3.connect(DATABASE)) as connection:
        connection.row_factory = sqlite3.Row
        sql = "SELECT * FROM turns JOIN takes ON turn_id = id AND number = take ORDER BY id"
        return list(map(dict, connection.execute(sql)))


async def test_scene_continues_in_the_same_tab_after_a_kill(weights: Path) -> None:
    async with AsyncExitStack() as stack:
        async with stage.rehearsal(weights=weights) as address:
            page = await stack.enter_async_context(stage.browser_page(address))
            await stage.slash(page, "bard", "ROMEO:")
            reply = stage.messages(page).last
            await expect(reply).to_contain_text(FOOTER, timeout=30_000)
            await expect(reply).to_contain_text("prospero asks the bard")
            await expect(reply.locator(".embed-title")).to_have_text("ROMEO:")

            await stage.view_as(page, "miranda")
            await stage.slash(page, "bard", "JULIET: 😀")
            reply = stage.messages(page).last
            await expect(reply).to_contain_text("miranda asks the bard", timeout=30_000)
            await expect(reply).to_contain_text("left out")

        loaded = page.wait_for_event("load", timeout=60_000)
        async with stage.rehearsal(weights=weights, port=int(address.split(":")[2][:-1])) as again:
            assert again == address
            await loaded  # by itself
            await expect(stage.messages(page)).to_have_count(2)
            await expect(stage.messages(page).first).to_contain_text("ROMEO:")
            await stage.slash(page, "bard", "NURSE:")
            await expect(stage.messages(page)).to_have_count(3, timeout=30_000)
            await expect(stage.messages(page).last).to_contain_text("NURSE:", timeout=30_000)
            await expect(stage.messages(page).last).to_contain_text(FOOTER)

    first, second, third = turns()
    assert [turn["scene"] for turn in (first, second, third)] == [1, 1, 1]
    # The third reply is the completion of the first two turns, not of the third prompt alone.
    context = transcript.compose([("ROMEO:\n", first["reply"]), ("JULIET: ", second["reply"])])
    model = noskgpt.load(weights)
    context = transcript.join(context, "NURSE:\n")[-2000:]
    seed = third["seed"]
    completion = model.generate(
        context, 400, 0.8, seed, real_words=True, cast=True, echo=True, echo_of="NURSE:\n"
    )
    assert third["reply"] == transcript.finish(completion)
    alone = model.generate("NURSE:\n", 1000, 0.8, seed, real_words=True)
    assert third["reply"] != transcript.finish(alone)


async def test_port_is_taken_before_the_data_is_opened(weights: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = f"{LOADING_HANGS}\nfrom bot.__main__ import main\nmain()"
    command = ("-c", program, "rehearse", "--port", f"{port}")
    async with bot_process(*command, weights=weights):
        await created(tmp_path / "generating")
        # The page is not served yet; a second process would not get the port.
        socket.create_connection(("127.0.0.1", port)).close()


async def test_signal_lets_the_reply_in_progress_end(weights: Path, tmp_path: Path) -> None:
    program = f"{REPLIES_WAIT}\nfrom bot.__main__ import main\nmain()"
    async with (
        bot_process("-c", program, "rehearse", "--port", "0", weights=weights) as process,
        stage.browser_page(await stage.address_of(process)) as page,
    ):
        await stage.slash(page, "bard", "ROMEO:")
        await created(tmp_path / "generating")
        process.send_signal(signal.SIGTERM)
        # The page is still served.
        await stage.slash(page, "bard", "JULIET:")
        await expect(stage.messages(page).last).to_contain_text("called from the stage")
        (tmp_path / "gate").touch()
        await clean_end(process)
    (turn,) = turns()
    assert turn["prompt"] == "ROMEO:"


async def test_channels_have_separate_scenes(weights: Path) -> None:
    async with open_page("tavern", weights) as page:
        for channel, prompt in (("tavern", "FALSTAFF:"), ("stage", "HAMLET:")):
            await stage.show(page, channel)
            await expect(stage.messages(page)).to_have_count(0)
            await stage.slash(page, "bard", prompt)
            await expect(stage.messages(page).last).to_contain_text(FOOTER, timeout=30_000)
        await stage.show(page, "@Bard as miranda")
        await stage.slash(page, "bard", "PUCK:")
        await expect(stage.messages(page).last).to_contain_text(FOOTER, timeout=30_000)
    async with open_page("tavern", weights) as page:
        await expect(stage.messages(page)).to_have_count(1)
        await expect(stage.messages(page).last).to_contain_text("FALSTAFF:")
        await stage.slash(page, "scene continue")
        await expect(stage.messages(page).last).to_contain_text("and then?", timeout=30_000)
        await stage.show(page, "stage")
        await expect(stage.messages(page)).to_have_count(1)
        await expect(stage.messages(page).last).to_contain_text("HAMLET:")
        await stage.show(page, "@Bard as miranda")
        await expect(stage.messages(page).last).to_contain_text("PUCK:")
    tavern, main_stage, direct, again = turns()
    assert direct["guild_id"] is None
    assert tavern["channel_id"] == again["channel_id"] != main_stage["channel_id"]


async def test_the_files_of_the_real_bot_stay_as_they_are(weights: Path) -> None:
    """To the simulated Discord its servers and messages would be gone."""
    database, run = Path("var/bard.sqlite3"), Path("var/runs/1/weights.pth")
    run.parent.mkdir(parents=True)
    for file in (database, run):
        file.write_text("of the real bot")
    async with stage.rehearsal(weights=weights):
        pass
    assert contents(database) == contents(run) == "of the real bot"
    assert turns() == []


def contents(file: Path) -> str:
    return file.read_text()


async def test_buttons_of_messages_from_before_a_kill(weights: Path) -> None:
    async with open_page("stage", weights) as page:
        await stage.slash(page, "bard", "ROMEO:")
        await expect(stage.messages(page).last).to_contain_text(FOOTER, timeout=30_000)
        await stage.press(stage.messages(page).last, "Reroll")
        await expect(stage.messages(page).last).to_contain_text("Take 2 of 2", timeout=30_000)
        await expect(stage.messages(page)).to_have_count(1)

    async with open_page("stage", weights) as page:
        recalled = stage.messages(page).first
        await expect(recalled).to_contain_text("prospero asks the bard")
        await expect(recalled).to_contain_text("Take 2 of 2")
        await stage.press(recalled, "Continue")
        await expect(stage.messages(page).last).to_contain_text("and then?", timeout=30_000)
        await stage.press(recalled, "◀ Earlier take")
        await expect(recalled).to_contain_text("Take 1 of 2", timeout=30_000)
        await expect(recalled).to_contain_text("prospero asks the bard")

    first, second = turns()
    assert first["take"] == 1
    with closing(sqlite3.connect(DATABASE)) as connection:
        takes = dict(connection.execute("SELECT number, reply FROM takes WHERE turn_id = 1"))
    assert first["reply"] == takes[1]
    # The second reply continues the take that was shown then.
    context = transcript.compose([("ROMEO:\n", takes[2])])[-2000:]
    completion = noskgpt.load(weights).generate(
        context, 400, 0.8, second["seed"], real_words=True, cast=True
    )
    assert second["reply"] == transcript.finish(completion)


async def test_run_is_shown_and_its_promoted_weights_reply(weights: Path, corpus: Path) -> None:
    async with (
        stage.rehearsal(
            weights=weights,
            program=("-c", WITH_PLANNED_STEPS.format(steps=60)),
            BARD_CORPUS=str(corpus),
        ) as address,
        stage.browser_page(address) as page,
    ):
        await stage.slash(page, "train start", minutes="1", start_from="active weights")
        status = stage.messages(page).last
        await expect(status).to_contain_text(": training.", timeout=30_000)
        # Its updates do not take away what is typed or pressed meanwhile.
        await stage.slash(page, "bard", "ROMEO:")
        await expect(stage.messages(page).last).to_contain_text(FOOTER, timeout=30_000)
        await stage.press(stage.messages(page).last, "Reroll")
        await expect(stage.messages(page).last).to_contain_text("Take 2 of 2", timeout=30_000)
        status = stage.messages(page).first
        await expect(status).to_contain_text("Run 1: finished", timeout=240_000)
        await expect(status.get_by_role("img", name=re.compile("chart"))).to_be_visible()
        await stage.press(status, "Promote")
        await expect(status).to_contain_text("Promoted", timeout=30_000)
        await stage.slash(page, "bard", "ROMEO:")
        with closing(sqlite3.connect(DATABASE)) as connection:
            ((name,),) = connection.execute("SELECT weights FROM runs")
        await stage.slash(page, "bard-about")
        await expect(stage.messages(page).last).to_contain_text(f"weights {name}", timeout=30_000)
