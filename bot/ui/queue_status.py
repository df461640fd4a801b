"""Show the status of a request that takes long: its queue position, and a button to stop it."""

import asyncio
import logging
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Protocol, Self

import discord

from ..bard import Bard
from ..concurrency import Wait
from ..core.request_queue import Request
from ..errors import Reason, StoppedError, UncertainError
from ..languages import ENGLISH, Language, Text
from .components import Button, custom_ids_of, may_change, view_of
from .interactions import (
    NETWORK_ERRORS,
    acknowledge_press,
    brief,
    delete_response,
    edit_response,
    respond,
)
from .localisation import language_of, language_of_message
from .responses import REJECTIONS

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
"""Duration of a request before its status is shown."""
EDIT_SECONDS = 1.25
"""Time between edits. Discord accepts about five in five seconds, the reply included."""

AT_WORK = Text("I am at work upon your words.")
WAITING = Text("You are {position} in line. A little patience, good friend.")
POSITION = Text("number {number}")
"""A position in the queue; in English it is an ordinal instead."""
STOPPED = Text("The scene was stopped. Nothing of this turn is kept.")
TOO_LATE = Text("Too late to stop me: that turn is over, or its reply is on its way.")
OVER = Text("This request is over. If I gave no answer to it, ask me again with `/bard`.")
"""Replaces a status that outlives its request."""
NOT_YOURS = Text("Only who asked for this turn, or a moderator, may stop it.")
STOP = Text("Stop", "button")

STOP_ID = "bard:stop:"
"""The custom id of a button that stops a request, without the number of the request."""

_NOBODY = discord.AllowedMentions.none()


def describe(request: Request, language: Language) -> str:
    """Return the status of a request as text."""
    position = request.position
    if not position:
        return language(AT_WORK)
    ordinal = _ordinal(position) if language is ENGLISH else language(POSITION, number=position)
    return language(WAITING, position=ordinal)


def _ordinal(number: int) -> str:
    teen = number // 10 % 10 == 1
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


class Target(Protocol):
    """A message that shows a status."""

    async def update(self, text: str, view: discord.ui.View | None) -> None:
        """Show a text with buttons."""
        ...

    async def clear(self) -> None:
        """Delete the message, unless it shows no status."""
        ...


class ResponseTarget:
    """The interaction's response, which the reply will replace."""

    def __init__(self, interaction: discord.Interaction[Any]) -> None:
        self._interaction = interaction
        self._shown = False

    async def update(self, text: str, view: discord.ui.View | None) -> None:
        """Edit the response."""
        await edit_response(self._interaction, content=text, view=view)
        self._shown = True

    async def show_reply(
        self, embeds: list[discord.Embed], view: discord.ui.View, content: str | None = None
    ) -> discord.InteractionMessage:
        """Replace the status with a reply, which `clear` does not delete."""
        message = await edit_response(self._interaction, content=content, embeds=embeds, view=view)
        self._shown = False
        return message

    async def clear(self) -> None:
        """Delete the response, so that an error's own response is the only one."""
        if self._shown:
            await delete_response(self._interaction)


class FollowupTarget:
    """An ephemeral follow-up, for an interaction whose response is a reply that stays."""

    def __init__(self, interaction: discord.Interaction[Any]) -> None:
        self._interaction = interaction
        self._message: discord.WebhookMessage | None = None

    async def update(self, text: str, view: discord.ui.View | None) -> None:
        """Send the follow-up, or edit it."""
        if self._message is not None:
            await self._message.edit(content=text, view=view, allowed_mentions=_NOBODY)
            return
        self._message = await self._interaction.followup.send(
            text,
            view=view or discord.utils.MISSING,
            ephemeral=True,
            wait=True,
            allowed_mentions=_NOBODY,
        )

    async def clear(self) -> None:
        """Delete the follow-up."""
        if self._message is not None:
            await self._message.delete()


class QueueStatus:
    """Update a target with a request's status while the context lasts.

    A stopped request ends the context without an error, and the target says so. Another error
    clears the target and propagates.

    Args:
        target: The message.
        request: The request.
        wait: See `bot.concurrency.Wait`.
        language: That of the status.
    """

    def __init__(self, target: Target, request: Request, wait: Wait, language: Language) -> None:
        self._language = language
        self._target = target
        self._request = request
        self._wait = wait
        self._editing = asyncio.Lock()
        self._stopped = False

    async def __aenter__(self) -> Self:
        self._updater = asyncio.create_task(self._update())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        replying = self._stopped
        await self.stop()
        if isinstance(error, StoppedError):
            await self._attempt(self._target.update(self._language(STOPPED), None))
            return True
        beside = isinstance(self._target, FollowupTarget)  # others are replaced by the reply
        if isinstance(error, UncertainError) and not beside:
            return False  # the reply may stand in the place of the status: see `clear_away`
        if beside:
            await self._attempt(self._target.clear())
        elif isinstance(error, asyncio.CancelledError):
            if not replying:  # it would replace the reply
                text = self._language(REJECTIONS[Reason.CLOSING])
                await self._attempt(self._target.update(text, None))
        elif error is not None:
            await self._attempt(self._target.clear())
        return False

    async def stop(self) -> None:
        """Stop updating, after an edit in progress: it could arrive after the reply and undo it."""
        self._stopped = True
        async with self._editing:
            self._updater.cancel()

    async def _attempt(self, change: Awaitable[None]) -> None:
        try:
            await change
        except (discord.HTTPException, *NETWORK_ERRORS) as error:
            log.warning("Could not change the status of a request: %s", brief(error))

    async def _update(self) -> None:
        shown = ""
        await self._wait(asyncio.sleep(PATIENCE_SECONDS))
        try:
            while True:
                text = describe(self._request, self._language)
                if text != shown:
                    async with self._editing:
                        label = self._language(STOP)
                        stop = StopButton(label, f"{STOP_ID}{self._request.id}")
                        await self._target.update(text, view_of(stop))
                        shown = text
                await self._wait(asyncio.sleep(EDIT_SECONDS))
        except (discord.HTTPException, *NETWORK_ERRORS) as error:
            log.warning("Could not show the status of a request: %s", brief(error))
        except Exception:  # nobody awaits this task
            log.exception("Could not show the status of a request")


async def clear_away(message: discord.Message, language: Language) -> None:
    """Edit a message that shows the status of a request which has ended; leave any other one.

    The bot was killed, or the answer of Discord to the request's last edit was lost.

    Args:
        message: The message as it is now.
        language: That of the text that replaces the status.

    Raises:
        discord.HTTPException: Discord refuses the edit.
        Exception: One of `NETWORK_ERRORS`.
    """
    if message.flags.loading or shows_status(message):
        await message.edit(content=language(OVER), view=None, allowed_mentions=_NOBODY)


def shows_status(message: discord.Message) -> bool:
    """Return whether a message has a button that stops a request."""
    return any(custom_id.startswith(STOP_ID) for custom_id in custom_ids_of(message))


class StopButton(Button, template=STOP_ID + r"(?P<request>[0-9]+)"):
    """Stop a request that waits or runs; clear away the status of one that has ended."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Stop the request if the person may."""
        request = bard.queue.find(int(self["request"]))
        if request is None:
            await self._clear_away(interaction)
        elif not may_change(interaction, request.user_id):
            await respond(interaction, language_of(interaction)(NOT_YOURS))
        elif not request.stop():
            await respond(interaction, language_of(interaction)(TOO_LATE))
        else:
            await acknowledge_press(interaction)

    @staticmethod
    async def _clear_away(interaction: discord.Interaction[Any]) -> None:
        await acknowledge_press(interaction)
        # Not the message as the person saw it: the reply may have replaced the status meanwhile.
        message = await interaction.original_response()
        if shows_status(message):
            await edit_response(interaction, content=language_of_message(interaction)(OVER))
        else:
            await respond(interaction, language_of(interaction)(TOO_LATE))
