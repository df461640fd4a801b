"""The message of a training run: sparing edits, and an end that is kept until it was shown."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from typing import Any

import discord
import pytest
from simcord.results import InteractionResult

from bot.errors import Reason, RejectedError
from bot.languages import language
from bot.storage.runs import Run
from bot.ui import training_messages
from bot.ui.responses import REJECTIONS, STATES
from bot.ui.run_message import ANSWER_SECONDS, SHOWN_BELOW
from bot.ui.training_messages import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS
from tests.bot.conftest import Stage, content_of, labels_of, message_of
from tests.bot.training import TrainingStage

BY_TOKEN = "/webhooks/*/messages/*"  # noqa: S105 - a path
NEW = "/channels/*/messages"
FINISHED = {"weights": "noskgpt-0badcafe", "loss": 1.25}


@pytest.fixture
async def stage(stage: Stage) -> AsyncIterator[TrainingStage]:
    training_stage = TrainingStage(**vars(stage))
    await training_stage.restart()
    training_stage.set_owner()
    training_stage.start_runs_by_hand()
    yield training_stage
    if training_stage.bot is not stage.bot:
        await training_stage.bot.close()


async def start(stage: TrainingStage) -> InteractionResult:
    return await stage.ann.slash(stage.garden, "train start", preset="quick")


def refuse(stage: TrainingStage, method: str, path: str, code: int = 0, status: int = 400) -> None:
    """Let Discord refuse requests until `accept_all`."""
    stage.env.inject_error(method, path, status=status, code=code, times=None)


def accept_all(stage: TrainingStage) -> None:
    stage.env.backend.faults.clear()


def requests(stage: TrainingStage, method: str, part: str = "/messages") -> list[Any]:
    return [r for r in stage.env.http_requests if r.method == method and part in r.path]


def last_message(stage: TrainingStage) -> discord.Message:
    message = stage.garden.last_message
    assert message is not None
    return message


def buttons(message: discord.Message) -> list[str | None]:
    rows = [row for row in message.components if isinstance(row, discord.ActionRow)]
    return [item.label for row in rows for item in row.children if isinstance(item, discord.Button)]


async def unshown(stage: TrainingStage) -> list[int]:
    return [run.id for run in await stage.bard.runs.unshown()]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == training_messages.__name__ and record.levelno >= logging.WARNING
    ]


async def test_end_is_shown_in_the_message_with_its_buttons(stage: TrainingStage) -> None:
    started = await start(stage)
    await stage.end_run("finished", **FINISHED)
    assert "Run 1: finished" in message_of(started).content
    assert labels_of(message_of(started)) == ["Promote", "Discard"]
    assert await unshown(stage) == []
    assert stage.message_tasks() == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 50083), (429, 30046), (403, 50001), (404, 10008), (400, 200000)],
    ids=["archived", "too many edits", "no access", "deleted", "another"],
)
async def test_end_is_a_new_message_if_the_message_cannot_be_edited(
    stage: TrainingStage, caplog: pytest.LogCaptureFixture, status: int, code: int
) -> None:
    await start(stage)
    refuse(stage, "PATCH", BY_TOKEN, code, status)
    await stage.end_run("finished", **FINISHED)
    shown = last_message(stage)
    assert "Run 1: finished" in shown.content
    assert buttons(shown) == ["Promote", "Discard"]
    assert await unshown(stage) == []
    (body,) = [request.json for request in requests(stage, "POST", "/channels/")]
    assert body["allowed_mentions"] == {"parse": []}
    assert body["enforce_nonce"]
    (warning,) = warnings(caplog)
    assert "its end is in a new message" in warning


@pytest.mark.parametrize(("status", "code"), [(401, 50027), (404, 10015), (404, 10062), (401, 0)])
async def test_discord_and_not_the_clock_decides_that_the_token_is_over(
    stage: TrainingStage, monkeypatch: pytest.MonkeyPatch, status: int, code: int
) -> None:
    started = await start(stage)
    monkeypatch.setattr(discord.Interaction, "is_expired", lambda _: False)
    await stage.env.advance_time(5)
    refuse(stage, "PATCH", BY_TOKEN, code, status)
    await stage.end_run("finished", **FINISHED)
    assert len(requests(stage, "PATCH", "/channels/")) == 1
    assert "Run 1: finished" in message_of(started).content
    assert labels_of(message_of(started)) == ["Promote", "Discard"]
    assert await unshown(stage) == []


async def test_token_is_used_though_the_clock_says_that_it_is_over(
    stage: TrainingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = await start(stage)
    monkeypatch.setattr(discord.Interaction, "is_expired", lambda _: True)
    await stage.end_run("finished", **FINISHED)
    assert "Run 1: finished" in message_of(started).content
    assert not requests(stage, "PATCH", "/channels/")


async def test_end_is_a_direct_message_if_its_channel_refuses_it(
    stage: TrainingStage, caplog: pytest.LogCaptureFixture
) -> None:
    await start(stage)
    refuse(stage, "PATCH", BY_TOKEN, 50083)
    refuse(stage, "POST", f"/channels/{stage.garden.id}/messages", 50001, 403)
    await stage.end_run("finished", **FINISHED)
    assert await unshown(stage) == []
    (body,) = [r.json for r in requests(stage, "POST") if str(stage.garden.id) not in r.path]
    assert "Run 1: finished" in body["content"]
    assert body["components"]
    (warning,) = warnings(caplog)
    assert "50083" in warning
    assert "50001" in warning


async def test_direct_message_is_in_the_language_of_the_person_who_started_the_run(
    stage: TrainingStage, locales: dict[int, str]
) -> None:
    locales[stage.ann.id] = "de"
    started = await start(stage)
    assert "Run 1: training" in message_of(started).content
    refuse(stage, "PATCH", BY_TOKEN, 50083)
    refuse(stage, "POST", f"/channels/{stage.garden.id}/messages", 50001, 403)
    await stage.end_run("finished", **FINISHED)
    (body,) = [r.json for r in requests(stage, "POST") if str(stage.garden.id) not in r.path]
    assert language("de")(STATES["finished"]) in body["content"]
    assert "Run 1" not in body["content"]


async def test_direct_message_of_a_process_that_gets_none_has_no_buttons(
    stage: TrainingStage,
) -> None:
    """A press would reach the process with shard 0, which has another run of that number."""
    stage.bot.shard_ids = [1]
    await start(stage)
    refuse(stage, "PATCH", BY_TOKEN, 10008, 404)
    refuse(stage, "POST", f"/channels/{stage.garden.id}/messages", 50001, 403)
    await stage.end_run("finished", **FINISHED)
    body = requests(stage, "POST", "/messages")[-1].json
    assert body["content"].endswith(training_messages.DECIDE_IN_SERVER)
    assert "Run 1: finished" in body["content"]
    assert not body.get("components")


async def test_end_that_is_refused_everywhere_is_given_up_with_one_line(
    stage: TrainingStage, caplog: pytest.LogCaptureFixture
) -> None:
    await start(stage)
    refuse(stage, "PATCH", BY_TOKEN, 50083)
    refuse(stage, "POST", NEW, 50007, 403)
    await stage.end_run("interrupted")
    (warning,) = warnings(caplog)
    assert "cannot be shown" in warning
    assert await unshown(stage) == []
    assert stage.message_tasks() == []


async def test_temporary_failure_is_tried_again_with_growing_pauses(
    stage: TrainingStage, caplog: pytest.LogCaptureFixture
) -> None:
    started = await start(stage)
    before = len(requests(stage, "PATCH"))
    refuse(stage, "PATCH", BY_TOKEN, status=502)
    await stage.end_run("cancelled")
    pauses: list[float] = []
    waited, tried = 0.0, len(requests(stage, "PATCH"))
    assert tried == before + 1
    while len(pauses) < 9:
        await stage.env.advance_time(FIRST_PAUSE_SECONDS)
        waited += FIRST_PAUSE_SECONDS
        if len(requests(stage, "PATCH")) > tried:
            tried += 1
            pauses.append(waited)
            waited = 0.0
    assert len(requests(stage, "PATCH")) == tried
    assert pauses == [5, 10, 20, 40, 80, 160, LONGEST_PAUSE_SECONDS] + 2 * [LONGEST_PAUSE_SECONDS]
    assert await unshown(stage) == [1]
    refuse(stage, "PATCH", BY_TOKEN, status=503)
    stage.env.backend.faults.pop(0)
    await stage.env.advance_time(2 * LONGEST_PAUSE_SECONDS)
    accept_all(stage)
    await stage.env.advance_time(LONGEST_PAUSE_SECONDS)
    assert "Run 1: cancelled" in message_of(started).content
    assert await unshown(stage) == []
    first, second = warnings(caplog)
    assert "502" in first
    assert "503" in second
    assert not requests(stage, "POST", "/channels/")


async def test_page_of_a_proxy_is_no_refusal(stage: TrainingStage) -> None:
    started = await start(stage)
    refuse(stage, "*", "/*", 40333, 403)
    await stage.end_run("cancelled")
    assert await unshown(stage) == [1]
    accept_all(stage)
    await stage.env.advance_time(FIRST_PAUSE_SECONDS)
    assert "Run 1: cancelled" in message_of(started).content
    assert await unshown(stage) == []


@pytest.mark.parametrize("event", ["resumed", "ready"])
async def test_end_is_tried_at_once_when_the_connection_is_back(
    stage: TrainingStage, event: str
) -> None:
    started = await start(stage)
    refuse(stage, "PATCH", BY_TOKEN, status=500)
    await stage.end_run("cancelled")
    await stage.env.advance_time(60)
    tried = len(requests(stage, "PATCH"))
    accept_all(stage)
    stage.bot.dispatch(event)
    await stage.env.settle()
    assert "Run 1: cancelled" in message_of(started).content
    assert len(requests(stage, "PATCH")) == tried + 1


async def test_end_is_shown_again_if_that_could_not_be_recorded(
    stage: TrainingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, failures = stage.bard.runs.set_end_shown, iter([Reason.MEMORY_BUSY])

    async def fail_first(run: Run) -> None:
        for reason in failures:
            raise RejectedError(reason)
        await record(run)

    monkeypatch.setattr(stage.bard.runs, "set_end_shown", fail_first)
    await start(stage)
    await stage.end_run("cancelled")
    assert await unshown(stage) == [1]
    await stage.env.advance_time(FIRST_PAUSE_SECONDS)
    assert await unshown(stage) == []


async def test_end_is_shown_after_a_restart(stage: TrainingStage) -> None:
    started = await start(stage)
    refuse(stage, "PATCH", BY_TOKEN, status=500)
    await stage.end_run("finished", **FINISHED)
    await stage.restart()
    assert "Run 1: finished" in message_of(started).content
    assert labels_of(message_of(started)) == ["Promote", "Discard"]
    assert await unshown(stage) == []
    edits = len(requests(stage, "PATCH"))
    await stage.restart()
    assert len(requests(stage, "PATCH")) == edits


async def test_end_of_a_run_without_a_known_message_is_shown_after_a_restart(
    stage: TrainingStage,
) -> None:
    refuse(stage, "PATCH", BY_TOKEN, status=500)
    await start(stage)
    accept_all(stage)
    await stage.restart()  # while it is running: a killed process
    assert "Run 1: interrupted" in last_message(stage).content


async def test_closing_does_not_wait_for_the_next_attempt(stage: TrainingStage) -> None:
    await start(stage)
    refuse(stage, "PATCH", BY_TOKEN, status=500)
    await stage.end_run("cancelled")
    assert stage.message_tasks()
    bard = stage.bard
    await stage.bot.unload_extension("bot")  # on a clock that stands still
    assert not bard._tasks


async def test_promoted_or_discarded_run_has_no_buttons_when_its_end_is_shown_late(
    stage: TrainingStage,
) -> None:
    started = await start(stage)
    refuse(stage, "PATCH", BY_TOKEN, status=500)
    await stage.end_run("finished", **FINISHED)
    await stage.bard.training.discard(1)
    accept_all(stage)
    await stage.env.advance_time(FIRST_PAUSE_SECONDS)
    assert "Run 1: discarded" in message_of(started).content
    assert labels_of(message_of(started)) == []


async def test_old_message_gets_its_end_after_the_run_was_resumed(stage: TrainingStage) -> None:
    started = await start(stage)
    refuse(stage, "PATCH", BY_TOKEN, status=500)
    await stage.end_run("cancelled")
    run = await stage.bard.runs.resume(
        1, user_id=stage.ann.id, guild_id=stage.guild.id, channel_id=stage.tavern.id
    )
    accept_all(stage)
    await stage.env.advance_time(FIRST_PAUSE_SECONDS)
    assert "Run 1: cancelled" in message_of(started).content
    assert await stage.bard.runs.running() == run
    await stage.bard.runs.end(1, "failed")
    assert await unshown(stage) == [1]


async def test_end_without_its_chart_is_shown_where_files_are_not_allowed(
    stage: TrainingStage,
) -> None:
    started = await start(stage)

    async def chart(_run: int) -> bytes:
        return b"png"

    stage.bard.training.chart = chart  # type: ignore[method-assign,assignment]
    stage.env.inject_error("PATCH", BY_TOKEN, status=403, code=50013)
    await stage.end_run("finished", **FINISHED)
    assert labels_of(message_of(started)) == ["Promote", "Discard"]
    assert message_of(started).message.attachments == []


async def test_message_is_edited_sparingly_once_it_is_old(
    stage: TrainingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()
    monkeypatch.setattr(training_messages, "describe_progress", lambda *_: f"{next(numbers)}")
    monkeypatch.setattr(training_messages, "EDIT_SECONDS", 300.0)
    started = await start(stage)
    shown = []
    for minutes in (54, 1, 60):
        await stage.env.advance_time(60 * minutes)
        shown.append(int(message_of(started).content))
    assert shown == [10, 11, 11 + 6]


async def test_refused_progress_is_not_tried_again_and_the_end_is_a_new_message(
    stage: TrainingStage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = itertools.count()
    monkeypatch.setattr(training_messages, "describe_progress", lambda *_: f"{next(numbers)}")
    await start(stage)
    refuse(stage, "PATCH", BY_TOKEN, 30046, 429)
    before = len(requests(stage, "PATCH"))
    await stage.env.advance_time(60)
    assert len(requests(stage, "PATCH")) == before + 1
    assert len(warnings(caplog)) == 1
    await stage.end_run("failed", problem="x")
    assert len(requests(stage, "PATCH")) == before + 1
    assert "Run 1: failed" in last_message(stage).content


class RateLimit:
    """Lets edits through an interaction's token sleep, as the library does on a rate limit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, of: str) -> None:
        self.asleep = 0
        edit = discord.Interaction.edit_original_response

        async def sleeping(interaction: discord.Interaction, **content: Any) -> Any:
            if of in content["content"]:
                self.asleep += 1
                await asyncio.sleep(3600)
            return await edit(interaction, **content)

        monkeypatch.setattr(discord.Interaction, "edit_original_response", sleeping)


async def test_end_does_not_wait_for_an_edit_that_sleeps(
    stage: TrainingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = await start(stage)
    limit = RateLimit(monkeypatch, of="step 3")
    monkeypatch.setattr(training_messages, "describe_progress", lambda *_: "step 3")
    await stage.env.advance_time(5)
    assert limit.asleep == 1
    await stage.end_run("cancelled")
    assert "Run 1: cancelled" in message_of(started).content


async def test_end_is_a_new_message_if_its_edits_sleep(
    stage: TrainingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(stage)
    limit = RateLimit(monkeypatch, of="")
    await stage.end_run("cancelled")
    await stage.env.advance_time(ANSWER_SECONDS)
    assert await unshown(stage) == [1]
    await stage.env.advance_time(FIRST_PAUSE_SECONDS + ANSWER_SECONDS)
    assert limit.asleep == 2
    assert "Run 1: cancelled" in last_message(stage).content
    assert await unshown(stage) == []


async def test_host_with_a_rule_of_its_own_is_asked_after_a_private_acknowledgement(
    stage: TrainingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_owner(_bot: object, person: discord.abc.User) -> bool:
        await asyncio.sleep(0)
        return person.id == stage.ann.id

    monkeypatch.setattr(type(stage.bot), "is_owner", is_owner)
    managers = stage.guild.create_role(
        "Admins", permissions=discord.Permissions(administrator=True)
    )
    cat = stage.guild.add_member(stage.env.create_user("cat"), roles=[managers])
    rejected = await cat.slash(stage.garden, "train start")
    assert rejected.ephemeral
    assert content_of(rejected) == REJECTIONS[Reason.NOT_OWNER]
    assert await stage.bard.runs.newest() == []
    started = await start(stage)
    assert started.ephemeral
    assert message_of(started).content == SHOWN_BELOW
    shown = last_message(stage)
    assert "Run 1: training" in shown.content
    await stage.end_run("finished", **FINISHED)
    assert "Run 1: finished" in last_message(stage).content
    assert last_message(stage).id == shown.id
