"""A private bot, as a process: other servers, and a person whom its owner has blocked."""

from pathlib import Path

import pytest

from bot.errors import Reason
from bot.ui.responses import LEAVING, REJECTIONS
from tests.wire.conftest import speech
from tests.wire.faults import When
from tests.wire.process import BotProcess
from tests.wire.server import Discord

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_private_bot_leaves_other_servers_and_keeps_its_blocks(
    weights: Path, tmp_path: Path
) -> None:
    async with Discord().running() as discord:
        home, other = await discord.guild("Home"), await discord.guild("The Rose")
        hall = await discord.channel(home, "hall")
        pit = await discord.channel(other, "pit")
        ben, owner = discord.person("Ben"), discord.owner
        bot = BotProcess(discord, tmp_path, weights, BARD_GUILDS=home.id)
        leaving = discord.faults.holds("DELETE guild", When.BEFORE)
        try:
            await bot.start()
            await discord.struck(leaving)
            (told,) = discord.seen(pit, owner)
            assert told.content == LEAVING
            asked = await discord.slash("bard", by=ben, at=pit, prompt="ROMEO:")
            await asked.private(REJECTIONS[Reason.WRONG_SERVER])
            await bot.kill()
            leaving.release()
            assert other.installed

            blocked = REJECTIONS[Reason.BLOCKED]
            await bot.start()
            await bot.logged(f"Left server {other.id}: BARD_GUILDS does not name it")
            assert len(discord.sent("POST message")) == 1
            await speech(await discord.slash("bard", by=ben, at=hall, prompt="ROMEO:"))
            await (await discord.slash("bard-admin block", user=ben)).private("Blocked: Ben")
            refused = await discord.slash("bard", by=ben, at=hall, prompt="ROMEO:")
            await refused.private(blocked)
            await bot.restart()
            refused = await discord.slash("bard", by=ben, prompt="ROMEO:")
            await refused.private(blocked)
            await (await discord.slash("bard-admin unblock", user=ben)).private("Ben")
            await speech(await discord.slash("bard", by=ben, at=hall, prompt="ROMEO:"))
            assert not discord.violations
        finally:
            await bot.close()
