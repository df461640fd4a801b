"""The double's gateway: sessions, their events, and what ends them."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.wire.app import INTENTS, App, message
from tests.wire.gateway import Intent
from tests.wire.server import Discord
from tests.wire.state import APPLICATION_ID


@pytest.fixture
async def app() -> AsyncIterator[App]:
    """A client with commands and without a session."""
    async with Discord().running() as discord, aiohttp.ClientSession() as session:
        app = App(discord, session)
        await app.start()
        yield app


async def test_session_begins_with_the_servers(app: App) -> None:
    guild = await app.discord.guild("The Globe")
    place = await app.discord.channel(guild, "garden")
    await app.discord.channel(guild, "thread", parent=place)
    await app.discord.guild("Elsewhere", installed=False)
    socket = await app.identify()
    ready = await socket.event("READY")
    assert ready["guilds"] == [{"id": guild.id, "unavailable": True}]
    created = await socket.event("GUILD_CREATE")
    assert [channel["name"] for channel in created["channels"]] == ["garden"]
    assert [thread["name"] for thread in created["threads"]] == ["thread"]


@pytest.mark.parametrize(
    ("intents", "token", "code"),
    [
        (INTENTS, "wrong", 4004),
        (INTENTS | Intent.MESSAGE_CONTENT, None, 4014),
        (-1, None, 4013),
        (1 << 40, None, 4013),
    ],
)
async def test_refused_identification(app: App, intents: int, token: str | None, code: int) -> None:
    socket = await app.identify(intents, token)
    assert await socket.close_code() == code


@pytest.mark.parametrize(
    ("opcode", "data", "code"), [(8, {}, 4003), (99, {}, 4001), (1, "x" * 5000, 4002)]
)
async def test_refused_message(app: App, opcode: int, data: object, code: int) -> None:
    socket = await app.connect()
    await socket.send(opcode, data)
    assert await socket.close_code() == code
    assert app.discord.violations


async def test_second_identification(app: App) -> None:
    await app.socket.send(2, {"token": app.discord.token, "intents": 0, "properties": {}})
    assert await app.socket.close_code() == 4005


async def test_heartbeats(app: App) -> None:
    await app.socket.send(1, app.socket.sequence)
    assert (await app.socket.receive())["op"] == 11
    app.discord.gateway.acknowledges = False
    await app.socket.send(1, app.socket.sequence)
    await app.discord.until(lambda: app.discord.gateway.heartbeats == 2, "two heartbeats")
    await app.discord.guild("The Globe")
    assert (await app.socket.receive())["t"] == "GUILD_CREATE"
    await app.socket.send(1, 1000)
    assert await app.socket.close_code() == 4007


async def test_missed_events_are_replayed(app: App) -> None:
    session = app.discord.gateway.session
    assert session is not None
    first = await app.discord.slash("say")
    app.discord.gateway.drop()
    await app.discord.gateway.has_closed(1)
    second = await app.discord.slash("say")
    socket = await app.connect()
    await socket.send(6, {"token": app.discord.token, "session_id": session.id, "seq": 1})
    ids = [(await socket.event("INTERACTION_CREATE"))["id"] for _ in range(2)]
    assert ids == [first.interaction.id, second.interaction.id]
    await socket.event("RESUMED")
    third = await app.discord.slash("say")
    assert (await socket.event("INTERACTION_CREATE"))["id"] == third.interaction.id
    assert socket.sequence == 5


@pytest.mark.parametrize("code", [1000, 1001])
async def test_client_that_leaves_ends_its_session(app: App, code: int) -> None:
    session = app.discord.gateway.session
    assert session is not None
    await app.socket.close(code)
    await app.discord.gateway.has_closed(1)
    socket = await app.connect()
    await socket.send(6, {"token": app.discord.token, "session_id": session.id, "seq": 1})
    assert await socket.receive() == {"op": 9, "d": False}


async def test_session_ends_or_stays_with_a_code_of_the_server(app: App) -> None:
    for code, opcode in ((4000, 0), (4009, 9)):
        socket = await app.identify()
        await socket.event("READY")
        session = app.discord.gateway.session
        assert session is not None
        await app.discord.gateway.close(code)
        assert await socket.close_code() == code
        again = await app.connect()
        await again.send(6, {"token": app.discord.token, "session_id": session.id, "seq": 1})
        assert (await again.receive())["op"] == opcode


async def test_invalid_sequence(app: App) -> None:
    session = app.discord.gateway.session
    assert session is not None
    socket = await app.connect()
    await socket.send(6, {"token": app.discord.token, "session_id": session.id, "seq": 99})
    assert await socket.close_code() == 4007


async def test_requests_to_reconnect(app: App) -> None:
    gateway = app.discord.gateway
    await gateway.ask_to_reconnect()
    assert (await app.socket.receive())["op"] == 7
    await gateway.invalidate(resumable=True)
    assert await app.socket.receive() == {"op": 9, "d": True}
    await gateway.invalidate(resumable=False)
    assert await app.socket.receive() == {"op": 9, "d": False}


async def test_own_messages_are_events_unless_private(app: App) -> None:
    guild = await app.discord.guild("The Globe")
    garden = await app.discord.channel(guild, "garden")
    asked = await app.discord.slash("say", at=garden)
    await app.respond(asked, 4, message("Psst.", flags=64))
    await app.call("POST message", message("Hey."), channel=garden.id)
    created = await app.socket.event("MESSAGE_CREATE")
    assert (created["content"], created["guild_id"]) == ("Hey.", guild.id)
    await app.call("PATCH message", message("Ho."), channel=garden.id, message=created["id"])
    assert (await app.socket.event("MESSAGE_UPDATE"))["content"] == "Ho."
    await app.call("DELETE message", channel=garden.id, message=created["id"])
    assert (await app.socket.event("MESSAGE_DELETE"))["id"] == created["id"]


async def test_content_of_messages_that_concern_the_bot(app: App) -> None:
    ann, discord = app.discord.owner, app.discord
    garden = await discord.channel(await discord.guild("The Globe"), "garden")
    asked = await discord.slash("say", at=garden)
    await app.respond(asked, 4, message("Well."))
    response = await asked.reply()
    own = discord.world.messages[
        (await app.call("POST message", message("Hey."), channel=garden.id)).body["id"]
    ]
    for _ in ("the response", "the message"):
        await app.socket.event("MESSAGE_CREATE")
    for said, content, mentioned in (
        (await discord.say("Hm.", by=ann, at=garden), "", False),
        (await discord.say("@Bard Hm.", by=ann, at=garden), f"<@{APPLICATION_ID}> Hm.", True),
        (await discord.say("Hm.", by=ann, at=garden, answers=own), "Hm.", True),
        (await discord.say("Hm.", by=ann, at=garden, answers=own, notifies=False), "", False),
        (await discord.say("Hm.", by=ann, at=garden, answers=response), "", False),
        (await discord.say("Hm.", by=ann, at=discord.direct(ann)), "Hm.", False),
    ):
        event = await app.socket.event("MESSAGE_CREATE")
        assert (event["id"], event["content"]) == (said.id, content)
        assert [user["id"] for user in event["mentions"]] == [APPLICATION_ID] * mentioned
        if said.answers is not None:
            assert event["referenced_message"]["id"] == said.answers.id


async def test_intents_decide_what_is_sent(app: App) -> None:
    socket = await app.identify(Intent.DIRECT_MESSAGES)
    await socket.event("READY")
    garden = await app.discord.channel(await app.discord.guild("The Globe"), "garden")
    await app.call("POST message", message("In public."), channel=garden.id)
    await app.discord.delete_channel(garden)
    direct = app.discord.direct(app.discord.owner)
    await app.call("POST message", message("To you."), channel=direct.id)
    payload = await socket.receive()
    assert (payload["t"], payload["d"]["content"]) == ("MESSAGE_CREATE", "To you.")


async def test_places_that_go(app: App) -> None:
    guild = await app.discord.guild("The Globe")
    garden = await app.discord.channel(guild, "garden")
    thread = await app.discord.channel(guild, "thread", parent=garden)
    posted = [app.discord.post(app.discord.owner, garden, text) for text in ("A", "B", "C")]
    await app.discord.delete_message(posted[0])
    assert (await app.socket.event("MESSAGE_DELETE"))["id"] == posted[0].id
    await app.discord.delete_messages(posted[1:])
    deleted = await app.socket.event("MESSAGE_DELETE_BULK")
    assert deleted["ids"] == [posted[1].id, posted[2].id]
    await app.discord.delete_channel(thread)
    assert (await app.socket.event("THREAD_DELETE"))["id"] == thread.id
    await app.discord.delete_channel(garden)
    assert (await app.socket.event("CHANNEL_DELETE"))["id"] == garden.id
    await app.discord.leave(guild)
    assert await app.socket.event("GUILD_DELETE") == {"id": guild.id}
