"""The status of a request that waits never outlives the request without an explanation."""

import asyncio
import copy

import pytest

from bot.ui.queue_status import OVER, TOO_LATE
from tests.wire.conftest import Scene, speech
from tests.wire.faults import When
from tests.wire.people import Exchange
from tests.wire.state import Message

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def status(asked: Exchange) -> Message:
    """Wait for the status of a request."""

    def shown() -> Message | None:
        return next((message for message in asked.messages() if "Stop" in message.labels), None)

    return await asked.until(shown, "a status")


@pytest.mark.parametrize("answer", [200, None], ids=["page of HTML", "dropped"])
async def test_reply_is_shown_though_the_answer_to_its_status_was_lost(
    scene: Scene, answer: int | None
) -> None:
    scene.bot.lines.clear()
    scene.discord.faults.loses("PATCH @original", answer)
    asked = await scene.ask_at_the_gate()
    await status(asked)
    await scene.bot.logged("Could not show the status of a request")
    scene.open_gate()
    reply = await speech(asked)
    assert scene.seen() == [reply]
    assert not [line for line in scene.bot.lines if "never retrieved" in line]


async def test_status_whose_request_is_over_explains_itself(scene: Scene) -> None:
    asked = await scene.ask_at_the_gate()
    scene.open_gate()
    reply = await speech(asked)
    # The bot does not get to know the message, so it cannot delete it.
    scene.discord.faults.loses("POST followup")
    (scene.bot.folder / "gate").unlink()
    rerolled = await scene.press(reply, "Reroll")
    leftover = await status(rerolled)
    scene.open_gate()
    await scene.discord.until(lambda: "Take 2 of 2" in reply.text, "another take")
    await scene.read()  # the request is over
    pressed = await scene.press(leftover, "Stop")
    await pressed.says(OVER)
    assert leftover.labels == []
    assert "Take 2 of 2" in reply.text


async def test_stop_that_comes_after_the_reply_leaves_it(scene: Scene) -> None:
    asked = await scene.ask_at_the_gate()
    stale = copy.copy(await status(asked))
    scene.open_gate()
    reply = await speech(asked)
    await scene.read()  # the request is over
    look = scene.discord.faults.holds("GET @original", When.BEFORE)
    pressed = await scene.press(stale, "Stop")
    await scene.discord.struck(look)
    pressed.interaction.response = reply
    look.release()
    await pressed.private(TOO_LATE)
    assert reply.labels == ["Continue", "Reroll", "Edit prompt", "Delete"]


async def test_token_expires_while_a_reply_is_generated(scene: Scene) -> None:
    asked = await scene.ask_at_the_gate()
    leftover = await status(asked)
    scene.discord.clock.advance(15 * 60 + 1)
    scene.open_gate()
    await scene.bot.logged("Discord no longer knows an interaction: 401")
    assert leftover.labels == ["Stop"]
    await (await scene.press(leftover, "Stop")).says(OVER)
    assert leftover.labels == []
    assert await scene.read() == []
    await speech(await scene.ask("ROMEO:"))


async def test_channel_is_deleted_while_a_reply_is_generated(scene: Scene) -> None:
    scene.bot.lines.clear()
    tavern = await scene.discord.channel(scene.guild, "tavern")
    before = await speech(await scene.ask("ROMEO:", at=tavern))
    assert before.place is tavern
    await scene.ask_at_the_gate(at=tavern)
    await scene.discord.delete_channel(tavern)
    query = f"SELECT 1 FROM turns WHERE channel_id = {tavern.id}"  # noqa: S608 - its id
    async with asyncio.timeout(60):
        # The deletion does not wait for the turn in progress.
        while scene.bot.rows(query):  # noqa: ASYNC110 - another process deletes them
            await asyncio.sleep(0.01)
    scene.open_gate()
    await scene.bot.logged("Could not change the status of a request: 404")
    await speech(await scene.ask("JULIET:"))
    assert not scene.bot.rows(query)
    assert not [line for line in scene.bot.lines if "Traceback" in line]
