"""Leave the servers that BARD_GUILDS does not name, if the client exists for the bard alone."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import discord
from discord.ext import commands, tasks

from ..bard import Bard
from ..errors import RejectedError
from ..ui.embeds import escape, one_line
from ..ui.interactions import NETWORK_ERRORS, brief
from ..ui.localisation import language_in, language_to
from ..ui.owners import has_own_client
from ..ui.responses import LEAVING, LEAVING_DIRECT
from .base import BardCog, listener

log = logging.getLogger(__name__)

RETRY_SECONDS = 3600.0
"""Time between attempts to leave a server in which the bot had to stay."""
CHANNELS_TRIED = 3
"""Channels in which the bot tries to say why it leaves, before it writes to the server's owner."""


class DepartureCog(BardCog, name="noskgpt_bard.departure"):
    """Leave each other server as soon as the bot is in it, and say why, once."""

    def __init__(self, client: commands.Bot, bard: Bard) -> None:
        super().__init__(client, bard)
        self._leaving: set[int] = set()

    async def cog_load(self) -> None:
        """Start the loop."""
        self.leave_later.start()

    async def cog_unload(self) -> None:
        """Stop the loop."""
        self.leave_later.cancel()

    @tasks.loop(seconds=RETRY_SECONDS)
    async def leave_later(self) -> None:
        """Leave the servers that could not be left before."""
        if not self.client.is_ready():
            return
        try:
            await self._leave_others(self.client.guilds)
        except Exception:  # an error would end the loop
            log.exception("Could not leave other servers; the next attempt comes in an hour")

    @listener
    async def on_ready(self) -> None:
        """Leave the servers in which the bot is at its start."""
        await self._leave_others(self.client.guilds)

    @listener
    async def on_guild_available(self, guild: discord.Guild) -> None:
        """Leave a server that was out of order at the start."""
        await self._leave_others([guild])

    @listener
    async def on_guild_join(self, guild: discord.Guild) -> None:
        """Leave a server that somebody has invited the bot to."""
        if not self._stays_in(guild):
            # It may have been told before the bot was removed from it, while no bot was running.
            with _logged("Could not delete the record of a server that was told", guild):
                await self.bard.departures.remove(guild.id)
        await self._leave_others([guild])

    @listener
    async def on_guild_remove(self, guild: discord.Guild) -> None:
        """Be ready to leave the server again."""
        self._leaving.discard(guild.id)

    def _stays_in(self, guild: discord.Guild) -> bool:
        return self.bard.settings.serves(guild.id) or not has_own_client(self.client)

    async def _leave_others(self, guilds: Iterable[discord.Guild]) -> None:
        for guild in list(guilds):
            # More than one event reports a server at the start.
            if self._stays_in(guild) or guild.unavailable or guild.id in self._leaving:
                continue
            self._leaving.add(guild.id)
            await self._leave(guild)

    async def _leave(self, guild: discord.Guild) -> None:
        """Say why, unless that was said before a restart, and leave."""
        told = False
        with _logged("Could not find out whether a server was told", guild):
            told = await self.bard.departures.is_told(guild.id)
        if not told and await self._tell(guild):
            with _logged("Could not record that a server was told", guild):
                await self.bard.departures.record(guild.id)
        try:
            await guild.leave()
        except (discord.HTTPException, *NETWORK_ERRORS) as error:
            self._leaving.discard(guild.id)  # the next look tries again
            log.warning("Could not leave server %d: %s", guild.id, brief(error))
        else:
            log.warning("Left server %d: BARD_GUILDS does not name it", guild.id)

    async def _tell(self, guild: discord.Guild) -> bool:
        """Say why the bot leaves; return whether that was, or may have been, said."""
        language = language_in(guild)
        for channel in islice(_writable(guild), CHANNELS_TRIED):
            if await _send(channel, language(LEAVING)):
                return True
        try:
            owner = await self.client.fetch_user(guild.owner_id or 0)
        except (discord.HTTPException, *NETWORK_ERRORS):
            return False
        name = escape(one_line(guild.name, 100))
        return await _send(owner, language_to(owner, self.bard, guild)(LEAVING_DIRECT, name=name))


@contextmanager
def _logged(problem: str, guild: discord.Guild) -> Iterator[None]:
    """Log that the database cannot be used, which must not keep the bot in a server."""
    try:
        yield
    except RejectedError as error:
        log.warning("%s, %d: %s", problem, guild.id, error)


async def _send(target: discord.abc.Messageable, text: str) -> bool:
    """Send a text; return False if Discord refused it."""
    try:
        await target.send(text, allowed_mentions=discord.AllowedMentions.none())
    except (discord.DiscordServerError, *NETWORK_ERRORS):
        return True  # it may have arrived, and is not to be said twice
    except discord.HTTPException:
        return False
    return True


def _writable(guild: discord.Guild) -> Iterator[discord.TextChannel]:
    """Yield the server's system channel, then its others, as far as the bot may write to them."""
    system = guild.system_channel
    me: discord.Member | None = guild.me
    others = (channel for channel in guild.text_channels if channel != system)
    for channel in (*([system] if system else []), *others):
        # The bot's own member is not known if the library has not received it.
        allowed: discord.Permissions | None = channel.permissions_for(me) if me else None
        if allowed is None or (allowed.view_channel and allowed.send_messages):
            yield channel
