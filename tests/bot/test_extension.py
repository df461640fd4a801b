"""The extension in a host: what `setup` and `teardown` do when something fails.

tests/hosts/ has the installed extension in whole hosts.
"""

import asyncio
import gc
import logging
import sqlite3
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import discord
import pytest
from discord.ext import commands

from bot import Settings
from bot.bard import Bard
from bot.cogs import COMMANDS
from bot.errors import StartupError
from bot.storage import database
from bot.storage.runs import RunStore
from bot.ui.interactions import find_bard


class Host(commands.Bot):
    """A host that has settings for the extension."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(command_prefix=(), intents=discord.Intents.none())
        self.bard_settings = settings

    @property
    def bard(self) -> Bard:
        found = find_bard(self)
        assert found is not None
        return found


@pytest.fixture
async def host(settings: Settings) -> AsyncIterator[Host]:
    async with Host(settings) as host:
        yield host


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "noskgpt" in thread.name]


def views(host: Host) -> list[Any]:
    store = host._connection._view_store
    return [*store._views.values(), *store._dynamic_items.values(), *store._modals.values()]


async def test_service_that_cannot_be_closed_is_logged_and_keeps_no_other_open(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """discord.py drops an error of `teardown`."""
    await host.load_extension("bot")
    bard = host.bard
    assert threads()
    answering = asyncio.Event()

    async def answer() -> None:
        await answering.wait()
        await bard.statistics.read()

    task = asyncio.create_task(answer())
    bard.track(task)

    async def fail() -> None:
        answering.set()
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(bard.training, "close", fail)
    await host.unload_extension("bot")
    assert task.done()
    assert task.exception() is None
    assert not threads()
    assert not views(host)
    (record,) = (r for r in caplog.records if r.levelno >= logging.ERROR)
    assert record.name == "bot"
    assert record.exc_info is not None
    assert "disk is full" in str(record.exc_info[1])


async def test_unload_waits_for_tasks_that_others_start(host: Host) -> None:
    await host.load_extension("bot")
    bard, ended = host.bard, []

    async def show() -> None:
        await asyncio.sleep(0.01)
        await bard.statistics.read()
        ended.append("shown")

    async def answer() -> None:
        await asyncio.sleep(0.01)
        bard.track(asyncio.create_task(show()))

    bard.track(asyncio.create_task(answer()))
    await host.unload_extension("bot")
    assert ended == ["shown"]


async def test_commands_and_buttons_stay_while_requests_end(host: Host) -> None:
    await host.load_extension("bot")
    bard, gate = host.bard, asyncio.Event()
    task = asyncio.create_task(gate.wait())
    bard.track(task)
    unloading = asyncio.create_task(host.unload_extension("bot"))
    await asyncio.sleep(0)
    assert host.bard.closing
    assert len(host.tree.get_commands()) == len(COMMANDS)
    assert views(host)
    gate.set()
    await unloading
    assert task.result()
    assert not host.tree.get_commands()
    assert not views(host)


@pytest.mark.parametrize("everything", [False, True], ids=["unloading", "every task"])
async def test_cancelled_unload_ends_what_it_began(host: Host, *, everything: bool) -> None:
    await host.load_extension("bot")
    bard = host.bard
    task = asyncio.create_task(asyncio.Event().wait())
    bard.track(task)
    unloading = asyncio.create_task(host.unload_extension("bot"))
    await asyncio.sleep(0)
    for cancelled in asyncio.all_tasks() - {asyncio.current_task()} if everything else {unloading}:
        cancelled.cancel()
    await asyncio.wait({unloading}, timeout=30)
    assert unloading.cancelled()
    assert task.cancelled()
    assert not host.extensions
    assert not host.cogs
    assert not views(host)
    assert not threads()
    await host.load_extension("bot")


async def test_second_unload_waits_for_the_first(host: Host) -> None:
    """A host may close while a command unloads the extension."""
    await host.load_extension("bot")
    gate = asyncio.Event()
    host.bard.track(asyncio.create_task(gate.wait()))
    unloading = asyncio.create_task(host.unload_extension("bot"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(host.close())
    await asyncio.sleep(0)
    assert not closing.done()
    gate.set()
    await closing
    assert not threads()
    await unloading


@pytest.mark.parametrize("places", [0, 1, 2, 3, 4])
async def test_host_with_too_many_commands_keeps_nothing_of_the_extension(
    host: Host, places: int
) -> None:
    for number in range(100 - places):

        @host.tree.command(name=f"host-{number}", description="The host's own.")
        async def command(_interaction: discord.Interaction) -> None: ...

    with pytest.raises(commands.ExtensionFailed, match="too many commands") as caught:
        await host.load_extension("bot")
    assert "\n" not in str(caught.value)
    assert len(host.tree.get_commands()) == 100 - places
    assert not host.cogs
    assert not threads()
    assert not views(host)
    assert not [listener for listeners in host.extra_events.values() for listener in listeners]


async def test_cog_that_cannot_be_loaded_keeps_nothing_of_the_extension(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_self: RunStore) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(RunStore, "running", fail)
    with pytest.raises(commands.ExtensionFailed, match="disk I/O error"):
        await host.load_extension("bot")
    assert not host.tree.get_commands()
    assert not host.cogs
    assert not threads()
    assert not views(host)
    monkeypatch.undo()
    await host.load_extension("bot")
    assert host.cogs


async def test_unload_removes_the_copies_for_a_server(host: Host) -> None:
    """Hosts copy all commands to the server in which they are developed."""
    server = discord.Object(1)
    await host.load_extension("bot")
    host.tree.copy_global_to(guild=server)
    kinds = (discord.AppCommandType.chat_input, discord.AppCommandType.message)
    assert [len(host.tree.get_commands(guild=server, type=kind)) for kind in kinds] == [7, 1]
    await host.reload_extension("bot")
    await host.unload_extension("bot")
    assert not host.tree.get_commands(guild=server)
    assert not host.tree.get_commands()


async def test_host_is_freed_after_it_closed(settings: Settings) -> None:
    async def run() -> weakref.ref[Host]:
        async with Host(settings) as host:
            await host.load_extension("bot")
        return weakref.ref(host)

    reference = await run()
    await asyncio.sleep(0)
    gc.collect()
    assert reference() is None


async def test_database_that_is_held_while_the_extension_loads_is_named(
    host: Host, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bard = await Bard.open(settings)
    await bard.runs.start(
        user_id=1, guild_id=None, channel_id=2, preset="quick", minutes=1, corpus=None
    )  # that of a bot that was killed
    await bard.close()
    opened = Bard.open
    with closing(sqlite3.connect(settings.database_path, isolation_level=None)) as other:

        async def then_held(*arguments: Any) -> Bard:
            bard = await opened(*arguments)
            monkeypatch.setattr(database, "BUSY_SECONDS", 0.0)
            other.execute("BEGIN IMMEDIATE")
            return bard

        monkeypatch.setattr(Bard, "open", then_held)
        with pytest.raises(commands.ExtensionFailed) as failed:
            await host.load_extension("bot")
    assert isinstance(failed.value.original, StartupError)
    assert "Another program holds it" in str(failed.value.original)
