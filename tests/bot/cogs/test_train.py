"""`/train` as the bot's owner uses it: real, short runs in child processes."""

import asyncio
import os
import re
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import discord
import pytest
from simcord.results import InteractionResult, ResponseMessage

from bot import Settings
from bot.cogs.train import CORPUS_BYTES
from bot.concurrency import Wait
from bot.core.training_runner import GRACE_SECONDS, TrainingRunner
from bot.errors import Reason
from bot.rehearsal import DeclaredWait
from bot.ui.responses import REJECTIONS
from tests.bot.conftest import Stage, said, text_of
from tests.bot.loopback import LoopbackDiscord
from tests.bot.process import bot_process, plan_steps
from tests.bot.test_main import AT_LOOPBACK

QUICK = {"minutes": 1, "preset": "quick", "start_from": "active weights"}
LONG = {"minutes": 30, "preset": "quick"}


class School(Stage):
    """A stage whose bot Ann owns, and on which child processes are waited for."""

    def own(self) -> None:
        self.bot.owner_ids = {self.ann.id}

    async def restart(self, wait: Wait | None = None) -> None:
        await super().restart(wait or DeclaredWait(self.env))

    async def until(self, condition: Callable[[], object]) -> None:
        """Let real time pass until something holds."""
        async with asyncio.timeout(240):
            while not condition():  # noqa: ASYNC110 - it is another process's doing
                await asyncio.sleep(0.02)
        await self.env.settle()

    async def at_work(self) -> int:
        """Wait until the run has told of a step; return the child's id."""
        training = self.bard.training
        await self.until(lambda: training.active is None or training.active.progress is not None)
        assert training.active is not None
        return training.active.process.pid

    def message_tasks(self) -> list[str]:
        """Return the names of the tasks that show a run."""
        names = [task.get_name() for task in self.bard._tasks]
        return [name for name in names if name.startswith("message of run")]

    async def over(self) -> None:
        """Wait until the run has ended and its message says so."""
        await self.until(lambda: not self.message_tasks())
        assert self.bard.training.active is None


@pytest.fixture
async def school(stage: Stage) -> AsyncIterator[School]:
    school = School(**vars(stage))
    await school.restart()
    school.own()
    yield school
    if school.bot is not stage.bot:
        await school.bot.close()


@pytest.fixture
def _planned_steps() -> Iterator[None]:
    """Runs make 60 steps, however many fit into their minutes."""
    spawn = plan_steps(60)
    yield
    TrainingRunner._spawn = spawn  # type: ignore[method-assign]


def message(result: InteractionResult) -> ResponseMessage:
    assert result.response is not None
    return result.response


def labels(result: InteractionResult) -> list[str]:
    return [item["label"] for row in message(result).components for item in row["components"]]


@pytest.mark.usefixtures("_planned_steps")
async def test_from_start_to_promoted_and_rolled_back(school: School, settings: Settings) -> None:
    old = school.bard.inference.model.name
    started = await school.ann.slash(school.garden, "train start", **QUICK)
    assert "Starting; the first figures" in message(started).content
    await school.at_work()
    await school.env.advance_time(5)
    assert re.search(r"`\[#*-*\]` \d+%: step \d+ of \d+", message(started).content)
    during = await school.ben.slash(school.garden, "bard", prompt="ROMEO:", max_chars=20)
    assert f"weights {old}" in text_of(during)

    await school.over()
    shown = message(started)
    assert "Run 1: finished" in shown.content
    assert f"before (weights {old})" in shown.content
    assert [item.filename for item in shown.message.attachments] == ["losses.png"]
    assert labels(started) == ["Promote", "Discard"]
    (run,) = await school.bard.runs.newest()
    assert run.weights is not None
    assert run.weights in shown.content
    assert run.loss is not None

    pressed = await school.ann.click(shown, label="Promote")
    assert pressed.acknowledged
    assert f"the weights {run.weights} are active" in message(started).content
    assert labels(started) == []
    after = await school.ben.slash(school.garden, "bard", prompt="JULIET:", max_chars=20)
    assert f"weights {run.weights}" in text_of(after)

    await school.restart()
    school.own()
    after = await school.ben.slash(school.garden, "bard", prompt="NURSE:", max_chars=20)
    assert f"weights {run.weights}" in text_of(after)
    listed = await school.ann.slash(school.garden, "train history")
    assert "**active**" in said(listed)

    back = await school.ann.slash(school.garden, "train rollback")
    assert old in said(back)
    after = await school.ben.slash(school.garden, "bard", prompt="TYBALT:", max_chars=20)
    assert f"weights {old}" in text_of(after)
    again = await school.ann.slash(school.garden, "train rollback")
    assert said(again) == REJECTIONS[Reason.NOTHING_TO_ROLL_BACK]
    assert not school.env.errors
    with closing(sqlite3.connect(settings.database_path)) as connection:
        rows = connection.execute("SELECT run_id, user_id, withdrawn_by FROM promotions").fetchall()
    assert rows == [(1, school.ann.id, school.ann.id)]


async def test_cancelled_resumed_and_interrupted_by_the_end_of_the_bot(
    school: School, settings: Settings
) -> None:
    started = await school.ann.slash(school.garden, "train start", **LONG)
    await school.at_work()
    second = await school.ann.slash(school.garden, "train start", **LONG)
    assert second.ephemeral
    assert said(second) == REJECTIONS[Reason.RUN_ACTIVE]
    assert "Run 1: training" in said(await school.ann.slash(school.garden, "train status"))

    cancelled = await school.ann.slash(school.garden, "train cancel")
    await school.over()
    assert "Run 1: cancelled" in said(cancelled)
    assert "Run 1: cancelled" in message(started).content
    assert labels(started) == []
    (run,) = await school.bard.runs.newest()
    assert run.state == "cancelled"
    assert (settings.runs_path / "1" / "weights.pth.run").exists()

    resumed = await school.ann.slash(school.tavern, "train start", resume=True)
    await school.at_work()
    live = school.bard.training.active
    assert live is not None
    assert live.progress is not None
    assert live.progress.step > run.step > 0
    await school.restart()  # which ends the bot's tasks at once, as a kill does
    assert await live.process.wait() == 128 + signal.SIGTERM
    assert "Run 1: interrupted" in message(resumed).content
    (run,) = await school.bard.runs.newest()
    assert run.state == "interrupted"
    assert (settings.runs_path / "1" / "weights.pth.run").exists()
    school.own()
    status = await school.ann.slash(school.garden, "train status")
    assert REJECTIONS[Reason.NO_ACTIVE_RUN] in said(status)
    assert "Run 1: interrupted" in said(status)
    assert not school.env.errors


async def test_killed_child_is_a_message_and_a_row_also_when_the_token_has_run_out(
    school: School,
) -> None:
    started = await school.ann.slash(school.garden, "train start", **LONG)
    child = await school.at_work()
    await school.env.advance_time(14 * 60)
    by_channel = f"/channels/{school.garden.id}/messages/"
    assert not any(by_channel in request.path for request in school.env.http_requests)
    await school.env.advance_time(2 * 60)
    live = school.bard.training.active
    assert live is not None
    before = live.progress
    await school.until(lambda: live.progress != before)
    by_token = sum(request.path.endswith("/@original") for request in school.env.http_requests)
    await school.env.advance_time(6)
    assert any(by_channel in request.path for request in school.env.http_requests)

    os.kill(child, signal.SIGKILL)
    await school.over()
    assert "Run 1: failed" in message(started).content
    assert "killed by signal 9" in message(started).content
    after = sum(request.path.endswith("/@original") for request in school.env.http_requests)
    assert after == by_token
    answered = await school.ben.slash(school.garden, "bard", prompt="ROMEO:", max_chars=20)
    assert answered.response is not None
    nothing = await school.ann.slash(school.garden, "train start", resume=True)
    assert said(nothing) == REJECTIONS[Reason.NOTHING_TO_RESUME]
    assert not school.env.errors


async def test_where_it_may_not_write_status_tells(school: School) -> None:
    await school.ann.slash(school.garden, "train start", **LONG)
    live = school.bard.training.active
    assert live is not None
    os.kill(live.process.pid, signal.SIGSTOP)
    await school.env.advance_time(16 * 60)
    school.env.inject_error("PATCH", "/channels/*/messages/*", status=403, code=50001)
    os.kill(live.process.pid, signal.SIGKILL)
    await school.over()
    status = await school.ann.slash(school.garden, "train status")
    assert "killed by signal 9" in said(status)


async def test_child_that_does_not_stop_is_killed(school: School) -> None:
    started = await school.ann.slash(school.garden, "train start", **LONG)
    os.kill(await school.at_work(), signal.SIGSTOP)
    live = school.bard.training.active
    assert live is not None
    cancelled = await school.ann.slash(school.garden, "train cancel")
    await school.env.advance_time(GRACE_SECONDS)
    assert not live.ended.done()
    await school.env.advance_time(live.step_seconds + 1)
    await school.over()
    assert live.process.returncode == -signal.SIGKILL
    assert "Run 1: cancelled" in said(cancelled)
    assert "Run 1: cancelled" in message(started).content


async def test_corpus_that_is_no_text(school: School) -> None:
    for name, data in (("novel.pdf", b"text"), ("novel.txt", b"x" * (CORPUS_BYTES + 1))):
        refused = await school.ann.slash(school.garden, "train start", **LONG, corpus=(name, data))
        assert refused.ephemeral
        assert said(refused) == REJECTIONS[Reason.NOT_A_TEXT_FILE]
    assert await school.bard.runs.newest() == []
    assert not school.env.errors

    garbage = ("novel.txt", b"\xff\xfe garbage" * 2000)
    started = await school.ann.slash(school.garden, "train start", **LONG, corpus=garbage)
    await school.over()
    assert "novel.txt: not a UTF-8 text" in message(started).content
    assert str(school.bard.settings.runs_path.absolute()) not in message(started).content
    (run,) = await school.bard.runs.newest()
    assert run.state == "failed"
    assert list(school.bard.settings.runs_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("start", LONG),
        ("status", {}),
        ("cancel", {}),
        ("history", {}),
        ("promote", {"run": 1}),
        ("rollback", {}),
    ],
)
async def test_not_the_owner(school: School, command: str, options: dict[str, object]) -> None:
    everything = discord.Permissions(administrator=True)
    role = school.guild.create_role("Admins", permissions=everything)
    cat = school.guild.add_member(school.env.create_user("cat"), roles=[role])
    for refused in (
        await cat.slash(school.garden, f"train {command}", **options),
        await school.ben.user.slash(f"train {command}", **options),
    ):
        assert refused.ephemeral
        assert said(refused) == REJECTIONS[Reason.NOT_OWNER]
    assert await school.bard.runs.newest() == []
    assert not school.env.errors


async def test_hidden_from_others_by_default(school: School) -> None:
    assert "train start" in school.ann.available_commands(school.garden)
    assert "train start" not in school.ben.available_commands(school.garden)
    commands = await school.bot.tree.fetch_commands()
    (train,) = (command for command in commands if command.name == "train")
    assert train.default_member_permissions is not None
    assert train.default_member_permissions.value == 0


def stored_state() -> str:
    with closing(sqlite3.connect("var/bard.sqlite3")) as connection:
        ((state,),) = connection.execute("SELECT state FROM runs").fetchall()
    return str(state)


def files() -> list[str]:
    return [path.name for path in Path("var/runs/1").glob("weights.pth*")]


async def test_killed_bot_leaves_a_run_that_saves_itself_and_is_resumed(
    weights: Path, corpus: Path
) -> None:
    async with LoopbackDiscord().running() as server, asyncio.timeout(300):
        start = ("-c", AT_LOOPBACK.format(port=server.port))
        settings = {"DISCORD_TOKEN": "right", "BARD_CORPUS": str(corpus)}
        async with bot_process(*start, weights=weights, **settings) as bot:
            await server.ready.wait()
            token = await server.slash("train start", minutes=30.0, preset="quick")
            await server.edited(token, "Training loss")
            assert not files()
            bot.kill()
            await bot.wait()
        assert stored_state() == "running"
        while not files():  # noqa: ASYNC110 - it is another process's doing
            await asyncio.sleep(0.05)

        server.ready.clear()
        async with bot_process(*start, weights=weights, **settings) as bot:
            await server.ready.wait()
            assert stored_state() == "interrupted"
            token = await server.slash("train start", resume=True)
            body = await server.edited(token, "Training loss")
            assert "step 1 of" not in body["content"]
            bot.send_signal(signal.SIGTERM)
            _, said = await bot.communicate()
        assert bot.returncode == 0
        assert "Traceback" not in said.decode()
        assert "Run 1: interrupted" in server.edits[token]["content"]
        assert stored_state() == "interrupted"
        assert files() == ["weights.pth.run"]


TEXT = ("Hear me: the river runs to the sea, and the night is long.\n" * 400).encode()
GREEK = ("μῆνιν ἄειδε θεὰ Πηληϊάδεω Ἀχιλῆος\n" * 400).encode()


def style(result: InteractionResult, label: str) -> discord.ButtonStyle:
    (found,) = [
        item["style"]
        for row in message(result).components
        for item in row["components"]
        if item["label"] == label
    ]
    return discord.ButtonStyle(found)


@pytest.mark.usefixtures("_planned_steps")
async def test_own_text_starts_from_the_active_weights_and_shows_what_that_gains(
    school: School,
) -> None:
    old = school.bard.inference.model.name
    started = await school.ann.slash(
        school.garden, "train start", minutes=1, corpus=("mine.txt", TEXT)
    )
    assert f"on mine.txt, from the weights {old}" in message(started).content
    await school.at_work()
    await school.env.advance_time(5)
    assert re.search(r"held-out loss .* before the run", message(started).content)
    await school.over()
    (run,) = await school.bard.runs.newest()
    assert run.state == "finished"
    assert run.start_weights == run.old_weights == old
    assert run.loss is not None
    assert run.start_loss is not None
    assert run.start_loss == run.old_loss
    assert run.loss < run.start_loss
    shown = message(started).content
    assert f"{run.start_loss:.3f} before (weights {old}), {run.loss:.3f} after" in shown
    assert "lower, so better" in shown
    assert "Warning" not in shown
    assert style(started, "Promote") == discord.ButtonStyle.success
    assert f"started from {old}" in said(await school.ann.slash(school.garden, "train history"))
    files = [path.name for path in (school.bard.settings.runs_path / "1").iterdir()]
    assert "start.pth" not in files
    assert not school.env.errors


async def test_text_in_another_alphabet_starts_from_nothing_or_is_refused(school: School) -> None:
    greek = {"corpus": ("iliad.txt", GREEK), "minutes": 30}
    refused = await school.ann.slash(
        school.garden, "train start", **greek, start_from="active weights"
    )
    assert "characters that the active weights do not have" in said(refused)
    assert " μ " in said(refused)
    assert await school.bard.runs.newest() == []
    started = await school.ann.slash(school.garden, "train start", **greek)
    assert "on iliad.txt, from nothing. The active weights do not have" in message(started).content
    await school.at_work()
    await school.ann.slash(school.garden, "train cancel")
    await school.over()
    (run,) = await school.bard.runs.newest()
    assert (run.state, run.start_weights, run.start_loss) == ("cancelled", None, None)
    assert not school.env.errors


async def test_configured_corpus_starts_from_nothing_unless_asked(school: School) -> None:
    started = await school.ann.slash(school.garden, "train start", **LONG)
    assert "on the configured corpus, from nothing." in message(started).content
    await school.ann.slash(school.garden, "train cancel")
    await school.over()
    own = {"corpus": ("mine.txt", TEXT), "start_from": "nothing"}
    started = await school.ann.slash(school.garden, "train start", **LONG, **own)
    assert "on mine.txt, from nothing." in message(started).content
    await school.ann.slash(school.garden, "train cancel")
    await school.over()
    assert not school.env.errors


async def test_too_short_a_run_is_refused_with_the_shortest(school: School) -> None:
    started = await school.ann.slash(school.garden, "train start", minutes=0.1, preset="quick")
    await school.over()
    assert re.search(
        r"0\.1 minutes are too short .* shortest sensible run here takes [\d.]+ minutes",
        message(started).content.replace("\\", ""),  # which keep it from formatting anything
    )
    (run,) = await school.bard.runs.newest()
    assert run.state == "failed"
    assert not school.env.errors


@pytest.mark.parametrize(
    "option",
    [
        {"minutes": 1},
        {"preset": "quick"},
        {"corpus": ("mine.txt", TEXT)},
        {"start_from": "nothing"},
    ],
)
async def test_resume_takes_no_other_option(school: School, option: dict[str, object]) -> None:
    refused = await school.ann.slash(school.garden, "train start", resume=True, **option)
    assert refused.ephemeral
    (name,) = option
    assert f"leave out `{name}`" in said(refused)
    assert not school.env.errors
