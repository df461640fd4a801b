"""What is removed by itself: a server's data when the bot leaves it, and turns past their days."""

import logging
import sqlite3
import time
from typing import TYPE_CHECKING

import discord
from discord.ext import commands, tasks

if TYPE_CHECKING:
    from ..client import Bard

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400


class RetentionCog(commands.Cog):
    """Removes data when it is due, at the start and once a day."""

    def __init__(self, bot: "Bard") -> None:
        self.bot = bot

    async def cog_load(self) -> None:
        """Begin, if the bot's owner has set how long turns are kept."""
        if self.bot.settings.retention_days is not None:
            self.sweep.start()

    async def cog_unload(self) -> None:
        """End."""
        self.sweep.cancel()

    @tasks.loop(hours=24)
    async def sweep(self) -> None:
        """Remove turns that are older than the days set."""
        days = self.bot.settings.retention_days
        assert days is not None  # noqa: S101 - as cog_load saw it
        try:
            removed = await self.bot.history.forget_before(time.time() - days * DAY_SECONDS)
        except sqlite3.Error:
            # A full disk or a lock must not end the loop: tomorrow is another day.
            log.exception("Could not remove turns older than %d days", days)
        else:
            log.info("Removed %d turns older than %d days", removed, days)

    @commands.Cog.listener()
    async def on_guild_remove(self, guild: discord.Guild) -> None:
        """Remove all that is kept of a server that the bot has left or that is no more.

        Discord tells outages from this, and the library passes on only this.
        """
        self.bot.queue.stop_guild(guild.id)
        await self.bot.guild_settings.forget(guild.id)
        await self.bot.runs.forget_guild(guild.id)
        removed = await self.bot.history.forget_guild(guild.id)
        log.info("Left server %d: removed its settings and %d turns", guild.id, removed)
