"""Delete data by itself: of servers that the bot leaves, and of turns past their retention."""

import logging
import sqlite3
import time

import discord
from discord.ext import tasks

from .base import BardCog, listener

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400


class RetentionCog(BardCog, name="noskgpt_bard.retention"):
    """Delete old turns at startup and once a day, and the data of servers that the bot leaves."""

    async def cog_load(self) -> None:
        """Start the daily deletion, if a retention is set; log what the host does not allow."""
        if self.bard.settings.retention_days is not None:
            self.sweep.start()
        if not self.client.intents.guilds:
            log.warning("Intents missing: guilds. Data of servers that the bot leaves is kept")

    async def cog_unload(self) -> None:
        """Stop the daily deletion."""
        self.sweep.cancel()

    @tasks.loop(hours=24)
    async def sweep(self) -> None:
        """Delete turns that are older than the retention."""
        days = self.bard.settings.retention_days
        assert days is not None  # noqa: S101 - cog_load has checked it
        try:
            deleted = await self.bard.turns.delete_before(time.time() - days * DAY_SECONDS)
        except sqlite3.Error:
            # A full disk or a lock must not end the loop: the next day tries again.
            log.exception("Could not delete turns older than %d days", days)
        else:
            log.info("Deleted %d turns older than %d days", deleted, days)

    @listener
    async def on_guild_remove(self, guild: discord.Guild) -> None:
        """Delete all data of a server that the bot has left or that was deleted.

        The library does not call this for an outage.
        """
        self.bard.queue.stop_guild(guild.id)
        await self.bard.guild_settings.delete(guild.id)
        await self.bard.runs.delete_guild(guild.id)
        deleted = await self.bard.turns.delete_guild(guild.id)
        log.info("Left server %d: deleted its settings and %d turns", guild.id, deleted)
