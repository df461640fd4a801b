"""Send and edit the message of a training run."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import discord

from ..errors import RejectedError
from ..languages import Language, Text
from ..storage.runs import Run, RunStore
from .embeds import one_line
from .hosts import Host
from .interactions import NETWORK_ERRORS
from .localisation import language_of
from .responses import is_from_proxy

ANSWER_SECONDS = 20.0
"""Time after which a request is given up: the library sleeps inside it on a rate limit."""

SHOWN_BELOW = Text("The run has started. The message below shows it.")

CHART_ALT = Text("A chart of the training loss and the held-out loss over the steps of the run.")
# Codes for a token that Discord no longer accepts.
_TOKEN_OVER = frozenset({10015, 10062, 50027})
_TOO_MANY_EDITS = 30046
# The bot may lack the permission to attach files alone, or the server may limit their size.
_FILE_REFUSED = (HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
TRANSIENT = (
    *(discord.HTTPException, discord.RateLimited, *NETWORK_ERRORS),
    RejectedError,
)
"""Errors after which another attempt may succeed; a refusal for good is a `RefusedError`."""


class RefusedError(Exception):
    """Discord refuses a request, and would refuse it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a message of a run shows."""

    text: str
    language: Language
    view: discord.ui.View | None = None
    chart: bytes | None = None

    def of_edit(self) -> dict[str, Any]:
        """Return the arguments that replace the content of a message."""
        files = []
        if self.chart is not None:
            files = [
                discord.File(
                    io.BytesIO(self.chart), "losses.png", description=self.language(CHART_ALT)
                )
            ]
        return {
            "content": self.text,
            "attachments": files,
            "view": self.view,
            "allowed_mentions": discord.AllowedMentions.none(),
        }

    def of_new(self) -> dict[str, Any]:
        """Return the arguments that send a new message."""
        arguments = self.of_edit()
        arguments["files"] = arguments.pop("attachments")
        if self.view is None:
            del arguments["view"]
        return arguments


class RunMessage:
    """The message of a run, edited through its interaction's token and then through its channel.

    Args:
        client: Sends the requests.
        runs: Where the message's id is stored.
        run: The run.
        interaction: Acknowledged, its response is the message. None if only the stored id is known.
        private: Whether it was acknowledged for the sender alone: the message is then a follow-up.
    """

    def __init__(
        self,
        client: Host,
        runs: RunStore,
        run: Run,
        interaction: discord.Interaction[Any] | None = None,
        *,
        private: bool = False,
    ) -> None:
        self._client = client
        self._runs = runs
        self._run = run
        self._interaction = interaction
        self._private = private
        self._place: tuple[int, int] | None = None
        """Its channel and id."""
        if run.channel_id is not None and run.message_id is not None:
            self._place = run.channel_id, run.message_id
        self._refusal: str | None = None
        self._unanswered = 0

    @property
    def stalls(self) -> bool:
        """Whether the last two edits had no answer: the library may sleep on a rate limit."""
        return self._unanswered > 1

    async def edit(self, content: Content) -> None:
        """Show a content.

        Raises:
            RefusedError: Discord does not let the message be edited, now or at an earlier call.
            Exception: One of `TRANSIENT`.
        """
        if self._refusal is not None:
            raise RefusedError(self._refusal)
        try:
            await request(self._edit, content)
        except RefusedError as error:
            self._refusal = str(error)
            raise
        except TimeoutError:
            self._unanswered += 1
            raise
        self._unanswered = 0

    async def _edit(self, content: Content) -> None:
        if self._interaction is not None:
            try:
                message = await self._edit_by_token(self._interaction, content)
            except discord.HTTPException as error:
                # Discord decides when a token is over: the clock here may be wrong.
                if error.status != HTTPStatus.UNAUTHORIZED and error.code not in _TOKEN_OVER:
                    raise
                self._interaction = None
            else:
                if self._place is None:
                    await self._runs.set_message(self._run.id, message.channel.id, message.id)
                    self._place = message.channel.id, message.id
                return
        if self._place is None:
            raise RefusedError("its message is not known")
        channel_id, message_id = self._place
        channel = self._client.get_partial_messageable(channel_id, guild_id=self._run.guild_id)
        await channel.get_partial_message(message_id).edit(**content.of_edit())

    async def _edit_by_token(
        self, interaction: discord.Interaction[Any], content: Content
    ) -> discord.Message:
        if not self._private:
            return await interaction.edit_original_response(**content.of_edit())
        if self._place is not None:
            return await interaction.followup.edit_message(self._place[1], **content.of_edit())
        # A follow-up before this would become the response, and as private as it is.
        nobody = discord.AllowedMentions.none()
        text = language_of(interaction)(SHOWN_BELOW)
        await interaction.edit_original_response(content=text, allowed_mentions=nobody)
        return await interaction.followup.send(**content.of_new(), wait=True)


async def request(way: Callable[[Content], Awaitable[None]], content: Content) -> None:
    """Make a request with a content; without its chart if Discord does not accept that.

    Raises:
        RefusedError: Discord refuses the request, and would refuse it again.
        Exception: One of `TRANSIENT`.
    """
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await way(content)
    except TimeoutError:
        raise TimeoutError(f"no answer within {ANSWER_SECONDS:g} s") from None
    except discord.HTTPException as error:
        if content.chart is not None and error.status in _FILE_REFUSED:
            await request(way, replace(content, chart=None))
        elif _is_final(error):
            raise RefusedError(describe(error)) from error
        else:
            raise


def _is_final(error: discord.HTTPException) -> bool:
    """Return whether Discord would refuse the same request again."""
    status = HTTPStatus
    waiting = (status.UNAUTHORIZED, status.REQUEST_TIMEOUT, status.TOO_MANY_REQUESTS)
    transient = error.status in waiting or error.status >= status.INTERNAL_SERVER_ERROR
    transient = transient or is_from_proxy(error)
    return error.code == _TOO_MANY_EDITS or not transient


def describe(error: BaseException) -> str:
    """Return what an error says, in a short line."""
    return one_line(str(error) or type(error).__name__, 200)
