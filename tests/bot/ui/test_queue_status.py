"""What is seen of a request that takes its time, and how it is stopped."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from simcord.results import InteractionResult, ResponseMessage

from bot.errors import Reason
from bot.rehearsal import DeclaredWait
from bot.ui.queue_status import AT_WORK, NOT_YOURS, STOPPED, TOO_LATE
from bot.ui.responses import REJECTIONS
from tests.bot.conftest import Stage, counted, said, text_of


class SlowStage(Stage):
    """A stage whose model works only while the gate is open, which the simulation knows of."""

    gate: threading.Event

    async def over(self) -> None:
        """Let the model work, and wait until nobody waits for it any more."""
        self.gate.set()
        if tasks := self.bard._tasks:
            _, waiting = await asyncio.wait(tasks, timeout=30)
            assert not waiting

    def hold(self) -> None:
        """Shut the gate for the model of the running bot."""
        self.gate = threading.Event()
        model = self.bard.inference.model
        generate = model.generate

        def gated(prompt: str, *args: Any, **options: Any) -> str:
            while not self.gate.wait(0.001) and not options["cancellation"]:
                pass
            return generate(prompt, *args, **options)

        model.generate = gated  # type: ignore[method-assign]

    def edits(self) -> int:
        return sum(r.path.endswith("/@original") for r in self.env.http_requests)


@pytest.fixture
async def slow(stage: Stage) -> AsyncIterator[SlowStage]:
    await stage.restart(DeclaredWait(stage.env))
    slow = SlowStage(**vars(stage))
    slow.hold()
    yield slow
    await slow.over()


def message(result: InteractionResult) -> ResponseMessage:
    assert result.response is not None
    return result.response


def labels(result: InteractionResult) -> list[str]:
    """Return the labels of an answer's buttons."""
    return [item["label"] for row in message(result).components for item in row["components"]]


async def test_says_nothing_for_two_seconds_then_where_it_stands(slow: SlowStage) -> None:
    result = await slow.ann.slash(slow.garden, "bard", prompt="ROMEO:", max_chars=20)
    await slow.env.advance_time(1.9)
    assert not message(result).content
    await slow.env.advance_time(0.2)
    assert message(result).content == AT_WORK
    assert labels(result) == ["Stop"]

    await slow.over()
    assert not message(result).content
    assert "Stop" not in labels(result)
    assert counted(result) <= 20
    edits = slow.edits()
    await slow.env.advance_time(60)
    assert slow.edits() == edits


async def test_place_in_line_is_brought_up_to_date_but_not_too_often(slow: SlowStage) -> None:
    places = [(slow.ann, slow.garden), (slow.ben, slow.garden), (slow.ann, slow.garden)]
    first, second, third = [
        await member.slash(channel, "bard", prompt=f"Act {name}", max_chars=20)
        for name, (member, channel) in zip("ABC", places, strict=True)
    ]
    await slow.env.advance_time(2.1)
    assert message(first).content == AT_WORK
    assert message(second).content.startswith("You are 1st in line.")
    assert message(third).content.startswith("You are 2nd in line.")
    assert labels(second) == ["Stop"]

    edits = slow.edits()
    stopped = await slow.ann.click(message(first), label="Stop")
    assert stopped.acknowledged
    assert message(first).content == STOPPED
    assert slow.edits() == edits + 1
    await slow.env.advance_time(1.0)
    assert message(second).content.startswith("You are 1st in line.")
    await slow.env.advance_time(0.3)
    assert message(second).content == AT_WORK
    assert message(third).content.startswith("You are 1st in line.")
    assert slow.edits() == edits + 3

    await slow.over()
    # The second goes on from nothing: the stopped one left nothing.
    assert slow.contexts[1] == "Act B"
    assert slow.contexts[2].startswith("Act B")
    assert slow.contexts[2].endswith("Act C")


async def test_stopped_at_work_keeps_nothing(slow: SlowStage) -> None:
    result = await slow.ben.slash(slow.garden, "bard", prompt="ROMEO:", max_chars=20)
    await slow.env.advance_time(2.1)
    await slow.ben.click(message(result), label="Stop")

    assert message(result).content == STOPPED
    assert not message(result).components
    assert await slow.bard.turns.scene(slow.garden.id) == 0
    await slow.over()
    again = await slow.ben.slash(slow.garden, "bard", prompt="JULIET:", max_chars=20)
    await slow.over()
    assert counted(again) <= 20
    assert slow.contexts[-1] == "JULIET:\n"


async def test_stopped_in_line(slow: SlowStage) -> None:
    first = await slow.ann.slash(slow.garden, "bard", prompt="ROMEO:", max_chars=20)
    second = await slow.ben.slash(slow.garden, "bard", prompt="JULIET:", max_chars=20)
    await slow.env.advance_time(2.1)
    await slow.ben.click(message(second), label="Stop")
    assert message(second).content == STOPPED
    await slow.over()
    assert counted(first) <= 20
    assert slow.contexts == ["ROMEO:\n"]


async def test_another_take_is_waited_for_beside_the_reply_and_can_be_stopped(
    slow: SlowStage,
) -> None:
    asked = await slow.ben.slash(slow.garden, "bard", prompt="ROMEO:", max_chars=20)
    await slow.over()
    reply, shown = message(asked), text_of(asked)
    slow.gate.clear()
    rerolled = await slow.ben.click(reply, label="Reroll")
    await slow.env.advance_time(2.1)
    word = rerolled.followups[-1]
    assert word.ephemeral
    assert word.content == AT_WORK
    assert text_of(asked) == shown
    await slow.ben.click(word, label="Stop")
    assert word.content == STOPPED
    assert text_of(asked) == shown
    assert "Reroll" in labels(asked)

    again = await slow.ben.click(reply, label="Reroll")
    await slow.env.advance_time(2.1)
    assert again.followups[-1].content == AT_WORK
    await slow.over()
    assert "Take 2 of 2" in text_of(asked)
    assert slow.contexts == ["ROMEO:\n"] * 3


async def test_a_moderator_may_stop_and_others_may_not(slow: SlowStage) -> None:
    anns = await slow.ann.slash(slow.garden, "bard", prompt="ROMEO:", max_chars=20)
    bens = await slow.ben.slash(slow.tavern, "bard", prompt="JULIET:", max_chars=20)
    await slow.env.advance_time(2.1)
    refused = await slow.ben.click(message(anns), label="Stop")
    assert refused.ephemeral
    assert said(refused) == NOT_YOURS
    assert message(anns).content == AT_WORK

    await slow.ann.click(message(bens), label="Stop")
    assert message(bens).content == STOPPED
    await slow.over()
    assert counted(anns) <= 20


async def test_stop_of_a_bot_that_was_started_anew_is_answered(slow: SlowStage) -> None:
    result = await slow.ann.slash(slow.garden, "bard", prompt="ROMEO:", max_chars=20)
    await slow.env.advance_time(2.1)
    await slow.restart(DeclaredWait(slow.env))
    late = await slow.ann.click(message(result), label="Stop")
    assert late.ephemeral
    assert said(late) == TOO_LATE


async def test_failure_takes_the_word_of_progress_away(slow: SlowStage) -> None:
    result = await slow.ann.slash(slow.garden, "scene continue")
    assert said(result)  # told at once, for nothing took its time

    def fail(*_args: object, **_options: object) -> str:
        assert slow.gate.wait(30)
        raise ZeroDivisionError

    slow.bard.inference.model.generate = fail  # type: ignore[method-assign]
    result = await slow.ann.slash(slow.garden, "bard", prompt="ROMEO:")
    await slow.env.advance_time(2.1)
    assert message(result).content == AT_WORK
    await slow.over()
    assert result.response is None
    (answer,) = result.followups
    assert answer.ephemeral
    assert "Error id" in answer.content
    assert not slow.env.errors


async def test_failure_after_the_reply_leaves_it_there(
    slow: SlowStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_args: object) -> None:
        raise sqlite3.OperationalError("disk full")

    result = await slow.ann.slash(slow.garden, "bard", prompt="ROMEO:", max_chars=20)
    await slow.env.advance_time(2.1)
    assert message(result).content == AT_WORK
    monkeypatch.setattr(slow.bard.turns, "show", fail)
    await slow.over()
    assert counted(result) <= 20
    assert "Error id" in said(result)
    assert not slow.env.errors


async def test_a_word_of_progress_that_cannot_be_said_harms_nothing(
    slow: SlowStage, caplog: pytest.LogCaptureFixture
) -> None:
    result = await slow.ann.slash(slow.garden, "bard", prompt="ROMEO:", max_chars=20)
    slow.env.inject_error("PATCH", "/webhooks/*/@original", status=404, code=10008)
    await slow.env.advance_time(2.1)
    assert "Could not show the status" in caplog.text
    await slow.over()
    assert counted(result) <= 20


async def test_leaving_a_server_stops_its_requests(slow: SlowStage) -> None:
    rose = slow.env.create_guild("The Rose")
    dan = rose.add_member(slow.env.create_user("dan"))
    await dan.slash(rose.create_text_channel("yard"), "bard", prompt="ROMEO:", max_chars=20)
    other = await slow.ann.slash(slow.garden, "bard", prompt="JULIET:", max_chars=20)
    left = slow.env.bot.get_guild(rose.id)
    assert left is not None
    await left.leave()
    await slow.env.settle()
    assert len(slow.bard._tasks) == 1
    await slow.over()
    assert counted(other) <= 20
    assert (await slow.bard.turns.statistics()).scenes == 1
    assert not slow.env.errors


async def test_third_request_of_a_person_is_refused_in_private(slow: SlowStage) -> None:
    for channel in (slow.garden, slow.tavern):
        await slow.ben.slash(channel, "bard", prompt="ROMEO:", max_chars=20)
    third = await slow.ben.slash(slow.garden, "bard", prompt="JULIET:", max_chars=20)
    assert third.ephemeral
    assert not third.deferred
    assert said(third) == REJECTIONS[Reason.TOO_MANY_REQUESTS]
    assert not slow.env.errors
    await slow.over()
    assert len(slow.contexts) == 2


@pytest.mark.settings(workers=1, queue=1)
async def test_full_house_is_told_in_private(slow: SlowStage) -> None:
    cat = slow.guild.add_member(slow.env.create_user("cat"))
    await slow.ann.slash(slow.garden, "bard", prompt="ROMEO:", max_chars=20)
    await slow.ben.slash(slow.tavern, "bard", prompt="ROMEO:", max_chars=20)
    third = await cat.slash(slow.garden, "bard", prompt="JULIET:", max_chars=20)
    assert third.ephemeral
    assert not third.deferred
    assert "full" in said(third)
    assert not slow.env.errors
