"""Keep the database in order: delete data whose place or time is over, complete what is owed."""

import logging
import time

import discord
from discord.ext import tasks

from ..errors import RejectedError
from ..ui.replies import looks_of
from .base import BardCog, listener

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400
OWED_SECONDS = 60.0
"""Time between attempts to complete what is owed."""


class RetentionCog(BardCog, name="noskgpt_bard.retention"):
    """Delete old turns, and the data of servers, channels and threads that are gone."""

    async def cog_load(self) -> None:
        """Start the loops, and log what the host does not allow."""
        self.bard.scenes.look = looks_of(self.client)
        self.sweep.start()
        self.tend.start()
        if not self.client.intents.guilds:
            log.warning(
                "Intents missing: guilds. Data of servers, channels and threads that the bot "
                "leaves or that are deleted is kept"
            )

    async def cog_unload(self) -> None:
        """Stop the loops."""
        self.sweep.cancel()
        self.tend.cancel()

    @tasks.loop(hours=24)
    async def sweep(self) -> None:
        """Complete interrupted deletions; delete turns past their retention or never shown."""
        turns, days = self.bard.turns, self.bard.settings.retention_days
        now = time.time()
        try:
            await turns.resume_deletions()
            unseen = await turns.forget_unseen(now - DAY_SECONDS)
            log.info("Deleted %d turns that were never shown", unseen)
            if days is not None:
                deleted = await turns.delete_before(now - days * DAY_SECONDS)
                log.info("Deleted %d turns older than %d days", deleted, days)
        except RejectedError as error:
            log.warning("Could not delete old turns; the next day tries again: %s", error)

    @tasks.loop(seconds=OWED_SECONDS)
    async def tend(self) -> None:
        """Record what could not be recorded, and erase what could not be erased."""
        try:
            await self.bard.complete()
        except RejectedError as error:
            log.warning("The database is not in order yet: %s", error)

    @listener
    async def on_ready(self) -> None:
        """Find out whether messages were shown whose outcome is not known."""
        await self.bard.scenes.settle()

    @listener
    async def on_guild_remove(self, guild: discord.Guild) -> None:
        """Delete all data of a server that the bot has left or that was deleted.

        The library does not call this for an outage.
        """
        self.bard.queue.stop_guild(guild.id)
        await self.bard.guild_settings.delete(guild.id)
        await self.bard.runs.delete_guild(guild.id)
        turns = self.bard.turns
        deleted = await turns.delete_all(await turns.record_deletion("guild", guild.id, gone=True))
        log.info("Left server %d: deleted its settings and %d turns", guild.id, deleted)

    @listener
    async def on_guild_channel_delete(self, channel: discord.abc.GuildChannel) -> None:
        """Delete the turns of a deleted channel and of its threads."""
        await self.bard.guild_settings.remove_channel(channel.guild.id, channel.id)
        threads = getattr(channel, "threads", ())
        for place in (channel, *threads):
            await self._delete_channel(place.id)

    @listener
    async def on_raw_thread_delete(self, payload: discord.RawThreadDeleteEvent) -> None:
        """Delete the turns of a deleted thread."""
        await self._delete_channel(payload.thread_id)

    async def _delete_channel(self, channel_id: int) -> None:
        await self.bard.runs.delete_channel(channel_id)
        await self.bard.scenes.delete_channel(channel_id, gone=True)
