"""Receive interactions once, acknowledge them first, and respond where the right people see it."""

import asyncio
import logging
import secrets
import textwrap
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import aiohttp
import discord
from discord import app_commands

from ..bard import Bard
from ..concurrency import Wait
from ..errors import Reason, RejectedError, UncertainError
from ..languages import Language
from ..storage.records import Place
from .hosts import Host
from .localisation import language_of
from .responses import ERROR_ID, error_response, is_from_proxy, rejection_text

log = logging.getLogger(__name__)

T = TypeVar("T")

COG_NAME = "noskgpt_bard"
"""Name of the cog that holds the services."""
PAUSES = (1.0, 4.0, 15.0)
"""Seconds between attempts of a request whose outcome is not known; the library repeats it too."""

CHECK_SECONDS = 0.5
"""Longest time that a check delays an acknowledgement, for which Discord allows 3 s."""

NETWORK_ERRORS = (aiohttp.ClientError, OSError)
"""Errors after which it is not known whether Discord received a request."""

# https://discord.com/developers/docs/topics/opcodes-and-status-codes#json
ALREADY_ACKNOWLEDGED = 40060
UNKNOWN_MESSAGE = 10008
GONE = frozenset({10015, 10062, 50027})
"""Codes for an interaction that Discord no longer knows: acknowledged too late, or expired."""

_KEY = "noskgpt_bard"
_BEGAN = "noskgpt_bard.began"
_NOBODY = discord.AllowedMentions.none()
_LOGGED_CHARS = 300
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


class BardHolder(Protocol):
    """The cog through which components find the services of the client that they belong to."""

    bard: Bard


@dataclass(slots=True)
class Acknowledgement:
    """How an interaction was acknowledged."""

    message_id: int | None = None
    """The message that responds to it; None if it has none, or if Discord did not tell."""
    private: bool = False
    """Whether only the sender sees that message."""
    placeholder: bool = False
    """Whether that message says only that the bot is thinking."""
    editing: bool = False
    """Whether an edit of it has no answer yet: it may say something else by now."""


def find_bard(client: Host) -> Bard | None:
    """Return the services of a client; None unless it has loaded the extension."""
    holder = cast("BardHolder | None", client.get_cog(COG_NAME))
    return None if holder is None else holder.bard


def bard_of(interaction: discord.Interaction[Any]) -> Bard:
    """Return the services of the client that received an interaction.

    Raises:
        RejectedError: They shut down, or the server is none of BARD_GUILDS.
    """
    bard = find_bard(interaction.client)
    if bard is None:
        raise RejectedError(Reason.CLOSING)
    if bard.closing:
        bard.track_current_task()  # the connection stays until the rejection is sent
        raise RejectedError(Reason.CLOSING)
    if not bard.settings.serves(interaction.guild_id):
        bard.track_current_task()
        raise RejectedError(Reason.WRONG_SERVER)
    return bard


def place_of(interaction: discord.Interaction[Any], *, private: bool = False) -> Place:
    """Return the place of an interaction.

    Args:
        interaction: The interaction.
        private: Whether only its sender sees the replies.
    """
    return Place(
        guild_id=interaction.guild_id,
        # A channel of a kind that the library does not know has no id: a scene of its own.
        channel_id=interaction.channel_id or interaction.id,
        parent_id=getattr(interaction.channel, "parent_id", None),
        audience=interaction.user.id if private else 0,
    )


async def handle(
    interaction: discord.Interaction[Any], work: Callable[[Bard], Awaitable[None]]
) -> bool:
    """Do the work for an interaction, and respond to every error; return whether there was none.

    An interaction that Discord delivers again is ignored.
    """
    interaction.extras[_BEGAN] = time.perf_counter()
    try:
        bard = bard_of(interaction)
        bard.locales.note(interaction.user.id, interaction.locale.value)
        if bard.deliveries.is_first(interaction.id):
            bard.track_current_task()
            await work(bard)
    except asyncio.CancelledError:  # by a shutdown that waits no longer
        acknowledgement = _acknowledgement(interaction)
        if acknowledgement is None or (acknowledgement.placeholder and not acknowledgement.editing):
            await respond_to_error(interaction, RejectedError(Reason.CLOSING))
        raise
    except Exception as error:  # noqa: BLE001 - the library or the host would get it
        await respond_to_error(interaction, error)
        return False
    return True


async def look_first(check: Awaitable[object]) -> None:
    """Check a request before its acknowledgement, so that a rejection is its only response.

    The check ends after a moment at the latest, because the acknowledgement must not wait. What
    it checks has to be checked again.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(CHECK_SECONDS):
            await check


async def acknowledge(
    interaction: discord.Interaction[Any], *, private: bool = False
) -> Acknowledgement:
    """Acknowledge an interaction with a message that says that the bot is thinking.

    Args:
        interaction: The interaction.
        private: Whether only its sender shall see the message. Discord may decide so itself.
    """
    acknowledgement = Acknowledgement(private=private, placeholder=True)
    response = await _defer(interaction, ephemeral=private, thinking=True)
    interaction.extras[_KEY] = acknowledgement
    if response is not None:
        acknowledgement.message_id = response.message_id
        acknowledgement.private = private or response.is_ephemeral()
    else:
        with suppress(discord.DiscordException, *NETWORK_ERRORS):
            message = await interaction.original_response()
            acknowledgement.message_id = message.id
            acknowledgement.private = message.flags.ephemeral  # as the host may have decided
    return acknowledgement


async def acknowledge_press(interaction: discord.Interaction[Any]) -> None:
    """Acknowledge the press of a button whose message is about to be edited."""
    await _defer(interaction)
    interaction.extras[_KEY] = Acknowledgement()


async def _defer(
    interaction: discord.Interaction[Any], *, ephemeral: bool = False, thinking: bool = False
) -> discord.InteractionCallbackResponse[Any] | None:
    """Acknowledge; return None if an earlier attempt did it and its answer was lost."""
    for last in (False, True):
        try:
            response = await interaction.response.defer(ephemeral=ephemeral, thinking=thinking)
        except discord.InteractionResponded:
            break  # the host did it
        except discord.HTTPException as error:
            if error.code == ALREADY_ACKNOWLEDGED:
                break
            raise
        except NETWORK_ERRORS:
            if last:
                raise
        else:
            _observe_acknowledgement(interaction)
            return response
    return None


def _observe_acknowledgement(interaction: discord.Interaction[Any]) -> None:
    began = interaction.extras.get(_BEGAN)
    bard = find_bard(interaction.client)
    if began is not None and bard is not None:
        bard.observer.acknowledged(time.perf_counter() - began)


async def edit_response(
    interaction: discord.Interaction[Any],
    *,
    content: str | None = None,
    embeds: list[discord.Embed] | None = None,
    view: discord.ui.View | None = None,
) -> discord.InteractionMessage:
    """Edit the message that responds to an interaction, or the one whose button was pressed."""
    acknowledgement = _acknowledgement(interaction) or Acknowledgement()
    acknowledgement.editing = True
    try:
        message = await interaction.edit_original_response(
            content=content, embeds=embeds or [], view=view, allowed_mentions=_NOBODY
        )
    except discord.HTTPException as error:
        acknowledgement.editing = isinstance(error, discord.DiscordServerError)
        raise
    acknowledgement.editing = acknowledgement.placeholder = False
    return message


async def delete_response(interaction: discord.Interaction[Any]) -> None:
    """Delete the message that responds to an interaction, or the one whose button was pressed."""
    try:
        await interaction.delete_original_response()
    except discord.NotFound as error:
        if error.code in GONE or is_from_proxy(error):
            raise  # not if somebody else has deleted the message
    if (acknowledgement := _acknowledgement(interaction)) is not None:
        acknowledgement.placeholder = False


async def respond(
    interaction: discord.Interaction[Any], text: str, *, view: discord.ui.View | None = None
) -> None:
    """Respond with a text that only the sender of the interaction sees."""
    shown = view or discord.utils.MISSING
    acknowledgement = _acknowledgement(interaction)
    if acknowledgement is None and not interaction.response.is_done():
        await _send_response(interaction, text, shown)
        interaction.extras[_KEY] = Acknowledgement(private=True)
        return
    if acknowledgement is not None and acknowledgement.placeholder:
        if acknowledgement.private:
            await edit_response(interaction, content=text, view=view)
            return
        await _remove_placeholder(interaction, acknowledgement)
    await interaction.followup.send(text, view=shown, ephemeral=True, allowed_mentions=_NOBODY)


async def _send_response(
    interaction: discord.Interaction[Any], text: str, view: discord.ui.View
) -> None:
    """Acknowledge an interaction with a message that only its sender sees."""
    for last in (False, True):
        try:
            await interaction.response.send_message(
                text, view=view, ephemeral=True, allowed_mentions=_NOBODY
            )
        except discord.HTTPException as error:
            # An earlier attempt arrived, and its answer was lost.
            if error.code != ALREADY_ACKNOWLEDGED:
                raise
        except NETWORK_ERRORS:
            if last:
                raise
            continue
        _observe_acknowledgement(interaction)
        return


async def _remove_placeholder(
    interaction: discord.Interaction[Any], acknowledgement: Acknowledgement
) -> None:
    """Replace a placeholder that all see, then delete it.

    The first follow-up would take its place, and be seen by all as that is. Whether it does so
    after a deletion is not documented: without the edit, SimCord 3.2.1 refuses the follow-up.
    """
    failure: Exception | None = None
    try:
        await edit_response(interaction, content=_ELLIPSIS)
    except (discord.HTTPException, *NETWORK_ERRORS) as error:
        failure = error
    try:
        await delete_response(interaction)
    except (discord.HTTPException, *NETWORK_ERRORS) as error:
        failure = error
    if failure is not None and acknowledgement.placeholder:
        raise failure


async def respond_to_error(interaction: discord.Interaction[Any], error: Exception) -> None:
    """Respond to the failure of a command, button or form; log what is unexpected."""
    if isinstance(error, app_commands.CommandInvokeError):
        error = error.original
    if isinstance(error, UncertainError):
        # The message may well stand there. An apology beside it would be wrong.
        log.warning("It is not known whether a message was shown: %s", error.__cause__)
        return
    if isinstance(error, discord.HTTPException) and error.code in GONE:
        log.warning("Discord no longer knows an interaction: %s", brief(error))
        return
    language = language_of(interaction)
    if isinstance(error, RejectedError):
        text = rejection_text(error, language)
    else:
        text = report(error, find_bard(interaction.client), language)
    try:
        await respond(interaction, text)
    except (discord.HTTPException, *NETWORK_ERRORS) as failure:
        log.warning("Could not respond to an interaction: %s", brief(failure))


def report(error: Exception, bard: Bard | None, language: Language) -> str:
    """Log a failure under an id, and return the text of the response, which has the same id."""
    level, text = error_response(error)
    error_id = secrets.token_hex(4)
    trace = error if level >= logging.ERROR else None
    log.log(
        level,
        "Error %s: %s",
        error_id,
        brief(error),
        exc_info=trace,
        extra={"error_id": error_id},
    )
    if bard is not None:
        bard.observer.failed(logging.getLevelName(level).lower())
    return language(ERROR_ID, text=language(text), id=error_id)


async def repeat(request: Callable[[], Awaitable[T]], wait: Wait) -> T:
    """Make a request whose repetition does no harm until its outcome is known.

    Args:
        request: Makes it.
        wait: See `bot.concurrency.Wait`.

    Raises:
        UncertainError: The outcome is still not known after some attempts, or an attempt after
            one without an outcome was refused: the first may have had an effect.
    """
    uncertain = False
    for pause in (*PAUSES, None):
        try:
            return await request()
        except (discord.DiscordServerError, *NETWORK_ERRORS) as error:
            if pause is None:
                raise UncertainError from error
            uncertain = True
        except discord.HTTPException as error:
            if uncertain and error.code != UNKNOWN_MESSAGE:
                raise UncertainError from error
            raise
        await wait(asyncio.sleep(pause))
    raise AssertionError


def brief(error: Exception) -> str:
    """Return what an error of Discord or the network says, on one line, without a page of HTML."""
    text = str(error) or type(error).__name__
    if isinstance(error, app_commands.TransformerError):  # its own text has what the member typed
        text = f"An option is not of the type {error.type.name}"
    if isinstance(error, discord.HTTPException):
        text = f"{error.status} {error.response.reason}"
        # Discord's own errors have a code; a page comes from a proxy before it.
        if error.code:
            text += f", {error.code} {error.text}"
    return textwrap.shorten(text, _LOGGED_CHARS)


def _acknowledgement(interaction: discord.Interaction[Any]) -> Acknowledgement | None:
    return cast("Acknowledgement | None", interaction.extras.get(_KEY))
