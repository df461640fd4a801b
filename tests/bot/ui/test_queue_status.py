"""The status of a slow request, and the button that stops it."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bot.core.settlement import Sighting
from bot.errors import Reason, RejectedError
from bot.languages import ENGLISH
from bot.rehearsal import DeclaredWait
from bot.storage.records import Place, Take, Turn
from bot.ui.looks import looks_of
from bot.ui.queue_status import AT_WORK, NOT_YOURS, STOPPED
from bot.ui.responses import REJECTIONS, rejection_text
from tests.bot.conftest import Stage, content_of, labels_of, message_of, reply_length, text_of


class GatedStage(Stage):
    """A stage whose model generates only while the gate is open; the clock knows of the wait."""

    gate: threading.Event

    async def finish(self) -> None:
        """Open the gate and wait until all requests have ended."""
        self.gate.set()
        if tasks := self.bard._tasks:
            _, pending = await asyncio.wait(tasks, timeout=30)
            assert not pending
        # The thread of a stopped request ends after the request.
        if threads := [asyncio.wrap_future(f) for f in self.bard.inference._threads._futures]:
            await asyncio.wait(threads, timeout=30)

    def close_gate(self) -> None:
        """Make the running bot's model wait for a new, closed gate."""
        self.gate = threading.Event()
        model = self.bard.inference.model
        generate = model.generate

        def gated(prompt: str, *args: Any, **options: Any) -> str:
            while not self.gate.wait(0.001) and not options["cancellation"]:
                pass
            return generate(prompt, *args, **options)

        model.generate = gated  # type: ignore[method-assign]

    def edits(self) -> int:
        """Return the number of edits of original responses."""
        return sum(r.path.endswith("/@original") for r in self.env.http_requests)


@pytest.fixture
async def stage(stage: Stage) -> AsyncIterator[GatedStage]:
    await stage.restart(DeclaredWait(stage.env))
    gated = GatedStage(**vars(stage))
    gated.close_gate()
    yield gated
    await gated.finish()
    if gated.bot is not stage.bot:
        await gated.bot.close()


async def test_status_is_shown_after_two_seconds_until_the_reply(stage: GatedStage) -> None:
    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    await stage.env.advance_time(1.9)
    assert not message_of(result).content
    await stage.env.advance_time(0.2)
    assert message_of(result).content == AT_WORK
    assert labels_of(message_of(result)) == ["Stop"]

    await stage.finish()
    assert not message_of(result).content
    assert "Stop" not in labels_of(message_of(result))
    assert reply_length(result) <= 20
    edits = stage.edits()
    await stage.env.advance_time(60)
    assert stage.edits() == edits


async def test_queue_position_is_updated_at_the_edit_interval(stage: GatedStage) -> None:
    senders = [(stage.ann, stage.garden), (stage.ben, stage.garden), (stage.ann, stage.garden)]
    first, second, third = [
        await member.slash(channel, "bard", prompt=f"Act {name}", max_chars=20)
        for name, (member, channel) in zip("ABC", senders, strict=True)
    ]
    await stage.env.advance_time(2.1)
    assert message_of(first).content == AT_WORK
    assert message_of(second).content.startswith("You are 1st in line.")
    assert message_of(third).content.startswith("You are 2nd in line.")
    assert labels_of(message_of(second)) == ["Stop"]

    edits = stage.edits()
    stopped = await stage.ann.click(message_of(first), label="Stop")
    assert stopped.acknowledged
    assert message_of(first).content == STOPPED
    assert stage.edits() == edits + 1
    await stage.env.advance_time(1.0)
    assert message_of(second).content.startswith("You are 1st in line.")
    await stage.env.advance_time(0.3)
    assert message_of(second).content == AT_WORK
    assert message_of(third).content.startswith("You are 1st in line.")
    assert stage.edits() == edits + 3

    await stage.finish()
    # The stopped request is not in the context of the second.
    assert stage.contexts[1] == "Act B"
    assert stage.contexts[2].startswith("Act B")
    assert stage.contexts[2].endswith("Act C")


async def test_stop_while_generating_stores_nothing(stage: GatedStage) -> None:
    result = await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    await stage.env.advance_time(2.1)
    await stage.ben.click(message_of(result), label="Stop")

    assert message_of(result).content == STOPPED
    assert not message_of(result).components
    assert await stage.scene(stage.garden.id) == 0
    await stage.finish()
    again = await stage.ben.slash(stage.garden, "bard", prompt="JULIET:", max_chars=20)
    await stage.finish()
    assert reply_length(again) <= 20
    assert stage.contexts[-1] == "JULIET:\n"


async def test_stop_while_waiting(stage: GatedStage) -> None:
    first = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    second = await stage.ben.slash(stage.garden, "bard", prompt="JULIET:", max_chars=20)
    await stage.env.advance_time(2.1)
    await stage.ben.click(message_of(second), label="Stop")
    assert message_of(second).content == STOPPED
    await stage.finish()
    assert reply_length(first) <= 20
    assert stage.contexts == ["ROMEO:\n"]


async def test_reroll_has_its_status_in_a_followup_and_can_be_stopped(
    stage: GatedStage,
) -> None:
    result = await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    await stage.finish()
    reply, before = message_of(result), text_of(result)
    stage.gate.clear()
    rerolled = await stage.ben.click(reply, label="Reroll")
    await stage.env.advance_time(2.1)
    status = rerolled.followups[-1]
    assert status.ephemeral
    assert status.content == AT_WORK
    assert text_of(result) == before
    await stage.ben.click(status, label="Stop")
    assert status.content == STOPPED
    assert text_of(result) == before
    assert "Reroll" in labels_of(message_of(result))

    again = await stage.ben.click(reply, label="Reroll")
    await stage.env.advance_time(2.1)
    assert again.followups[-1].content == AT_WORK
    await stage.finish()
    assert "Take 2 of 2" in text_of(result)
    assert stage.contexts == ["ROMEO:\n"] * 3


async def test_only_the_requester_and_moderators_may_stop(stage: GatedStage) -> None:
    anns = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    bens = await stage.ben.slash(stage.tavern, "bard", prompt="JULIET:", max_chars=20)
    await stage.env.advance_time(2.1)
    rejected = await stage.ben.click(message_of(anns), label="Stop")
    assert rejected.ephemeral
    assert content_of(rejected) == NOT_YOURS
    assert message_of(anns).content == AT_WORK

    await stage.ann.click(message_of(bens), label="Stop")
    assert message_of(bens).content == STOPPED
    await stage.finish()
    assert reply_length(anns) <= 20


async def test_request_that_a_shutdown_cancels_is_told(stage: GatedStage) -> None:
    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    await stage.env.advance_time(2.1)
    await stage.restart(DeclaredWait(stage.env))
    assert content_of(result) == REJECTIONS[Reason.CLOSING]
    assert not labels_of(message_of(result))


async def test_failure_deletes_the_status(stage: GatedStage) -> None:
    result = await stage.ann.slash(stage.garden, "scene continue")
    assert content_of(result)  # rejected immediately, without a status

    def fail(*_args: object, **_options: object) -> str:
        assert stage.gate.wait(30)
        raise ZeroDivisionError

    stage.bard.inference.model.generate = fail  # type: ignore[method-assign]
    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:")
    await stage.env.advance_time(2.1)
    assert message_of(result).content == AT_WORK
    await stage.finish()
    assert result.response is None
    (error,) = result.followups
    assert error.ephemeral
    assert "Error id" in error.content
    assert not stage.env.errors


async def test_failure_after_the_reply_keeps_it(
    stage: GatedStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_args: object) -> None:
        raise sqlite3.OperationalError("disk full")

    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    await stage.env.advance_time(2.1)
    assert message_of(result).content == AT_WORK
    monkeypatch.setattr(stage.bard.turns, "show", fail)
    await stage.finish()
    assert reply_length(result) <= 20
    assert "Error id" in content_of(result)
    assert not stage.env.errors


async def test_status_is_not_taken_for_a_reply(stage: GatedStage) -> None:
    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    await stage.env.advance_time(2.1)
    look, message_id = looks_of(stage.bot), message_of(result).id
    place = Place(guild_id=stage.guild.id, channel_id=stage.garden.id)
    turn = Turn(
        id=1,
        place=place,
        user_id=stage.ann.id,
        scene=1,
        prompt="ROMEO:",
        max_chars=20,
        temperature=0.8,
        message_id=message_id,
        shown=None,
        intent=1,
        token=None,
        number=1,
        take=Take(reply="O.", seed=1, weights="w", seconds=1.0),
        takes=1,
    )
    assert labels_of(message_of(result)) == ["Stop"]
    assert await look(turn) == Sighting(None)
    await stage.finish()
    (shown,) = await stage.turns(stage.garden.id, 1)
    assert await look(turn) == Sighting(shown.reply)


async def test_failed_status_edit_does_not_affect_the_reply(
    stage: GatedStage, caplog: pytest.LogCaptureFixture
) -> None:
    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    stage.env.inject_error("PATCH", "/webhooks/*/@original", status=404, code=10008)
    await stage.env.advance_time(2.1)
    assert "Could not show the status" in caplog.text
    await stage.finish()
    assert reply_length(result) <= 20


async def test_leaving_a_server_stops_its_requests(stage: GatedStage) -> None:
    rose = stage.env.create_guild("The Rose")
    dan = rose.add_member(stage.env.create_user("dan"))
    await dan.slash(rose.create_text_channel("yard"), "bard", prompt="ROMEO:", max_chars=20)
    other = await stage.ann.slash(stage.garden, "bard", prompt="JULIET:", max_chars=20)
    left = stage.env.bot.get_guild(rose.id)
    assert left is not None
    await left.leave()
    await stage.env.settle()
    assert len(stage.bard._tasks) == 1
    await stage.finish()
    assert reply_length(other) <= 20
    assert (await stage.bard.statistics.read()).scenes == 1
    assert not stage.env.errors


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "runs"])
@pytest.mark.parametrize(
    "reason", [Reason.BLOCKED, Reason.ROLE_DENIED, Reason.WRONG_CHANNEL], ids=lambda r: r.name
)
async def test_rules_that_change_bind_a_request_that_is_not_answered_yet(
    stage: GatedStage, reason: Reason, *, waits: bool
) -> None:
    banished = stage.guild.create_role("Banished")
    stage.env.backend.get_member(stage.guild.id, stage.ben.id).role_ids[:] = [banished.id]
    before = []
    if waits:
        before = [await stage.ann.slash(stage.garden, "bard", prompt="JULIET:", max_chars=20)]
    result = await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    await stage.env.advance_time(2.1)
    settings, guild_id = stage.bard.guild_settings, stage.guild.id
    match reason:
        case Reason.BLOCKED:
            await stage.bard.shared_blocks.block(stage.ben.id)
        case Reason.ROLE_DENIED:
            await settings.change(guild_id, denied_roles=frozenset({banished.id}))
        case _:
            await settings.change(guild_id, channels=frozenset({stage.tavern.id}))
    await stage.finish()
    refused = result.followups[-1]
    details = {"channels": frozenset({stage.tavern.id})}
    assert refused.content == rejection_text(RejectedError(reason, **details), ENGLISH)
    assert refused.ephemeral
    shown = [] if reason is Reason.WRONG_CHANNEL else before
    assert len(await stage.turns(stage.garden.id, 1)) == len(shown)
    assert not [prompt for prompt in stage.contexts if waits and "ROMEO" in prompt]


async def test_restricted_buttons_bind_a_press_that_waits(stage: GatedStage) -> None:
    reply = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    await stage.finish()
    stage.gate.clear()
    results = [
        await member.click(message_of(reply), label="Continue") for member in (stage.ben,) * 2
    ]
    await stage.env.advance_time(2.1)
    await stage.bard.guild_settings.change(stage.guild.id, buttons="asker")
    await stage.finish()
    for result in results:
        assert result.followups[-1].content == REJECTIONS[Reason.BUTTONS_RESTRICTED]
        assert result.followups[-1].ephemeral
    assert len(await stage.turns(stage.garden.id, 1)) == 1


async def test_third_request_of_a_person_is_rejected(
    stage: GatedStage,
) -> None:
    for channel in (stage.garden, stage.tavern):
        await stage.ben.slash(channel, "bard", prompt="ROMEO:", max_chars=20)
    third = await stage.ben.slash(stage.garden, "bard", prompt="JULIET:", max_chars=20)
    assert third.ephemeral
    assert not third.deferred
    assert content_of(third) == REJECTIONS[Reason.TOO_MANY_REQUESTS]
    assert not stage.env.errors
    await stage.finish()
    assert len(stage.contexts) == 2


@pytest.mark.settings(workers=1, queue=1)
async def test_full_queue_rejects_with_an_ephemeral_response(stage: GatedStage) -> None:
    cat = stage.guild.add_member(stage.env.create_user("cat"))
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    await stage.ben.slash(stage.tavern, "bard", prompt="ROMEO:", max_chars=20)
    third = await cat.slash(stage.garden, "bard", prompt="JULIET:", max_chars=20)
    assert third.ephemeral
    assert not third.deferred
    assert "full" in content_of(third)
    assert not stage.env.errors
