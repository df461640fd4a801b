"""Fixtures: the double, and the bot as a process that the tests of a session share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.wire.process import BotProcess
from tests.wire.server import Discord
from tests.wire.state import MODERATOR, Guild, Person, Place


@dataclass
class Scene:
    """A server with two members, for one test of a running bot."""

    discord: Discord
    bot: BotProcess
    guild: Guild
    garden: Place
    ann: Person
    """Moderates the server."""
    ben: Person


@asynccontextmanager
async def new_scene(discord: Discord, bot: BotProcess) -> AsyncIterator[Scene]:
    """Make a server for a test; at its end no rule was broken, and every fault has happened."""
    guild = await discord.guild("The Globe")
    garden = await discord.channel(guild, "garden")
    ann, ben = discord.person("Ann"), discord.person("Ben")
    guild.permissions[ann.id] = MODERATOR
    try:
        yield Scene(discord, bot, guild, garden, ann, ben)
        assert not discord.violations
        assert not discord.faults.pending()
    finally:
        discord.violations.clear()
        discord.faults.clear()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_bot(
    weights: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Discord, BotProcess]]:
    """The bot that the tests of a session share, against a double of its own."""
    async with Discord().running() as discord:
        bot = BotProcess(discord, tmp_path_factory.mktemp("bot"), weights, BARD_CORPUS=str(corpus))
        try:
            await bot.start()
            yield discord, bot
        finally:
            await bot.close()


@pytest_asyncio.fixture(loop_scope="session")
async def scene(shared_bot: tuple[Discord, BotProcess]) -> AsyncIterator[Scene]:
    """A new server of the shared bot."""
    async with new_scene(*shared_bot) as scene:
        yield scene
