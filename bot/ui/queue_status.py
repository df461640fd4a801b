"""What is seen of a request that takes its time: its place in the line, and a way to stop it."""

import asyncio
import logging
from types import TracebackType
from typing import TYPE_CHECKING, Self

import aiohttp
import discord

from ..core.inference import Wait
from ..core.request_queue import Request
from ..errors import StoppedError
from .components import Button, may_decide, view_of
from .responses import answer

if TYPE_CHECKING:
    from ..client import Bard

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
"""How long a request may take before anything is said of it."""
EDIT_SECONDS = 1.25
"""Discord takes about five edits in five seconds, and the reply is one of them."""

AT_WORK = "I am at work upon your words."
STOPPED = "The scene was stopped. Nothing of this turn is kept."
TOO_LATE = "Too late to stop me: that turn is over, or its reply is on its way."
NOT_YOURS = "Only who asked for this turn, or a moderator, may stop it."


def describe(request: Request) -> str:
    """Return what to tell the person who waits."""
    place = request.position
    return (
        f"You are {_ordinal(place)} in line. A little patience, good friend." if place else AT_WORK
    )


def _ordinal(number: int) -> str:
    teen = number // 10 % 10 == 1
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


class Progress:
    """Shows how an acknowledged request stands, while the context lasts.

    A request that was stopped ends the context quietly, and its message says so. If another
    error ends it, a message that told of progress is removed, for the error has its own answer.

    Args:
        interaction: Acknowledged.
        request: What is told of.
        wait: See `Wait`.
        beside: Tell it to the person alone, in a message of its own, because the interaction's
            message is a reply that stands.
    """

    def __init__(
        self,
        interaction: discord.Interaction["Bard"],
        request: Request,
        wait: Wait,
        *,
        beside: bool = False,
    ) -> None:
        self._interaction = interaction
        self._beside = beside
        self._word: discord.WebhookMessage | None = None
        self._request = request
        self._wait = wait
        self._shown = ""
        self._editing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        await self._end()
        match error:
            case StoppedError():
                await self._edit(STOPPED, None)
                return True
            case Exception() if self._shown and not self._beside:
                await self._remove()
        if self._word is not None:
            await self._remove()
        return False

    async def _remove(self) -> None:
        try:
            if self._word is not None:
                await self._word.delete()
            else:
                await self._interaction.delete_original_response()
        except discord.HTTPException as gone:
            log.warning("Could not remove a word of progress: %s", gone)

    async def replace(
        self, embeds: list[discord.Embed], view: discord.ui.View
    ) -> discord.InteractionMessage:
        """Show a reply in the place of what was told so far, and tell no more."""
        await self._end()
        message = await self._interaction.edit_original_response(
            content=None,
            embeds=embeds,
            view=view,
            allowed_mentions=discord.AllowedMentions.none(),
        )
        self._shown = ""
        return message

    async def _end(self) -> None:
        # An edit that is cut off could arrive after the reply and undo it.
        async with self._editing:
            self._following.cancel()

    async def _follow(self) -> None:
        await self._wait(asyncio.sleep(PATIENCE_SECONDS))
        try:
            while True:
                await self._tell(describe(self._request))
                await self._wait(asyncio.sleep(EDIT_SECONDS))
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            log.warning("Could not tell of progress: %s", error)

    async def _tell(self, text: str) -> None:
        if text == self._shown:
            return
        async with self._editing:
            stop = StopButton("Stop", f"bard:stop:{self._request.id}")
            await self._edit(text, view_of(stop))
            self._shown = text

    async def _edit(self, text: str, view: discord.ui.View | None) -> None:
        nobody = discord.AllowedMentions.none()
        if not self._beside:
            await self._interaction.edit_original_response(
                content=text, view=view, allowed_mentions=nobody
            )
        elif self._word is not None:
            await self._word.edit(content=text, view=view, allowed_mentions=nobody)
        else:
            self._word = await self._interaction.followup.send(
                text,
                view=view or discord.utils.MISSING,
                ephemeral=True,
                wait=True,
                allowed_mentions=nobody,
            )


class StopButton(Button, template=r"bard:stop:(?P<request>[0-9]+)"):
    """Stops a request, waiting or at work; known again after a restart, when it is too late."""

    async def press(self, interaction: discord.Interaction["Bard"]) -> None:
        """Stop the request, if it is the person's to stop."""
        request = interaction.client.queue.find(int(self["request"]))
        if request is None:
            await answer(interaction, TOO_LATE)
        elif not may_decide(interaction, request.user_id):
            await answer(interaction, NOT_YOURS)
        elif not request.stop():
            await answer(interaction, TOO_LATE)
        else:
            await interaction.response.defer()
