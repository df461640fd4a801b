"""The gateway breaks off, and says what no library knows: each request is answered once."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.wire.conftest import Scene, new_scene, speech
from tests.wire.process import BotProcess
from tests.wire.server import Discord
from tests.wire.town import speeches

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def drop(discord: Discord) -> None:
    discord.gateway.drop()


async def ask_to_reconnect(discord: Discord) -> None:
    await discord.gateway.ask_to_reconnect()


async def invalidate(discord: Discord) -> None:
    await discord.gateway.invalidate(resumable=True)


async def close_unknown(discord: Discord) -> None:
    await discord.gateway.close(4000)


async def close_going_away(discord: Discord) -> None:
    await discord.gateway.close(1001)


@pytest.mark.parametrize(
    "interrupt", [drop, ask_to_reconnect, invalidate, close_unknown, close_going_away]
)
async def test_request_during_an_interruption_is_answered_once(
    scene: Scene, interrupt: Callable[[Discord], Awaitable[None]]
) -> None:
    gateway = scene.discord.gateway
    before = await speech(await scene.ask("NURSE:"))
    resumed, closed = gateway.resumed, len(gateway.closed)
    await interrupt(scene.discord)
    await gateway.has_closed(closed + 1)
    during = await speech(await scene.ask("ROMEO:"))  # arrives when the session is resumed
    assert gateway.resumed == resumed + 1
    after = await speech(await scene.press(during, "Continue"))
    assert scene.seen() == [before, during, after]
    assert await scene.read() == [
        text for message in (before, during, after) for text in speeches(message)
    ]


async def test_session_that_is_gone(scene: Scene) -> None:
    gateway = scene.discord.gateway
    reply = await speech(await scene.ask("NURSE:"))
    identified = gateway.identified
    await gateway.invalidate(resumable=False)
    await gateway.has_identified(identified + 1)
    again = await speech(await scene.press(reply, "Continue"))
    assert scene.seen() == [reply, again]
    assert len(scene.discord.sent("PUT commands")) == 1


async def test_reply_while_the_gateway_is_away(scene: Scene) -> None:
    held = scene.discord.faults.holds("PATCH @original")
    asked = await scene.ask("ROMEO:")
    await scene.discord.struck(held)
    resumed = scene.discord.gateway.resumed
    scene.discord.gateway.drop()
    await scene.discord.gateway.has_resumed(resumed + 1)
    held.release()
    reply = await speech(asked)
    await speech(await scene.press(reply, "Continue"))


async def test_events_that_no_library_knows(scene: Scene) -> None:
    gateway = scene.discord.gateway
    await gateway.send("VOICE_CHANNEL_STATUS_UPDATE", {"id": scene.garden.id, "status": None})
    await gateway.send("SOMETHING_NEW", {})
    await gateway.send_raw({"op": 77, "d": {}})
    await speech(await scene.ask("ROMEO:"))


@pytest.mark.parametrize(
    ("event", "data"),
    [("MESSAGE_DELETE", {}), ("INTERACTION_CREATE", {"id": "1"}), ("MESSAGE_DELETE_BULK", {})],
)
async def test_event_that_the_library_cannot_parse(
    scene: Scene, event: str, data: dict[str, object]
) -> None:
    gateway = scene.discord.gateway
    identified = gateway.identified
    await gateway.send(event, data)
    await gateway.has_identified(identified + 1)  # the bot connects again
    await speech(await scene.ask("ROMEO:"))


async def test_deletions_by_others(scene: Scene) -> None:
    discord = scene.discord
    replies = [await speech(await scene.ask(prompt)) for prompt in ("A:", "B:", "C:", "D:")]
    await discord.delete_message(replies[0])
    await discord.delete_messages(replies[2:])
    again = await speech(await scene.ask("E:"))
    assert await scene.read() == speeches(replies[1]) + speeches(again)


SHORT_HEARTBEAT_TIMEOUT = """
from discord.state import ConnectionState
init = ConnectionState.__init__
def impatient(self, *args, **options):
    init(self, *args, **{**options, "heartbeat_timeout": 1.0})
ConnectionState.__init__ = impatient
"""
"""discord.py waits a minute; a test does not."""


async def test_heartbeats_are_not_acknowledged(weights: Path, tmp_path: Path) -> None:
    async with Discord().running() as discord:
        gateway = discord.gateway
        gateway.heartbeat_seconds = 0.25
        bot = BotProcess(discord, tmp_path, weights, first=SHORT_HEARTBEAT_TIMEOUT)
        try:
            await bot.start()
            async with new_scene(discord, bot) as scene:
                reply = await speech(await scene.ask("ROMEO:"))
                gateway.acknowledges = False
                await gateway.has_closed(1)
                gateway.acknowledges = True
                again = await speech(await scene.press(reply, "Continue"))
                assert gateway.resumed >= 1
                assert gateway.identified == 1
                assert scene.seen() == [reply, again]
        finally:
            await bot.close()


NETWORK_FAILS = """
from discord.state import ConnectionState
def fail(self, data):
    raise ConnectionResetError("Cannot read from the connection")
ConnectionState.parse_network_fails = fail
"""
"""The connection fails at an event of this name, as it does to a library that reads from it."""


async def test_request_after_a_failure_of_the_network_is_answered_once(
    weights: Path, tmp_path: Path
) -> None:
    async with Discord().running() as discord:
        bot = BotProcess(discord, tmp_path, weights, first=NETWORK_FAILS)
        try:
            await bot.start()
            async with new_scene(discord, bot) as scene:
                gateway, identified = discord.gateway, discord.gateway.identified
                await gateway.send("NETWORK_FAILS", {})
                reply = await speech(await scene.ask("ROMEO:"))  # when the session is resumed
                assert (gateway.resumed, gateway.identified) == (1, identified)
                assert scene.seen() == [reply]
        finally:
            await bot.close()
