"""Log in to Discord: again and again for what waiting can mend, an error for what it cannot."""

import asyncio
import logging
import random
from http import HTTPStatus

import discord

from ..client import EXTENSION, BardClient
from ..errors import StartupError
from ..ui.interactions import NETWORK_ERRORS, brief
from ..ui.responses import is_from_proxy

log = logging.getLogger(EXTENSION)

FIRST_SECONDS, LONGEST_SECONDS = 5.0, 300.0
"""First and longest pause between two attempts; each is twice the one before."""
_JITTER = 0.2
"""Part of a pause by which it is longer or shorter, so that bots do not come back at once."""
_LONGEST_DEMAND = 3600.0
"""Longest pause that an answer of Discord can ask for, in seconds."""
_SERVER_ERRORS = 500
"""The HTTP statuses from here on are errors of the server."""

TOKEN_REJECTED = (
    "Discord rejected the token in DISCORD_TOKEN: copy it again from "  # noqa: S105 - a message
    "https://discord.com/developers/applications, Bot, Reset Token"
)

PERMISSIONS = discord.Permissions(
    view_channel=True,
    send_messages=True,
    send_messages_in_threads=True,
    create_public_threads=True,
    embed_links=True,
    attach_files=True,
    read_message_history=True,
)
"""What the bot needs in a server: replies, the end of a training run, a look at both, threads."""


class UnreachableError(Exception):
    """Discord cannot be reached at the moment; the message says why.

    Args:
        message: A phrase.
        seconds: The pause that Discord asks for.
    """

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


def invite_link(application_id: int) -> str:
    """Return the address at which a server's manager adds the bot."""
    return discord.utils.oauth_url(
        application_id, permissions=PERMISSIONS, scopes=("bot", "applications.commands")
    )


async def log_in(bot: BardClient, token: str) -> None:
    """Log in and register the commands, however long Discord cannot be reached.

    Raises:
        StartupError: Discord rejects the token or the commands.
    """
    pause = FIRST_SECONDS
    while True:
        try:
            await _attempt(bot, token)
        except UnreachableError as error:
            drawn = pause * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
            seconds = max(drawn, min(error.seconds, _LONGEST_DEMAND))
            log.warning("%s. Trying again in %.0f s", error, seconds)
            await _forget_session(bot)
            await asyncio.sleep(seconds)
            pause = min(2 * pause, LONGEST_SECONDS)
        else:
            assert bot.application_id is not None  # noqa: S101 - known since the login
            log.info("Invite the bot: %s", invite_link(bot.application_id))
            return


async def _attempt(bot: BardClient, token: str) -> None:
    """Log in once.

    Raises:
        UnreachableError: It may succeed later.
        StartupError: It will not.
    """
    try:
        await bot.login(token)
    except discord.LoginFailure as error:
        raise StartupError(TOKEN_REJECTED) from error
    except NETWORK_ERRORS as error:
        raise UnreachableError(
            f"Cannot reach Discord ({brief(error)}): check this machine's network"
        ) from error
    except discord.HTTPException as error:
        busy = error.status == HTTPStatus.TOO_MANY_REQUESTS or error.status >= _SERVER_ERRORS
        if busy or is_from_proxy(error):
            raise UnreachableError(
                f"Discord does not let the bot in at the moment ({brief(error)})",
                _demanded(error),
            ) from error
        raise StartupError(f"Discord rejected the login or the commands: {brief(error)}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        log.debug("Could not read Discord's answer", exc_info=True)
        raise UnreachableError(
            "Cannot read Discord's answer to the login: is there a portal or a proxy between "
            "this machine and Discord?"
        ) from error


def _demanded(error: discord.HTTPException) -> float:
    """Return the seconds that an answer asks the bot to wait; 0 if it asks for nothing."""
    try:
        return float(error.response.headers.get("Retry-After", 0))
    except ValueError:
        return 0.0


async def _forget_session(bot: BardClient) -> None:
    """Close the library's HTTP session, of which each login makes a new one."""
    await bot.http.close()
    bot.http.connector = discord.utils.MISSING
