"""Tell somebody who wrote a message why they get no reply: seldom, and not for long."""

import asyncio
import logging
import time

import discord

from ..bard import Bard
from ..errors import Reason, RejectedError, UncertainError
from .interactions import NETWORK_ERRORS, brief, report
from .localisation import language_of_answer
from .responses import HOW_TO_TALK, MAY_NOT_SHOW, is_from_proxy, rejection_text

log = logging.getLogger(__name__)

NOTICE_SECONDS = 8.0
"""Time after which a notice that soon means nothing is deleted."""
CLOSING_SECONDS = 2.0
"""The same for a notice that is sent while the bard shuts down, which waits for that."""
PERIOD_SECONDS = 60.0
"""Time between two notices to a person in a channel."""

SILENT = frozenset(
    {
        Reason.WRONG_CHANNEL,
        Reason.WRONG_SERVER,
        Reason.BLOCKED,
        Reason.ROLE_DENIED,
        Reason.ROLE_MISSING,
    }
)
"""Reasons that are told in direct messages alone: others have not asked for them."""
TRANSIENT = frozenset(
    {
        Reason.CLOSING,
        Reason.COOLDOWN,
        Reason.TOO_MANY_REQUESTS,
        Reason.QUEUE_FULL,
        Reason.MEMORY_BUSY,
    }
)
"""Reasons whose notice is deleted after a moment."""

_REMEMBERED = 10_000
_NOBODY = discord.AllowedMentions.none()
_Key = tuple[int, int]


class Notices:
    """Send notices: to a person in a channel one a minute at most.

    Args:
        bard: The services.
    """

    def __init__(self, bard: Bard) -> None:
        self._bard = bard
        # Time of the last notice, and those who got advice that is given once, by person and
        # channel.
        self._last: dict[_Key, float] = {}
        self._told: dict[_Key, None] = {}
        self._transient: dict[int, tuple[asyncio.TimerHandle, discord.Message]] = {}
        bard.before_drain(self.hasten)

    def hasten(self) -> None:
        """Delete the notices that are to be deleted, now."""
        for timer, message in list(self._transient.values()):
            timer.cancel()
            self._start_deletion(message)

    async def explain(self, asked: discord.Message, error: Exception, me: str) -> None:
        """Tell the sender of a message why it failed, as far as they may and need to know.

        Args:
            asked: The message.
            error: Why it failed.
            me: The bot's name.
        """
        if isinstance(error, UncertainError):
            # The message may well stand there. An apology beside it would be wrong.
            log.warning("It is not known whether a message was shown: %s", error.__cause__)
            return
        language = language_of_answer(asked, self._bard)
        if not isinstance(error, RejectedError):
            text = report(error, self._bard, language)
            forbidden = isinstance(error, discord.Forbidden) and not is_from_proxy(error)
            await self.send(asked, language(MAY_NOT_SHOW) if forbidden else text)
            return
        if error.reason in SILENT and asked.guild is not None:
            return
        text = rejection_text(error, language)
        if error.reason is Reason.NO_SCENE:
            text = language(HOW_TO_TALK, name=me)
        await self.send(asked, text, transient=error.reason in TRANSIENT)

    async def send(self, asked: discord.Message, text: str, *, transient: bool = False) -> None:
        """Send a notice as a reply to a message, unless its sender has just got one there.

        Args:
            asked: The message.
            text: The notice.
            transient: Whether it is deleted after a moment.
        """
        key, now = _key(asked), time.monotonic()
        if now < self._last.get(key, -PERIOD_SECONDS) + PERIOD_SECONDS:
            return
        _trim(self._last)
        self._last[key] = now
        reference = asked.to_reference(fail_if_not_exists=False)
        try:
            message = await asked.channel.send(
                text, reference=reference, allowed_mentions=_NOBODY, nonce=f"{asked.id}n"
            )
        except (discord.HTTPException, *NETWORK_ERRORS) as error:
            log.info("Could not tell why a message gets no reply: %s", brief(error))
            return
        if not transient:
            return
        if self._bard.closing:
            await self._bard.wait(asyncio.sleep(CLOSING_SECONDS))
            await _delete(message)
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(NOTICE_SECONDS, self._start_deletion, message)
        self._transient[message.id] = (timer, message)

    async def advise_once(self, asked: discord.Message, text: str) -> None:
        """Send a notice that a person gets once in a channel, as long as the bot runs."""
        key = _key(asked)
        if key not in self._told:
            _trim(self._told)
            self._told[key] = None
            await self.send(asked, text)

    def _start_deletion(self, message: discord.Message) -> None:
        self._transient.pop(message.id, None)
        self._bard.track(asyncio.create_task(_delete(message)))


async def _delete(message: discord.Message) -> None:
    try:
        await message.delete()
    except (discord.HTTPException, *NETWORK_ERRORS) as error:
        log.info("Could not delete a notice: %s", brief(error))


def _key(asked: discord.Message) -> _Key:
    return asked.author.id, asked.channel.id


def _trim(remembered: dict[_Key, float] | dict[_Key, None]) -> None:
    """Make room for one more; the oldest goes."""
    if len(remembered) >= _REMEMBERED:
        del remembered[next(iter(remembered))]
