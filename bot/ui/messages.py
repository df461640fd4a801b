"""Show a turn in a message that replies to a member's message."""

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import discord

from ..bard import Bard
from ..concurrency import Wait
from ..core.settlement import Shown
from ..storage.records import Turn
from .embeds import headline
from .interactions import NETWORK_ERRORS, brief, repeat
from .names import Viewpoint
from .queue_status import QueueStatus, shows_status
from .replies import content_of

log = logging.getLogger(__name__)

TYPING_SECONDS = 8.0
"""Time between two requests; Discord shows the indicator for ten seconds."""
TYPING_TIMES = 8
"""Most requests: after a minute, the status of the request says more."""
NO_HISTORY = 160002
"""Discord's code for a reply in a channel whose earlier messages the bot may not read."""

_NOBODY = discord.AllowedMentions.none()


class MessageTarget:
    """A reply to a message: at first the status of its request if that takes long.

    All attempts to send it have the same nonce, so that Discord creates one message at most.

    Attributes:
        message: It, once it is sent.

    Args:
        asked: The message that it replies to.
    """

    def __init__(self, asked: discord.Message) -> None:
        self.message: discord.Message | None = None
        self._asked = asked
        self._nonce = str(asked.id)
        self._reference: discord.MessageReference | None
        self._reference = asked.to_reference(fail_if_not_exists=False)
        # Whether an attempt to send it had no answer.
        self._unsure = False
        self._replied = False

    async def update(self, text: str, view: discord.ui.View | None) -> None:
        """Send the message with a text, or edit it."""
        await self._show(content=text, view=view)

    async def show_reply(
        self, embeds: list[discord.Embed], view: discord.ui.View, text: str | None
    ) -> discord.Message:
        """Send the message with a reply below a text, or replace the status by them."""
        message = await self._show(content=text, embeds=embeds, view=view)
        self._replied = True
        return message

    async def clear(self) -> None:
        """Delete the message, unless it shows no status."""
        if self.message is not None and not self._replied:
            await self.message.delete()

    async def _show(
        self,
        *,
        content: str | None = None,
        embeds: list[discord.Embed] | None = None,
        view: discord.ui.View | None,
    ) -> discord.Message:
        if self.message is None:
            unsure, self._unsure = self._unsure, True
            try:
                self.message = await self._send(content, embeds or [], view)
            except discord.HTTPException as error:
                self._unsure = unsure or isinstance(error, discord.DiscordServerError)
                raise
            if not (unsure and shows_status(self.message)):
                return self.message
            # An earlier attempt has arrived, and Discord has returned its message.
        self.message = await self.message.edit(
            content=content, embeds=embeds or [], view=view, allowed_mentions=_NOBODY
        )
        return self.message

    async def _send(
        self, content: str | None, embeds: list[discord.Embed], view: discord.ui.View | None
    ) -> discord.Message:
        options: dict[str, Any] = {"embeds": embeds, "nonce": self._nonce}
        if view is not None:
            options["view"] = view
        if self._reference is not None:
            try:
                return await self._asked.channel.send(
                    content, reference=self._reference, allowed_mentions=_NOBODY, **options
                )
            except discord.HTTPException as error:
                if error.code != NO_HISTORY:
                    raise
                self._reference = None
        return await self._asked.channel.send(content, allowed_mentions=_NOBODY, **options)


class MessageReply:
    """The reply to a message, once there is one. A `Display`."""

    def __init__(
        self,
        viewpoint: Viewpoint,
        bard: Bard,
        target: MessageTarget,
        status: QueueStatus,
        stop_typing: Callable[[], None],
    ) -> None:
        self.token: str | None = None
        self._viewpoint = viewpoint
        self._bard = bard
        self._target = target
        self._status = status
        self._stop_typing = stop_typing

    @property
    def message_id(self) -> int | None:
        """The message; None if it is not sent yet."""
        return None if self._target.message is None else self._target.message.id

    async def show(self, turn: Turn, dropped: str) -> Shown:
        """Send the reply, or replace the status of the request by it."""
        await self._status.stop()
        self._stop_typing()
        author = headline(turn, self._viewpoint.user.display_name, self._viewpoint.language)
        content = await content_of(turn, author, dropped, self._viewpoint, self._bard)
        message = await repeat(
            lambda: self._target.show_reply(content.embeds, content.view, content.text),
            self._bard.wait,
        )
        return Shown(message.id, 0)


class Typing:
    """Show that the bot is typing while the context lasts, for about a minute at most.

    Nothing depends on it: its errors are logged.

    Args:
        channel: Where.
        wait: See `bot.concurrency.Wait`.
    """

    def __init__(self, channel: discord.abc.Messageable, wait: Wait) -> None:
        self._channel = channel
        self._wait = wait

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._type())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop before the context ends."""
        self._task.cancel()

    async def _type(self) -> None:
        try:
            for _ in range(TYPING_TIMES):
                await self._channel.typing()
                await self._wait(asyncio.sleep(TYPING_SECONDS))
        except (discord.HTTPException, *NETWORK_ERRORS) as error:
            log.debug("Could not show that the bot is typing: %s", brief(error))
        except Exception:  # nobody awaits this task
            log.exception("Could not show that the bot is typing")
