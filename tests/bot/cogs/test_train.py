"""`/train`: short real runs in child processes, their status, and the owner's commands."""

import asyncio
import os
import re
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import discord
import pytest
from simcord.results import InteractionResult

from bot import Settings
from bot.cogs.train import CORPUS_BYTES
from bot.core.training_runner import GRACE_SECONDS, TrainingRunner
from bot.errors import Reason
from bot.ui.responses import REJECTIONS
from tests.bot.conftest import Stage, content_of, labels_of, message_of, text_of
from tests.bot.process import bot_process, plan_steps
from tests.bot.test_main import RUN_AT_LOOPBACK
from tests.bot.training import TrainingStage
from tests.wire.server import Discord

QUICK = {"minutes": 1, "preset": "quick", "start_from": "active weights"}
LONG = {"minutes": 30, "preset": "quick"}


@pytest.fixture
async def stage(stage: Stage) -> AsyncIterator[TrainingStage]:
    training_stage = TrainingStage(**vars(stage))
    await training_stage.restart()
    training_stage.set_owner()
    yield training_stage
    if training_stage.bot is not stage.bot:
        await training_stage.bot.close()


async def used_weights(stage: TrainingStage, prompt: str) -> str:
    """Let Ben ask in the garden; return the name of the weights that generated the reply."""
    asked = await stage.ben.slash(stage.garden, "bard", prompt=prompt, max_chars=20)
    await stage.until(lambda: message_of(asked).embeds)
    return (await stage.turns(stage.garden.id))[-1].take.weights


@pytest.fixture
def _planned_steps() -> Iterator[None]:
    """Runs make 60 steps, however many fit into their minutes."""
    spawn = plan_steps(60)
    yield
    TrainingRunner._spawn = spawn  # type: ignore[method-assign]


@pytest.mark.usefixtures("_planned_steps")
async def test_start_promote_and_roll_back(stage: TrainingStage, settings: Settings) -> None:
    old = stage.bard.inference.model.name
    started = await stage.ann.slash(stage.garden, "train start", **QUICK)
    assert "Starting; the first figures" in message_of(started).content
    await stage.first_step()
    await stage.env.advance_time(5)
    assert re.search(r"\d+%: step \d+ of \d+ `\[#*-*\]`", message_of(started).content)
    assert await used_weights(stage, "ROMEO:") == old

    await stage.run_ended()
    shown = message_of(started)
    assert "Run 1: finished" in shown.content
    assert f"before (weights {old})" in shown.content
    assert [item.filename for item in shown.message.attachments] == ["losses.png"]
    assert labels_of(message_of(started)) == ["Promote", "Discard"]
    (run,) = await stage.bard.runs.newest()
    assert run.weights is not None
    assert run.weights in shown.content
    assert run.loss is not None

    pressed = await stage.ann.click(shown, label="Promote")
    assert pressed.acknowledged
    assert f"the weights {run.weights} are active" in message_of(started).content
    assert labels_of(message_of(started)) == []
    assert await used_weights(stage, "JULIET:") == run.weights
    about = await stage.ben.slash(stage.garden, "bard-about")
    assert f"weights {run.weights}" in text_of(about)

    await stage.restart()
    stage.set_owner()
    assert await used_weights(stage, "NURSE:") == run.weights
    listed = await stage.ann.slash(stage.garden, "train history")
    assert "**active**" in content_of(listed)

    rolled_back = await stage.ann.slash(stage.garden, "train rollback")
    assert old in content_of(rolled_back)
    assert await used_weights(stage, "TYBALT:") == old
    again = await stage.ann.slash(stage.garden, "train rollback")
    assert content_of(again) == REJECTIONS[Reason.NOTHING_TO_ROLL_BACK]
    assert not stage.env.errors
    with closing(sqlite3.connect(settings.database_path)) as connection:
        rows = connection.execute("SELECT run_id, user_id, withdrawn_by FROM promotions").fetchall()
    assert rows == [(1, stage.ann.id, stage.ann.id)]


async def test_run_is_cancelled_resumed_and_interrupted_by_a_shutdown(
    stage: TrainingStage, settings: Settings
) -> None:
    started = await stage.ann.slash(stage.garden, "train start", **LONG)
    await stage.first_step()
    second = await stage.ann.slash(stage.garden, "train start", **LONG)
    assert second.ephemeral
    assert content_of(second) == REJECTIONS[Reason.RUN_ACTIVE]
    assert "Run 1: training" in content_of(await stage.ann.slash(stage.garden, "train status"))

    cancelled = await stage.ann.slash(stage.garden, "train cancel")
    await stage.run_ended()
    assert "Run 1: cancelled" in content_of(cancelled)
    assert "The last checkpoint is kept" in content_of(cancelled)
    assert "Run 1: cancelled" in message_of(started).content
    assert "The last checkpoint is kept" in message_of(started).content
    assert labels_of(message_of(started)) == []
    (run,) = await stage.bard.runs.newest()
    assert run.state == "cancelled"
    assert (settings.runs_path / "1" / "weights.pth.run").exists()

    resumed = await stage.ann.slash(stage.tavern, "train start", resume=True)
    await stage.first_step()
    active = stage.bard.training.active
    assert active is not None
    assert active.progress is not None
    assert active.progress.step > run.step > 0
    await stage.restart()  # the simulation cancels the old bot's tasks, as a kill ends them
    assert await active.child.wait() == 128 + signal.SIGTERM
    assert "Run 1: interrupted" in message_of(resumed).content
    (run,) = await stage.bard.runs.newest()
    assert run.state == "interrupted"
    assert (settings.runs_path / "1" / "weights.pth.run").exists()
    stage.set_owner()
    status = await stage.ann.slash(stage.garden, "train status")
    assert REJECTIONS[Reason.NO_ACTIVE_RUN] in content_of(status)
    assert "Run 1: interrupted" in content_of(status)
    assert not stage.env.errors


async def test_killed_child_is_shown_and_stored_after_the_token_has_expired(
    stage: TrainingStage,
) -> None:
    started = await stage.ann.slash(stage.garden, "train start", **LONG)
    child = await stage.first_step()
    await stage.env.advance_time(16 * 60)
    os.kill(child, signal.SIGKILL)
    await stage.run_ended()
    assert "Run 1: failed" in message_of(started).content
    assert "killed by signal 9" in message_of(started).content
    assert "checkpoint" not in message_of(started).content
    reply = await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    assert reply.response is not None
    status = await stage.ann.slash(stage.garden, "train status")
    assert "killed by signal 9" in content_of(status)
    rejected = await stage.ann.slash(stage.garden, "train start", resume=True)
    assert content_of(rejected) == REJECTIONS[Reason.NOTHING_TO_RESUME]
    assert not stage.env.errors


async def test_child_that_does_not_stop_is_killed(stage: TrainingStage) -> None:
    started = await stage.ann.slash(stage.garden, "train start", **LONG)
    os.kill(await stage.first_step(), signal.SIGSTOP)
    active = stage.bard.training.active
    assert active is not None
    cancelled = await stage.ann.slash(stage.garden, "train cancel")
    await stage.env.advance_time(GRACE_SECONDS)
    assert not active.ended.done()
    await stage.env.advance_time(active.step_seconds + 1)
    await stage.run_ended()
    assert active.child.returncode == -signal.SIGKILL
    assert "Run 1: cancelled" in content_of(cancelled)
    assert "Run 1: cancelled" in message_of(started).content


async def test_invalid_corpus_is_rejected_or_fails_the_run(stage: TrainingStage) -> None:
    for name, data in (("novel.pdf", b"text"), ("novel.txt", b"x" * (CORPUS_BYTES + 1))):
        rejected = await stage.ann.slash(stage.garden, "train start", **LONG, corpus=(name, data))
        assert rejected.ephemeral
        assert content_of(rejected) == REJECTIONS[Reason.NOT_A_TEXT_FILE]
    assert await stage.bard.runs.newest() == []
    assert not stage.env.errors

    binary = ("novel.txt", b"\xff\xfe garbage" * 2000)
    started = await stage.ann.slash(stage.garden, "train start", **LONG, corpus=binary)
    await stage.run_ended()
    assert "novel.txt: not a UTF-8 text" in message_of(started).content
    assert str(stage.bard.settings.runs_path.absolute()) not in message_of(started).content
    (run,) = await stage.bard.runs.newest()
    assert run.state == "failed"
    assert [path.name for path in stage.bard.settings.runs_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("start", LONG),
        ("status", {}),
        ("cancel", {}),
        ("history", {}),
        ("promote", {"run": 1}),
        ("promote", {"run": 1, "as": "marlowe"}),
        ("voices", {}),
        ("rollback", {}),
    ],
)
async def test_others_are_rejected(
    stage: TrainingStage, command: str, options: dict[str, object]
) -> None:
    everything = discord.Permissions(administrator=True)
    role = stage.guild.create_role("Admins", permissions=everything)
    cat = stage.guild.add_member(stage.env.create_user("cat"), roles=[role])
    for rejected in (
        await cat.slash(stage.garden, f"train {command}", **options),
        await stage.ben.user.slash(f"train {command}", **options),
    ):
        assert rejected.ephemeral
        assert content_of(rejected) == REJECTIONS[Reason.NOT_OWNER]
    assert await stage.bard.runs.newest() == []
    assert not stage.env.errors


class Acknowledged:
    """Records whether an interaction was acknowledged when the database was first asked."""

    def __init__(self, stage: TrainingStage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.first: bool | None = None
        self._stage = stage
        database = stage.bard.runs._database
        recorder = Mock(wraps=database)
        recorder.run = partial(self._record, database.run)
        recorder.fetch = partial(self._record, database.fetch)
        recorder.change = partial(self._record, database.change)
        monkeypatch.setattr(stage.bard.runs, "_database", recorder)

    def _record(self, method: Callable[..., Any], *args: Any) -> Any:
        if self.first is None:
            paths = [request.path for request in self._stage.env.http_requests]
            self.first = paths[-1].endswith("/callback")
        return method(*args)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("start", {}),
        ("start", {"resume": True}),
        ("status", {}),
        ("history", {}),
        ("promote", {"run": 1}),
        ("promote", {"run": 1, "as": "marlowe"}),
        ("rollback", {}),
    ],
)
async def test_command_is_acknowledged_before_the_database_is_asked(
    stage: TrainingStage,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    options: dict[str, object],
) -> None:
    stage.start_runs_by_hand()
    acknowledged = Acknowledged(stage, monkeypatch)
    await stage.ann.slash(stage.garden, f"train {command}", **options)
    assert acknowledged.first


@pytest.mark.parametrize("label", ["Promote", "Discard"])
async def test_button_is_acknowledged_before_the_database_is_asked(
    stage: TrainingStage, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    stage.start_runs_by_hand()
    started = await stage.ann.slash(stage.garden, "train start", **LONG)
    await stage.end_run("finished", weights="noskgpt-0badcafe", loss=1.5)
    acknowledged = Acknowledged(stage, monkeypatch)
    await stage.ann.click(message_of(started), label=label)
    assert acknowledged.first


async def test_command_is_hidden_from_others_by_default(stage: TrainingStage) -> None:
    assert "train start" in stage.ann.available_commands(stage.garden)
    assert "train start" not in stage.ben.available_commands(stage.garden)
    commands = await stage.bot.tree.fetch_commands()
    (train,) = (command for command in commands if command.name == "train")
    assert train.default_member_permissions is not None
    assert train.default_member_permissions.value == 0


def stored_state() -> str:
    with closing(sqlite3.connect("var/bard.sqlite3")) as connection:
        ((state,),) = connection.execute("SELECT state FROM runs").fetchall()
    return str(state)


def files() -> list[str]:
    return [path.name for path in Path("var/runs/1").glob("weights.pth*")]


async def test_run_of_a_killed_bot_saves_a_checkpoint_and_is_resumed(
    weights: Path, corpus: Path
) -> None:
    async with Discord().running() as server, asyncio.timeout(300):
        start = ("-c", RUN_AT_LOOPBACK.format(port=server.port))
        settings = {"DISCORD_TOKEN": "right", "BARD_CORPUS": str(corpus)}
        async with bot_process(*start, weights=weights, **settings) as bot:
            await server.gateway.has_identified(1)
            asked = await server.slash("train start", minutes=30.0, preset="quick")
            await asked.says("Training loss")
            assert not files()
            bot.kill()
            await bot.wait()
        assert stored_state() == "running"
        while not files():  # noqa: ASYNC110 - it is another process's doing
            await asyncio.sleep(0.05)

        async with bot_process(*start, weights=weights, **settings) as bot:
            await server.gateway.has_identified(2)
            assert stored_state() == "interrupted"
            asked = await server.slash("train start", resume=True)
            assert "step 1 of" not in (await asked.says("Training loss")).text
            bot.send_signal(signal.SIGTERM)
            _, errors = await bot.communicate()
        assert bot.returncode == 0
        assert "Traceback" not in errors.decode()
        await asked.says("Run 1: interrupted")
        assert stored_state() == "interrupted"
        assert files() == ["weights.pth.run"]


TEXT = ("Hear me: the river runs to the sea, and the night is long.\n" * 400).encode()
GREEK = ("μῆνιν ἄειδε θεὰ Πηληϊάδεω Ἀχιλῆος\n" * 400).encode()


def style(result: InteractionResult, label: str) -> discord.ButtonStyle:
    (found,) = [
        item["style"]
        for row in message_of(result).components
        for item in row["components"]
        if item["label"] == label
    ]
    return discord.ButtonStyle(found)


@pytest.mark.usefixtures("_planned_steps")
async def test_own_text_starts_from_the_active_weights_and_shows_what_that_gains(
    stage: TrainingStage,
) -> None:
    old = stage.bard.inference.model.name
    started = await stage.ann.slash(
        stage.garden, "train start", minutes=1, corpus=("mine.txt", TEXT)
    )
    assert f"on mine.txt, from the weights {old}" in message_of(started).content
    await stage.first_step()
    await stage.env.advance_time(5)
    assert re.search(r"held-out loss .* before the run", message_of(started).content)
    await stage.run_ended()
    (run,) = await stage.bard.runs.newest()
    assert run.state == "finished"
    assert run.start_weights == run.old_weights == old
    assert run.loss is not None
    assert run.start_loss is not None
    assert run.start_loss == run.old_loss
    assert run.loss < run.start_loss
    shown = message_of(started).content
    assert f"{run.start_loss:.3f} before (weights {old}), {run.loss:.3f} after" in shown
    assert "lower, so better" in shown
    assert "Warning" not in shown
    assert style(started, "Promote") == discord.ButtonStyle.success
    assert f"started from {old}" in content_of(await stage.ann.slash(stage.garden, "train history"))
    files = [path.name for path in (stage.bard.settings.runs_path / "1").iterdir()]
    assert "start.pth" not in files
    assert not stage.env.errors


async def test_text_in_another_alphabet_starts_from_nothing_or_is_rejected(
    stage: TrainingStage,
) -> None:
    greek = {"corpus": ("iliad.txt", GREEK), "minutes": 30}
    rejected = await stage.ann.slash(
        stage.garden, "train start", **greek, start_from="active weights"
    )
    assert "characters that the active weights do not have" in content_of(rejected)
    assert " μ " in content_of(rejected)
    assert await stage.bard.runs.newest() == []
    started = await stage.ann.slash(stage.garden, "train start", **greek)
    assert (
        "on iliad.txt, from nothing. The active weights do not have" in message_of(started).content
    )
    await stage.first_step()
    await stage.ann.slash(stage.garden, "train cancel")
    await stage.run_ended()
    (run,) = await stage.bard.runs.newest()
    assert (run.state, run.start_weights, run.start_loss) == ("cancelled", None, None)
    assert not stage.env.errors


async def test_configured_corpus_starts_from_nothing_unless_asked(stage: TrainingStage) -> None:
    started = await stage.ann.slash(stage.garden, "train start", **LONG)
    assert "on the configured corpus, from nothing." in message_of(started).content
    await stage.ann.slash(stage.garden, "train cancel")
    await stage.run_ended()
    own = {"corpus": ("mine.txt", TEXT), "start_from": "nothing"}
    started = await stage.ann.slash(stage.garden, "train start", **LONG, **own)
    assert "on mine.txt, from nothing." in message_of(started).content
    await stage.ann.slash(stage.garden, "train cancel")
    await stage.run_ended()
    assert not stage.env.errors


async def test_too_short_a_run_is_rejected_with_the_shortest(stage: TrainingStage) -> None:
    started = await stage.ann.slash(stage.garden, "train start", minutes=0.1, preset="original")
    await stage.run_ended()
    assert re.search(
        r"0\.1 min is too short .* shortest sensible run here takes [\d.]+ min\b",
        message_of(started).content.replace("\\", ""),  # which keep it from formatting anything
    )
    (run,) = await stage.bard.runs.newest()
    assert run.state == "failed"
    assert not stage.env.errors


@pytest.mark.parametrize(
    "option",
    [
        {"minutes": 1},
        {"preset": "quick"},
        {"corpus": ("mine.txt", TEXT)},
        {"start_from": "nothing"},
    ],
)
async def test_resume_takes_no_other_option(
    stage: TrainingStage, option: dict[str, object]
) -> None:
    rejected = await stage.ann.slash(stage.garden, "train start", resume=True, **option)
    assert rejected.ephemeral
    (name,) = option
    assert f"leave out `{name}`" in content_of(rejected)
    assert not stage.env.errors
