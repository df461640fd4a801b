"""The real client's HTTP and gateway against a loopback server."""

import asyncio
import threading
from typing import Any

import discord
import pytest
import yarl

from bot import Settings, create_bot
from tests.bot.loopback import LoopbackDiscord


async def test_two_concurrent_requests_in_one_channel(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = create_bot(settings)
    contexts: list[str] = []
    started, gate = threading.Event(), threading.Event()
    async with LoopbackDiscord().running() as server:
        base = f"127.0.0.1:{server.port}"
        monkeypatch.setattr(discord.http.Route, "BASE", f"http://{base}/api/v10")
        monkeypatch.setattr(
            discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", yarl.URL(f"ws://{base}")
        )
        running = asyncio.create_task(bot.start(server.token))
        async with asyncio.timeout(30):
            await server.ready.wait()
            await bot.wait_until_ready()
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
            await server.acknowledged(2)  # while the first is generating
            assert not server.edits
            gate.set()
            bodies = [await server.edited(token) for token in (first, second)]
        await bot.close()
        await running

    assert [callback["type"] for callback in server.callbacks] == [5, 5]
    assert [body["embeds"][0]["title"] for body in bodies] == ["ROMEO:", "JULIET:"]
    assert all(body["allowed_mentions"] == {"parse": []} for body in bodies)
    assert contexts[0] == "ROMEO:\n"
    assert contexts[1].startswith("ROMEO:\n")
    assert contexts[1].endswith("\n\nJULIET:\n")
