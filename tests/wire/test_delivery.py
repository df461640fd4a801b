"""Requests and answers that are lost or come twice: one request has one reply all the same."""

import pytest

from tests.wire.conftest import Scene, speech
from tests.wire.town import speeches

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOST = pytest.mark.parametrize("status", [502, None], ids=["502", "dropped"])
"""An answer is lost to an error of the proxy, or to a dropped connection."""


@LOST
async def test_answer_to_the_acknowledgement_is_lost(scene: Scene, status: int | None) -> None:
    scene.discord.faults.loses("POST callback", status)
    reply = await speech(await scene.ask("ROMEO:"))
    assert scene.seen(by=scene.ben) == [reply]
    assert await scene.read() == speeches(reply)


@LOST
async def test_answer_to_the_acknowledgement_of_a_button_is_lost(
    scene: Scene, status: int | None
) -> None:
    reply = await speech(await scene.ask("ROMEO:"))
    scene.discord.faults.loses("POST callback", status)
    again = await speech(await scene.press(reply, "Continue"))
    assert scene.seen(by=scene.ben) == [reply, again]


async def test_acknowledgement_fails_at_first(scene: Scene) -> None:
    scene.discord.faults.fails("POST callback", 502)
    reply = await speech(await scene.ask("ROMEO:"))
    assert scene.seen(by=scene.ben) == [reply]


@LOST
async def test_answer_to_the_reply_is_lost(scene: Scene, status: int | None) -> None:
    scene.discord.faults.loses("PATCH @original", status)
    reply = await speech(await scene.ask("ROMEO:"))
    again = await speech(await scene.press(reply, "Continue"))
    assert scene.seen(by=scene.ben) == [reply, again]
    assert await scene.read() == speeches(reply) + speeches(again)
    assert shown_turns(scene) == 2


async def test_reply_is_refused_after_its_answer_was_lost(scene: Scene) -> None:
    """The library repeats the request by itself, and tells the last answer alone."""
    scene.discord.faults.loses("PATCH @original", 502)
    scene.discord.faults.refuses("PATCH @original", 403, 50013)
    asked = await scene.ask("ROMEO:")
    reply = await speech(asked)
    again = await speech(await scene.press(reply, "Continue"))
    assert asked.messages() == [reply]
    assert scene.seen(by=scene.ben) == [reply, again]
    assert await scene.read() == speeches(reply) + speeches(again)


async def test_answer_to_another_take_is_lost(scene: Scene) -> None:
    reply = await speech(await scene.ask("ROMEO:"))
    scene.discord.faults.loses("PATCH @original")
    await speech(await scene.press(reply, "Reroll"))
    assert await scene.read() == speeches(reply)
    assert scene.seen(by=scene.ben)[:1] == [reply]


@LOST
async def test_answer_to_a_deletion_is_lost(scene: Scene, status: int | None) -> None:
    reply = await speech(await scene.ask("ROMEO:"))
    scene.discord.faults.loses("DELETE @original", status)
    await scene.press(reply, "Delete")
    await scene.discord.until(lambda: reply.deleted, "the message is deleted")
    again = await speech(await scene.ask("JULIET:"))
    assert await scene.read() == speeches(again)


async def test_limit_of_rate(scene: Scene) -> None:
    scene.discord.faults.limits("POST callback", times=2)
    scene.discord.faults.limits("PATCH @original", times=2)
    reply = await speech(await scene.ask("ROMEO:"))
    again = await speech(await scene.press(reply, "Continue"))
    assert scene.seen(by=scene.ben) == [reply, again]


async def test_interaction_that_came_too_late(scene: Scene) -> None:
    scene.discord.faults.refuses("POST callback", 404, 10062, times=3)
    for _ in range(3):  # more than one person may have in the queue
        late = await scene.ask("ROMEO:")
        await scene.first_response_was_answered(late)
    reply = await speech(await scene.ask("JULIET:"))
    assert scene.seen(by=scene.ben) == [reply]
    assert await scene.read() == speeches(reply)


async def test_command_comes_twice_at_once(scene: Scene) -> None:
    asked = await scene.ask("ROMEO:")
    await asked.repeat()
    reply = await speech(asked)
    again = await speech(await scene.ask("JULIET:"))  # waits for whatever the second one does
    assert scene.seen(by=scene.ben) == [reply, again]
    assert await scene.read() == speeches(reply) + speeches(again)


async def test_command_comes_again_after_its_reply(scene: Scene) -> None:
    asked = await scene.ask("ROMEO:")
    reply = await speech(asked)
    text = speeches(reply)
    assert await scene.read(by=scene.ann) == text  # the request is over
    await asked.repeat()
    again = await speech(await scene.ask("JULIET:"))
    assert scene.seen(by=scene.ben) == [reply, again]
    assert await scene.read() == text + speeches(again)


async def test_press_comes_twice_at_once(scene: Scene) -> None:
    reply = await speech(await scene.ask("ROMEO:"))
    pressed = await scene.press(reply, "Continue")
    await pressed.repeat()
    continued = await speech(pressed)
    again = await speech(await scene.ask("JULIET:"))
    assert scene.seen(by=scene.ben) == [reply, continued, again]
    assert await scene.read() == speeches(reply) + speeches(continued) + speeches(again)
    assert shown_turns(scene) == 3


async def test_deletion_comes_twice(scene: Scene) -> None:
    reply = await speech(await scene.ask("ROMEO:"))
    pressed = await scene.press(reply, "Delete")
    await pressed.repeat()
    await scene.discord.until(lambda: reply.deleted, "the message is deleted")
    again = await speech(await scene.ask("JULIET:"))
    assert scene.seen(by=scene.ben) == [again]
    assert await scene.read() == speeches(again)


def shown_turns(scene: Scene) -> int:
    """Return how many turns of the garden the database has as shown."""
    ((count,),) = scene.bot.rows(
        "SELECT count(*) FROM turns WHERE take IS NOT NULL"  # noqa: S608 - an id of this test
        f" AND channel_id = {scene.garden.id}"
    )
    return int(count)
