"""The real client's HTTP and gateway against the double of Discord, in the process of the tests."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import discord
import pytest
import yarl
from aiohttp import web
from discord.backoff import ExponentialBackoff

from bot import BardClient, Settings, connection, create_bot
from bot.cogs import COMMANDS
from bot.errors import Reason
from bot.storage.records import Place
from bot.ui.responses import REJECTIONS
from bot.ui.schedule_texts import HEADLINE, PROBLEMS
from tests.wire.faults import When
from tests.wire.server import Discord
from tests.wire.state import APPLICATION_ID


@asynccontextmanager
async def online(
    bot: BardClient, server: Discord, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """Run a bot that is connected to a server."""
    base = f"127.0.0.1:{server.port}"
    monkeypatch.setattr(discord.http.Route, "BASE", f"http://{base}/api/v10")
    monkeypatch.setattr(
        discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", yarl.URL(f"ws://{base}")
    )
    identified = server.gateway.identified
    monkeypatch.setattr(connection, "IDENTIFY_SECONDS", 0.0)  # of this double
    running = asyncio.create_task(bot.start(server.token))
    async with asyncio.timeout(60):
        await server.gateway.has_identified(identified + 1)
        await bot.wait_until_ready()
        yield
    await bot.close()
    await running
    assert not server.violations


@pytest.mark.parametrize(
    ("event", "data"),
    [("MESSAGE_DELETE", {}), ("INTERACTION_CREATE", {"type": 2}), ("READY", {})],
)
async def test_event_that_cannot_be_read_is_logged_and_the_bot_connects_again(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    event: str,
    data: dict[str, Any],
) -> None:
    monkeypatch.setattr(ExponentialBackoff, "delay", lambda _: 0.0)
    bot = create_bot(settings)
    async with Discord().running() as server, online(bot, server, monkeypatch):
        first = bot._by_id[0].ws
        await server.gateway.send(event, data)
        await server.gateway.has_identified(2)
        assert not first.open  # Discord would send each event to both
        await (await server.slash("bard", prompt="ROMEO:", max_chars=10)).reply()
    (record,) = (r for r in caplog.records if r.levelname == "ERROR")
    assert record.name == "bot.connection"
    assert record.exc_info is not None


async def test_gateway_that_is_away_at_the_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library can repeat a connection only after a first one."""
    monkeypatch.setattr(ExponentialBackoff, "delay", lambda _: 0.0)
    refusals = iter(range(2))

    server = Discord()
    serve = server.gateway.serve

    async def refuse(request: web.Request) -> web.StreamResponse:
        if next(refusals, None) is not None:
            return web.Response(status=503)
        return await serve(request)

    monkeypatch.setattr(server.gateway, "serve", refuse)
    bot = create_bot(settings)
    async with server.running(), online(bot, server, monkeypatch):
        assert next(refusals, None) is None


async def test_command_of_a_kind_that_the_library_lacks_is_kept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Discord refuses to drop the entry point of an Activity."""
    kept = {
        "id": "77",
        "type": 4,
        "name": "launch",
        "handler": 2,
        "contexts": [0, 1, 2],
        "integration_types": [0, 1],
    }
    stored = {"application_id": APPLICATION_ID, "version": "1", "description": ""}
    async with Discord().running() as server:
        server.world.commands[None] = [{**kept, **stored}]
        async with online(create_bot(settings), server, monkeypatch):
            (registration,) = server.sent("PUT commands")
        commands = registration.body
        assert [command for command in commands if command["type"] == 4] == [kept]
        assert len(commands) == len(COMMANDS) + 1
        async with online(create_bot(settings), server, monkeypatch):
            assert len(server.sent("PUT commands")) == 1  # no difference


async def test_command_that_the_shutdown_cancels_is_answered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot, started = create_bot(settings), asyncio.Event()

    async def hang(_channel_id: int) -> None:
        started.set()
        await asyncio.Event().wait()

    async with Discord().running() as server:
        async with online(bot, server, monkeypatch):
            monkeypatch.setattr(bot.bard.scenes, "page", hang)
            asked = await server.slash("scene show")
            await started.wait()
            bot.hasten()
        assert (await asked.private()).text == REJECTIONS[Reason.CLOSING]


@pytest.mark.parametrize("unloaded", [False, True])
async def test_last_rejection_is_sent_before_the_connection_ends(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    unloaded: bool,
) -> None:
    bot = create_bot(settings)
    async with Discord().running() as server:
        response = server.faults.holds("POST callback", When.BEFORE)
        async with online(bot, server, monkeypatch):
            in_progress = asyncio.Event()
            bot.bard.track(asyncio.create_task(in_progress.wait()))
            closing = asyncio.create_task(bot.unload_extension("bot") if unloaded else bot.close())
            await asyncio.sleep(0)
            if unloaded:
                in_progress.set()
                await closing
                asked = await server.slash("bard", prompt="ROMEO:")
                await server.struck(response)
                closing = asyncio.create_task(bot.close())
            else:
                asked = await server.slash("bard", prompt="ROMEO:")
                await server.struck(response)
                in_progress.set()
            # Nothing but the response is in progress now.
            await asyncio.wait({closing}, timeout=0.1)
            response.release()
            await closing
        assert (await asked.private()).text == REJECTIONS[Reason.CLOSING]
    assert "Could not respond" not in caplog.text


async def test_two_concurrent_requests_in_one_channel(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = create_bot(settings)
    contexts: list[str] = []
    started, gate = threading.Event(), threading.Event()
    async with Discord().running() as server, online(bot, server, monkeypatch):
        generate = bot.bard.inference.model.generate

        def gated(prompt: str, *args: Any, **options: Any) -> str:
            contexts.append(prompt)
            started.set()
            assert gate.wait(30)
            return generate(prompt, *args, **options)

        bot.bard.inference.model.generate = gated  # type: ignore[method-assign]
        first = await server.slash("bard", prompt="ROMEO:", max_chars=10)
        assert await asyncio.to_thread(started.wait, 30)
        second = await server.slash("bard", prompt="JULIET:", max_chars=10)
        # While the first is generating.
        assert [await asked.acknowledged() for asked in (first, second)] == [5, 5]
        assert not server.sent("PATCH @original")
        gate.set()
        replies = [await asked.reply() for asked in (first, second)]

    assert [reply.embeds[0]["title"] for reply in replies] == ["ROMEO:", "JULIET:"]
    assert contexts[0] == "ROMEO:\n"
    assert contexts[1].startswith("ROMEO:\n")
    assert contexts[1].endswith("\n\nJULIET:\n")


def noon_zone(now: datetime) -> ZoneInfo:
    """Return a time zone in which it is about noon, so that no day begins meanwhile."""
    return ZoneInfo(f"Etc/GMT{now.hour - 12:+d}")


@pytest.mark.parametrize("gone", [False, True])
async def test_daily_scene_that_became_due_while_the_bot_was_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, *, gone: bool
) -> None:
    now = datetime.now(UTC)
    earlier = now - timedelta(minutes=30)
    zone = noon_zone(now)
    bot, again = create_bot(settings), create_bot(settings)
    async with Discord().running() as server:
        ann, guild = server.person("ann"), await server.guild("The Globe")
        stage = await server.channel(guild, "stage")
        async with online(bot, server, monkeypatch):
            await bot.bard.daily_scenes.add(
                Place(guild_id=int(guild.id), channel_id=int(stage.id)),
                int(ann.id),
                earlier.astimezone(zone).time().replace(second=0, microsecond=0),
                zone,
                "ROMEO:",
                earlier - timedelta(hours=1),
            )
        if gone:
            await server.delete_channel(stage)
        async with online(again, server, monkeypatch):
            place = server.world.dm_with(ann) if gone else stage
            (message,) = await server.until(
                lambda: server.world.messages_in(place), "the scene is played, or Ann is told"
            )
            store = again.bard.daily_scenes.store
            assert await store.due(datetime.now(UTC).timestamp(), 9) == []
        if gone:
            assert PROBLEMS["gone"] in message.text
        else:
            assert HEADLINE in str(message.embeds)
            assert message.labels == ["Continue", "Reroll", "Edit prompt", "Delete"]
