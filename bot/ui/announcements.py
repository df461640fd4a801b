"""Send replies that nobody has just asked for, as messages of their own."""

import secrets

import discord

from ..concurrency import Wait
from ..core.settlement import Shown
from ..languages import Language, Text
from ..storage.records import Turn
from .embeds import embeds
from .hosts import Host
from .interactions import repeat
from .replies import reply_view


class Announcement:
    """A new message in a channel of a server, which shows a turn.

    Args:
        client: Sends it.
        guild_id: The server.
        channel_id: The channel.
        headline: The line above the turn.
        language: That of the headline and the buttons.
        wait: See `bot.concurrency.Wait`.
    """

    def __init__(
        self,
        client: Host,
        *,
        guild_id: int,
        channel_id: int,
        headline: Text,
        language: Language,
        wait: Wait,
    ) -> None:
        self.message_id: int | None = None
        self.token: str | None = None
        self._channel = client.get_partial_messageable(channel_id, guild_id=guild_id)
        self._headline = language(headline)
        self._language = language
        self._wait = wait

    async def show(self, turn: Turn, dropped: str) -> Shown:
        """Send the message, once.

        Raises:
            discord.HTTPException: Discord refuses it.
            UncertainError: It is not known whether Discord has it.
        """
        # Discord creates no second message with it if the answer was lost. Not the turn's number:
        # another process, with a database of its own, may have a turn of that number.
        nonce = secrets.token_hex(8)
        pages = embeds(turn, self._language, author=self._headline, dropped=dropped)

        async def send() -> discord.Message:
            return await self._channel.send(
                embeds=pages,
                view=reply_view(turn, self._language),
                nonce=nonce,
                allowed_mentions=discord.AllowedMentions.none(),
            )

        message = await repeat(send, self._wait)
        return Shown(message.id, audience=0)
