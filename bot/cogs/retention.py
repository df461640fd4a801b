"""Keep the database in order: delete data whose place or time is over, complete what is owed."""

import logging
import time
from collections.abc import Awaitable, Callable

import discord
from discord.ext import tasks

from ..bard import Bard
from ..complaints import Complaints
from ..errors import RejectedError
from ..ui.hosts import Host
from ..ui.looks import looks_of
from .base import BardCog, listener

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400
OWED_SECONDS = 60.0
"""Time between attempts to complete what is owed."""

Work = Callable[[], Awaitable[object]]


class RetentionCog(BardCog, name="noskgpt_bard.retention"):
    """Delete old turns, and the data of messages, channels, threads and servers that are gone."""

    def __init__(self, client: Host, bard: Bard) -> None:
        super().__init__(client, bard)
        # Discord tells only once what is gone.
        self._postponed: list[Work] = []
        self._complaints = Complaints(log)

    async def cog_load(self) -> None:
        """Start the loops, and log which deletions on Discord the host's intents hide."""
        self.bard.scenes.look = looks_of(self.client)
        self.sweep.start()
        self.tend.start()
        missing = [
            name
            for name in ("guild_messages", "dm_messages")
            if not getattr(self.client.intents, name)
        ]
        if missing:
            log.warning(
                "Intents missing: %s. Replies that members delete by hand stay in their scene, "
                "and messages of members get no reply",
                ", ".join(missing),
            )
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
        """Delete turns past their retention or never shown, and old automatic backups."""
        deletions, days = self.bard.turns.deletions, self.bard.settings.retention_days
        now = time.time()
        try:
            unseen = await deletions.forget_unseen(now - DAY_SECONDS)
            if unseen:
                log.info("Deleted %d turns that were never shown", unseen)
            if days is not None:
                deleted = await deletions.delete_before(now - days * DAY_SECONDS)
                log.info("Deleted %d turns older than %d days", deleted, days)
            await self.bard.scenes.parts.delete_idle()
            await self.bard.delete_old_backups()
        except RejectedError as error:
            log.warning("Could not delete old turns; the next day tries again: %s", error)
        except Exception:  # an error would end the loop
            log.exception("Could not delete old turns; the next day tries again")

    @tasks.loop(seconds=OWED_SECONDS)
    async def tend(self) -> None:
        """Record, delete and erase what could not be before."""
        try:
            for _ in range(len(self._postponed)):
                await self._do(self._postponed.pop(0))
            await self.bard.turns.deletions.resume()
            await self.bard.complete()
        except RejectedError as error:
            log.warning("The database is not in order yet: %s", error)
        except Exception:  # an error would end the loop
            log.exception("Could not put the database in order")

    async def _do(self, work: Work) -> None:
        """Delete something now, or once the database can be used."""
        try:
            await work()
        except RejectedError as error:
            self._postponed.append(work)
            self._complaints.met("Deletions are postponed: %s", error)
        else:
            self._complaints.over()

    @listener
    async def on_ready(self) -> None:
        """Find out whether messages were shown whose outcome is not known."""
        await self.bard.scenes.settle()

    @listener
    async def on_shard_ready(self, _shard: int) -> None:
        """Do the same for one shard of several: the library calls `on_ready` for all together."""
        if self.client.is_ready():
            await self.bard.scenes.settle()

    @listener
    async def on_raw_message_delete(self, payload: discord.RawMessageDeleteEvent) -> None:
        """Delete the turn of a deleted reply."""
        await self._do(
            lambda: self.bard.scenes.delete_messages(payload.channel_id, {payload.message_id})
        )

    @listener
    async def on_raw_bulk_message_delete(self, payload: discord.RawBulkMessageDeleteEvent) -> None:
        """Delete the turns of deleted replies."""
        await self._do(
            lambda: self.bard.scenes.delete_messages(payload.channel_id, payload.message_ids)
        )

    @listener
    async def on_guild_remove(self, guild: discord.Guild) -> None:
        """Delete all data of a server that the bot has left or that was deleted.

        The library does not call this for an outage.
        """
        self.bard.queue.stop_guild(guild.id)
        await self._do(lambda: self._delete_guild(guild.id))

    async def _delete_guild(self, guild_id: int) -> None:
        deletions = self.bard.turns.deletions
        # First: from then on, the words are deleted even if the bot is killed. A request that can
        # no longer be stopped is not stored after this record.
        deletion = await deletions.record("guild", guild_id, gone=True)
        await self.bard.guild_settings.delete(guild_id)
        await self.bard.voice_store.delete_guild(guild_id)
        await self.bard.departures.remove(guild_id)
        deleted = await deletions.carry_out(deletion)
        log.info("Left server %d: deleted its settings and %s turns", guild_id, deleted)

    @listener
    async def on_guild_channel_delete(self, channel: discord.abc.GuildChannel) -> None:
        """Delete the turns of a deleted channel; the library reports its threads by themselves."""
        await self._do(lambda: self._delete_channel(channel.id, channel.guild.id))

    @listener
    async def on_guild_role_delete(self, role: discord.Role) -> None:
        """Remove a deleted role from the settings of its server."""
        await self._do(lambda: self.bard.guild_settings.remove_role(role.guild.id, role.id))

    @listener
    async def on_raw_thread_delete(self, payload: discord.RawThreadDeleteEvent) -> None:
        """Delete the turns of a deleted thread."""
        await self._do(lambda: self._delete_channel(payload.thread_id))

    async def _delete_channel(self, channel_id: int, guild_id: int | None = None) -> None:
        """Delete the data of a channel or thread that is gone.

        Args:
            channel_id: The channel or thread.
            guild_id: The server of a channel, whose settings may name it.
        """
        deletions = self.bard.turns.deletions
        deletion = await deletions.record("channel", channel_id, gone=True)  # first, as above
        if guild_id is not None:
            await self.bard.guild_settings.remove_channel(guild_id, channel_id)
            await self.bard.voice_store.set_default(guild_id, None, channel_id)
        await deletions.carry_out(deletion)
        await deletions.resume()  # those of its threads
