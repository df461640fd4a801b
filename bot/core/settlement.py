"""Record which take of a turn each message shows.

A reply that was shown is never forgotten: the turn is stored before its message shows it, and
settled afterwards. An outcome that could not be recorded, because the database was busy, is kept
in memory and recorded before the next turn of the channel. An outcome that is not known, because
Discord's answer got lost, is found out by looking at the message, or by a press of its buttons.
"""

import asyncio
import logging
import weakref
from asyncio import Lock
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from ..concurrency import Wait
from ..errors import Reason, RejectedError, UncertainError
from ..storage.records import Turn
from ..storage.turns import TurnStore
from . import transcript

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Time that a request waits for a look at earlier messages whose outcome is not known."""
CLOSED_SECONDS = 30.0
"""Time between two looks at a message whose channel is closed to the bot. Discord bans a bot that
makes too many requests that it refuses."""

REPEATED_SECONDS = 1.0
"""Time after which a refusal may follow an earlier attempt: the library waits before it repeats a
request by itself."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A message that shows a turn."""

    message_id: int
    audience: int
    """See `Place.audience`."""


class Display(Protocol):
    """The message that is going to show a turn.

    Attributes:
        token: The token of the interaction through which it is sent or edited; None without one.
    """

    token: str | None

    @property
    def message_id(self) -> int | None:
        """Its id; None if it is not known yet."""
        ...

    async def show(self, turn: Turn, dropped: str) -> Shown:
        """Show a turn, and the characters of its prompt that were dropped.

        Raises:
            UncertainError: It is not known whether the message shows it. After any other error
                it does not.
        """
        ...


@dataclass(frozen=True, slots=True)
class MessageRef:
    """A message that is supposed to show a turn, as somebody sees it who presses its button.

    The turn may have been deleted.
    """

    turn_id: int
    message_id: int
    audience: int
    """See `Place.audience`."""
    text: str
    """The reply that it shows."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a look at a message found."""

    text: str | None
    """The reply that it shows; None if it shows none, or cannot be read."""
    readable: bool = True
    """Whether it can be read."""
    closed: bool = False
    """Whether it cannot because its channel is closed to the bot, and may be opened again. Without
    this, later looks at what cannot be read will not find more."""
    message_id: int | None = None
    """The message, if it was found without its id."""


Look = Callable[[Turn], Awaitable[Sighting | None]]
"""Looks at the message of a turn. Returns None if that was not possible this time."""


async def _cannot_look(_turn: Turn) -> Sighting | None:
    return None


class Settlement:
    """Show turns in messages, and settle what each message shows.

    Args:
        turns: The stored turns.
        wait: See `bot.concurrency.Wait`.

    Attributes:
        look: Looks at messages. The Discord-facing code sets it.
    """

    def __init__(self, turns: TurnStore, wait: Wait) -> None:
        self.look: Look = _cannot_look
        self._turns = turns
        self._wait = wait
        # Outcomes that are known and not recorded yet, by turn id.
        self._owed: dict[int, tuple[Turn, Shown]] = {}
        # Ids of the messages that are being sent or edited.
        self._in_progress: set[int] = set()
        # Ids of unsettled turns whose messages cannot be read, and which were never shown before.
        self._unreadable: set[int] = set()
        # When to look again at unsettled turns in closed channels, by turn id.
        self._closed: dict[int, float] = {}
        # Of channels and of messages. A lock lives as long as somebody holds or awaits it.
        self._locks: weakref.WeakValueDictionary[tuple[str, int], Lock]
        self._locks = weakref.WeakValueDictionary()

    @asynccontextmanager
    async def _lock(
        self, kind: Literal["channel", "message"], snowflake: int
    ) -> AsyncIterator[None]:
        """Hold the lock of a channel to play a turn in it, or of a message to change it.

        Code that holds both acquires the channel's first. The kind is part of the key because a
        thread has the id of the message that it belongs to.
        """
        lock = self._locks.setdefault((kind, snowflake), Lock())
        await self._wait(lock.acquire())
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _changing(self, message_id: int | None) -> Iterator[None]:
        """Keep others from looking at a message that is about to show another take."""
        changing = set() if message_id is None else {message_id}
        self._in_progress |= changing
        try:
            yield
        finally:
            self._in_progress -= changing

    async def _show(
        self,
        turn: Turn,
        dropped: str,
        display: Display,
        *,
        before: int | None = None,
        keep_take: bool = False,
    ) -> None:
        """Show a stored turn, and settle its intent: now, or before the channel's next turn.

        Args:
            turn: The turn with the take to show.
            dropped: See `Display.show`.
            display: The message.
            before: See `TurnStore.withdraw`.
            keep_take: See `TurnStore.withdraw`.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            shown = await display.show(turn, dropped)
        except UncertainError:
            # Somebody may have looked for the message while it was being sent.
            self._unreadable.discard(turn.id)
            self._closed.pop(turn.id, None)
            raise
        except Exception:
            sighted = None
            # Not of every refusal of a new reply: there would be twice as many.
            if turn.shown is not None or clock() - began >= REPEATED_SECONDS:
                sighted = await self._shown_nevertheless(turn)
            if sighted is None:
                try:
                    await self._turns.withdraw(turn, before=before, keep_take=keep_take)
                except RejectedError as error:
                    log.warning(
                        "Turn %d is not shown, which is not recorded yet: %s", turn.id, error
                    )
                raise
            shown = sighted
        self._owed[turn.id] = (turn, shown)
        try:
            await self._record_owed(turn.id)
        except RejectedError as error:
            log.warning("Turn %d is shown but not recorded yet: %s", turn.id, error)

    async def _shown_nevertheless(self, turn: Turn) -> Shown | None:
        """Return the message of a take if it shows it, although Discord has refused that.

        The library repeats a request whose answer was an error of Discord's servers, and raises the
        last error alone: an attempt before the refused one may have changed the message.
        """
        if turn.shown == turn.number:
            return None
        sighting = None
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                sighting = await self.look(turn)
        if sighting is None or sighting.text is None:
            return None
        if not transcript.shows_same(sighting.text, turn.reply):
            return None
        message_id = turn.message_id or sighting.message_id
        return None if message_id is None else Shown(message_id, turn.place.audience)

    async def _record_owed(self, turn_id: int) -> None:
        owed = self._owed.get(turn_id)
        if owed is None:
            return  # another task has recorded it
        turn, shown = owed
        await self._turns.show(turn, shown.message_id, shown.audience)
        if self._owed.get(turn_id) is owed:
            del self._owed[turn_id]

    async def _settle_channel(self, channel_id: int) -> None:
        """Record what is owed in a channel, and look at its messages of unknown outcome.

        Raises:
            RejectedError: The database cannot be used.
        """
        await self._record_owed_in(channel_id)
        if unsettled := await self._turns.unsettled(channel_id):
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._look_at(unsettled)

    async def _record_owed_in(self, channel_id: int) -> None:
        for turn, _ in list(self._owed.values()):
            if turn.place.channel_id == channel_id:
                await self._record_owed(turn.id)

    async def record_owed(self) -> None:
        """Record every outcome that is known and not recorded yet.

        Raises:
            RejectedError: The database cannot be used.
        """
        for turn_id in list(self._owed):
            await self._record_owed(turn_id)

    async def settle(self) -> None:
        """Look at every message whose outcome is not known, and record what it shows.

        Those in closed channels whose newest take counts are left to the next turn there.

        Raises:
            RejectedError: The database cannot be used.
        """
        await self.record_owed()
        unsettled = await self._turns.unsettled()
        ids = {turn.id for turn in unsettled}
        self._unreadable &= ids
        self._closed = {turn_id: at for turn_id, at in self._closed.items() if turn_id in ids}
        await self._look_at([turn for turn in unsettled if turn.shown != turn.number])

    async def _look_at(self, unsettled: list[Turn]) -> None:
        for listed in unsettled:
            message_id = listed.message_id
            if message_id in self._in_progress or not self._may_look(listed.id):
                continue
            if message_id is None:
                await self._look_for(listed)
                continue
            async with self._lock("message", message_id):
                turn = await self._turns.intended(listed.id)  # it may be settled meanwhile
                if turn is None:
                    continue
                sighting = await self.look(turn)
                if sighting is None:
                    continue
                if sighting.readable:
                    await self._settle(turn, message_id, turn.place.audience, sighting.text)
                elif sighting.closed:
                    await self._wait_for_opening(turn)
                else:
                    await self._settle_unseen(turn, message_id)

    def _may_look(self, turn_id: int) -> bool:
        """Return whether a look at the message of a turn may find something now."""
        if turn_id in self._unreadable:
            return False
        return asyncio.get_running_loop().time() >= self._closed.get(turn_id, 0.0)

    async def _wait_for_opening(self, turn: Turn) -> None:
        """Keep an intent until its message can be read again, or a button of it is pressed.

        Until then the intended take of a message that showed another one counts, as it does where
        the message can never be read.
        """
        self._closed[turn.id] = asyncio.get_running_loop().time() + CLOSED_SECONDS
        if turn.shown not in {None, turn.number}:
            log.info("The channel of turn %d is closed: its newest take counts for now", turn.id)
            await self._turns.presume(turn)

    async def _look_for(self, turn: Turn) -> None:
        """Look for the message of a turn whose id is not known, and record what it shows.

        That it is not found proves nothing: it may be on its way, or too old to be looked for.
        """
        if turn.shown is not None:
            return  # a simulated message that is gone
        sighting = await self.look(turn)
        if sighting is None:
            return
        if sighting.closed:
            await self._wait_for_opening(turn)
            return
        if sighting.message_id is None:
            self._unreadable.add(turn.id)
            return
        async with self._lock("message", sighting.message_id):
            intended = await self._turns.intended(turn.id)  # it may be settled meanwhile
            if intended is not None:
                await self._settle(
                    intended, sighting.message_id, turn.place.audience, sighting.text
                )

    async def _settle_unseen(self, turn: Turn, message_id: int) -> None:
        """Settle an intent whose message cannot be read, now or later.

        A message that showed another take before shows the intended one most probably: Discord
        received the request for it, unless the connection was lost on the way there. For a new
        message, a press of its button decides; without one, the turn is deleted after a day.
        """
        if turn.shown is None:
            self._unreadable.add(turn.id)
        else:
            log.info("The message of turn %d cannot be read: its newest take counts", turn.id)
            await self._turns.show(turn, message_id)

    async def _settle(
        self, turn: Turn, message_id: int, audience: int, text: str | None
    ) -> Turn | None:
        """Settle an intent, given the reply that the message shows.

        Args:
            turn: The turn with the intended take.
            message_id: The message.
            audience: See `Place.audience`.
            text: The reply; None if the message shows none.

        Returns:
            The turn with the shown take; None if it was never shown.
        """
        if text is None and turn.shown is None:
            await self._turns.withdraw(turn)
            return None
        shown = turn if turn.shown is None else await self._take_with(text, turn)
        if shown is None:
            return None
        await self._turns.show(shown, message_id, audience)
        return replace(shown, shown=shown.number, intent=None, message_id=message_id)

    async def _take_with(self, text: str | None, turn: Turn) -> Turn | None:
        """Return the take with a text: most likely the intended one or the one shown before.

        If no take has it, return the one shown before.
        """
        others = (n for n in range(turn.takes, 0, -1) if n not in {turn.number, turn.shown})
        for number in (turn.number, turn.shown or 1, *others):
            take = await self._turns.take(turn, number)
            if take is not None and text is not None and transcript.shows_same(text, take.reply):
                return take
        return await self._turns.take(turn, turn.shown or 1)

    async def find(self, ref: MessageRef) -> Turn:
        """Return the turn that a message shows.

        A press of the message's button proves that the message shows it. It does not prove which
        take is shown after a change in progress: that turn is returned with its last known take.

        Raises:
            RejectedError: It was deleted.
        """
        turn = await self._stored(ref)
        lock = self._locks.get(("message", ref.message_id))
        changing = lock is not None and lock.locked()
        if turn.intent is None or (changing and turn.shown is not None):
            return turn
        async with self._lock("message", ref.message_id):
            return await self._find(ref)

    async def _find(self, ref: MessageRef) -> Turn:
        """Return the turn that a message shows; the caller holds the message's lock."""
        turn = await self._stored(ref)
        if turn.intent is None:
            return turn  # it was settled meanwhile
        intended = await self._turns.take(turn, turn.intent)
        settled = intended and await self._settle(intended, ref.message_id, ref.audience, ref.text)
        if settled is None:
            raise RejectedError(Reason.TURN_FORGOTTEN)
        return settled

    async def _stored(self, ref: MessageRef) -> Turn:
        """Return the stored turn of a message, with its shown take or, without one, its intent."""
        await self._record_owed(ref.turn_id)
        turn = await self._turns.find(ref.turn_id)
        if turn is None or turn.message_id not in {None, ref.message_id}:
            raise RejectedError(Reason.TURN_FORGOTTEN)
        if turn.message_id is None and turn.intent is None:
            raise RejectedError(Reason.TURN_FORGOTTEN)
        return turn
