"""What is seen of a request that takes its time: its place in the line, and a way to stop it."""

import asyncio
import logging
import re
from types import TracebackType
from typing import TYPE_CHECKING, Self

import aiohttp
import discord

from bot.admission import is_asker_or_moderator
from bot.errors import StoppedError
from bot.generation import Wait
from bot.queue import Request
from bot.tree import answer, answer_failure

if TYPE_CHECKING:
    from bot.app import Bard

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
    """

    def __init__(
        self, interaction: discord.Interaction["Bard"], request: Request, wait: Wait
    ) -> None:
        self._interaction = interaction
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
            case Exception() if self._shown:
                try:
                    await self._interaction.delete_original_response()
                except discord.HTTPException as gone:
                    log.warning("Could not remove a word of progress: %s", gone)
        return False

    async def replace(self, embeds: list[discord.Embed]) -> discord.InteractionMessage:
        """Show a reply in the place of what was told so far, and tell no more."""
        await self._end()
        message = await self._interaction.edit_original_response(
            content=None,
            embeds=embeds,
            view=None,
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
            view = discord.ui.View(timeout=None).add_item(StopButton(self._request.id))
            await self._edit(text, view)
            self._shown = text

    async def _edit(self, text: str, view: discord.ui.View | None) -> None:
        await self._interaction.edit_original_response(
            content=text, view=view, allowed_mentions=discord.AllowedMentions.none()
        )


class StopButton(
    discord.ui.DynamicItem[discord.ui.Button[discord.ui.View]],
    template=r"bard:stop:(?P<request>[0-9]+)",
):
    """Stops a request, waiting or at work; known again after a restart, when it is too late."""

    def __init__(self, request_id: int) -> None:
        super().__init__(discord.ui.Button(label="Stop", custom_id=f"bard:stop:{request_id}"))
        self._request_id = request_id

    @classmethod
    async def from_custom_id(
        cls,
        _interaction: discord.Interaction["Bard"],  # type: ignore[override]
        _item: discord.ui.Item[discord.ui.View],
        match: re.Match[str],
        /,
    ) -> Self:
        """Return the button that was pressed."""
        return cls(int(match["request"]))

    async def callback(self, interaction: discord.Interaction["Bard"]) -> None:  # type: ignore[override]
        """Stop the request, if it is the person's to stop."""
        try:
            await self._stop(interaction)
        except Exception as error:  # noqa: BLE001 - answered, and logged where nobody foresaw it
            await answer_failure(interaction, error)

    async def _stop(self, interaction: discord.Interaction["Bard"]) -> None:
        request = interaction.client.queue.find(self._request_id)
        if request is None:
            await answer(interaction, TOO_LATE)
        elif not is_asker_or_moderator(interaction, request.user_id):
            await answer(interaction, NOT_YOURS)
        elif not request.stop():
            await answer(interaction, TOO_LATE)
        else:
            await interaction.response.defer()
