"""`/train` as the bot's owner uses it: real, short runs in child processes."""

import asyncio
import os
import re
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest
from simcord.results import InteractionResult, ResponseMessage

from bot import Settings
from bot.live_message import OWNERS_ONLY
from bot.rehearsal import DeclaredWait
from bot.runs import UNDER_WAY
from tests.bot.conftest import Stage, said, text_of

QUICK = {"minutes": 0.1, "preset": "quick"}
LONG = {"minutes": 30, "preset": "quick"}


class School(Stage):
    """A stage whose bot Ann owns, and on which child processes are waited for."""

    def own(self) -> None:
        self.bot.owner_ids = {self.ann.id}

    async def restart(self) -> None:
        await super().restart()
        self.bot.wait = DeclaredWait(self.env)

    async def until(self, condition: Callable[[], object]) -> None:
        """Let real time pass until something holds."""
        async with asyncio.timeout(90):
            while not condition():
                await asyncio.sleep(0.02)
        await self.env.settle()

    async def at_work(self) -> int:
        """Wait until the run has told of a step; return the child's id."""
        training = self.bot.training
        await self.until(lambda: training.live is None or training.live.progress is not None)
        assert training.live is not None
        return training.live.process.pid

    async def over(self) -> None:
        """Wait until the run has ended and its message says so."""
        await self.until(lambda: not self.bot.watching)
        assert self.bot.training.live is None


@pytest.fixture
async def school(stage: Stage) -> AsyncIterator[School]:
    school = School(**vars(stage))
    school.bot.wait = DeclaredWait(school.env)
    await school.env.restart_bot()
    school.listen()
    school.own()
    yield school
    await school.bot.training.close()


def message(result: InteractionResult) -> ResponseMessage:
    assert result.response is not None
    return result.response


def labels(result: InteractionResult) -> list[str]:
    return [item["label"] for row in message(result).components for item in row["components"]]


async def test_from_start_to_promoted_and_rolled_back(school: School, settings: Settings) -> None:
    old = school.bot.generation.model.name
    started = await school.ann.slash(school.garden, "train start", **QUICK)
    assert "I am opening my books" in message(started).content
    await school.at_work()
    await school.env.advance_time(5)
    assert re.search(r"`\[#*-*\]` \d+%: step 1 of \d+", message(started).content)
    during = await school.ben.slash(school.garden, "bard", prompt="ROMEO:", max_chars=20)
    assert f"weights {old}" in text_of(during)

    await school.over()
    shown = message(started)
    assert "Run 1: finished" in shown.content
    assert "was not measured on this text" in shown.content
    assert [item.filename for item in shown.message.attachments] == ["losses.png"]
    assert labels(started) == ["Promote", "Discard"]
    (run,) = await school.bot.runs.newest()
    assert run.weights is not None
    assert run.weights in shown.content
    assert run.loss is not None

    pressed = await school.ann.click(shown, label="Promote")
    assert pressed.acknowledged
    assert f"I speak with these weights, {run.weights}" in message(started).content
    assert labels(started) == []
    after = await school.ben.slash(school.garden, "bard", prompt="JULIET:", max_chars=20)
    assert f"weights {run.weights}" in text_of(after)

    await school.restart()
    school.own()
    after = await school.ben.slash(school.garden, "bard", prompt="NURSE:", max_chars=20)
    assert f"weights {run.weights}" in text_of(after)
    listed = await school.ann.slash(school.garden, "train history")
    assert "**speaks now**" in said(listed)

    back = await school.ann.slash(school.garden, "train rollback")
    assert old in said(back)
    after = await school.ben.slash(school.garden, "bard", prompt="TYBALT:", max_chars=20)
    assert f"weights {old}" in text_of(after)
    again = await school.ann.slash(school.garden, "train rollback")
    assert "no step back" in said(again)
    with closing(sqlite3.connect(settings.database)) as connection:
        rows = connection.execute(
            "SELECT run_id, user_id, withdrawn_by FROM promotions"
        ).fetchall()
    assert rows == [(1, school.ann.id, school.ann.id)]
