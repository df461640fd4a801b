"""Play turns: from a request to a stored and shown reply, one turn at a time per channel.

A reply that was shown is never forgotten: the turn is stored before its message shows it, and
settled afterwards. An outcome that could not be recorded, because the database was busy, is kept
in memory and recorded before the next turn of the channel. An outcome that is not known, because
Discord's answer got lost, is found out by looking at the message, or by a press of its buttons.
"""

import asyncio
import logging
import weakref
from asyncio import Lock
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from ..concurrency import Wait, plain_wait
from ..errors import Reason, RejectedError, UncertainError
from ..storage.guild_settings import Rules
from ..storage.records import Page, Place, Take, Turn, TurnRequest
from ..storage.turns import TurnStore
from . import transcript
from .inference import Inference
from .request_queue import Request

log = logging.getLogger(__name__)

CONTEXT_CHARS = 2000
"""Characters of a scene that the model is given. It reads the last 256 at most."""
PAGE_CHARS = 1500
PAGE_TURNS = 5
"""Limits of a page of a scene; a longer turn has a page to itself."""
LOOK_SECONDS = 2.0
"""Time that a request waits for a look at earlier messages whose outcome is not known."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A message that shows a turn."""

    message_id: int
    audience: int
    """See `Place.audience`."""


class Display(Protocol):
    """The message that is going to show a turn.

    Attributes:
        message_id: Its id; None if it is not known yet.
        token: The token of the interaction through which it is sent or edited.
    """

    message_id: int | None
    token: str | None

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
    """Whether it can be read. If not, later looks will not find more."""


Look = Callable[[Turn], Awaitable[Sighting | None]]
"""Looks at the message of a turn. Returns None if that was not possible this time."""


async def _cannot_look(_turn: Turn) -> Sighting | None:
    return None


class Scenes:
    """Play, change and read turns. Turns of one channel follow each other; channels do not wait.

    Args:
        turns: The stored turns.
        inference: Generates replies.
        rules: Returns the settings in force in a server; they are read when they bind.
        wait: See `bot.concurrency.Wait`.

    Attributes:
        look: Looks at messages. The Discord-facing code sets it.
    """

    def __init__(
        self,
        turns: TurnStore,
        inference: Inference,
        rules: Callable[[int | None], Rules],
        wait: Wait = plain_wait,
    ) -> None:
        self.look: Look = _cannot_look
        self._turns = turns
        self._inference = inference
        self._rules = rules
        self._wait = wait
        # Outcomes that are known and not recorded yet, by turn id.
        self._owed: dict[int, tuple[Turn, Shown]] = {}
        # Ids of the turns whose messages are being sent or edited.
        self._in_progress: set[int] = set()
        # Ids of unsettled turns whose messages cannot be read, and which were never shown before.
        self._unreadable: set[int] = set()
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

    async def play(self, turn_request: TurnRequest, display: Display, request: Request) -> Turn:
        """Generate a reply, store it, show it, and return its turn.

        Holds the channel's lock from reading the scene until the reply is shown, so that the next
        request continues this one.

        Raises:
            RejectedError: There is no scene to continue.
            StoppedError: `request` was stopped before the reply was stored, or the person's turns
                or the place were deleted meanwhile; nothing is stored.
            UncertainError: It is not known whether the reply is shown; the turn is kept.
        """
        place = turn_request.place
        with self._turns.deletions.watch(turn_request) as watch:
            async with request.stoppable(), self._lock("channel", place.channel_id):
                await self._settle_channel(place.channel_id)
                scene = await self._turns.scene(place)
                past: list[Turn] = []
                if not turn_request.fresh:
                    past = await self._turns.tail(place, scene, chars=CONTEXT_CHARS)
                if turn_request.prompt is None and not past:
                    raise RejectedError(Reason.NO_SCENE)
                reply = await self._complete(past, turn_request, request)
                turn = await self._turns.add(
                    turn_request,
                    reply.take,
                    scene=await self._turns.next_scene(place) if turn_request.fresh else scene or 1,
                    max_chars=reply.max_chars,
                    temperature=reply.temperature,
                    message_id=display.message_id,
                    token=display.token,
                    watch=watch,
                )
                await self._show(turn, reply.dropped, display)
                return turn

    async def _complete(
        self, past: list[Turn], turn_request: TurnRequest, request: Request
    ) -> "_Reply":
        """Generate what follows turns and a prompt, and commit the request."""
        lead, dropped = self._lead(turn_request.prompt)
        text = transcript.compose((self._lead(turn.prompt)[0], turn.reply) for turn in past)
        context = transcript.join(text, lead)[-CONTEXT_CHARS:]
        async with request.worker():
            # Not earlier: a server's settings may change while the request waits.
            rules = self._rules(turn_request.place.guild_id)
            max_chars = rules.reply_chars(turn_request.max_chars)
            temperature = turn_request.temperature
            if temperature is None:
                temperature = rules.temperature
            completion = await self._inference.generate(
                context,
                max_chars=max_chars,
                temperature=temperature,
                seed=turn_request.seed,
                prompt=lead,
            )
        request.commit()
        take = Take(
            reply=transcript.finish(completion.text),
            seed=completion.seed,
            weights=completion.weights,
            seconds=completion.seconds,
        )
        return _Reply(take, max_chars, temperature, dropped)

    def _lead(self, prompt: str | None) -> tuple[str | None, str]:
        """Return the lead of a prompt in the model's alphabet, and the dropped characters."""
        if prompt is None:
            return None, ""
        folded, dropped = self._inference.fold(prompt)
        return transcript.lead(folded), dropped

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
        self._in_progress.add(turn.id)
        try:
            shown = await display.show(turn, dropped)
        except UncertainError:
            raise
        except Exception:
            try:
                await self._turns.withdraw(turn, before=before, keep_take=keep_take)
            except RejectedError as error:
                log.warning("Turn %d is not shown, which is not recorded yet: %s", turn.id, error)
            raise
        finally:
            self._in_progress.discard(turn.id)
        self._owed[turn.id] = (turn, shown)
        try:
            await self._record_owed(turn.id)
        except RejectedError as error:
            log.warning("Turn %d is shown but not recorded yet: %s", turn.id, error)

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

        Raises:
            RejectedError: The database cannot be used.
        """
        await self.record_owed()
        unsettled = await self._turns.unsettled()
        self._unreadable &= {turn.id for turn in unsettled}
        await self._look_at(unsettled)

    async def _look_at(self, unsettled: list[Turn]) -> None:
        for listed in unsettled:
            message_id = listed.message_id
            if message_id is None or listed.id in self._unreadable:
                continue
            async with self._lock("message", message_id):
                turn = await self._turns.intended(listed.id)  # it may be settled meanwhile
                if turn is None or turn.id in self._in_progress:
                    continue
                sighting = await self.look(turn)
                if sighting is None:
                    continue
                if sighting.readable:
                    await self._settle(turn, message_id, turn.place.audience, sighting.text)
                else:
                    await self._settle_unseen(turn, message_id)

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

    async def require_scene(self, place: Place) -> None:
        """Reject a request to continue a scene that there is not.

        Raises:
            RejectedError: Nobody in the channel has a scene there.
        """
        if not await self._turns.has_scene(place.channel_id):
            raise RejectedError(Reason.NO_SCENE)

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

    async def find_in_scene(self, ref: MessageRef) -> Turn:
        """Return the turn that a message shows if it belongs to the current scene of its place.

        Raises:
            RejectedError: It does not, or it was deleted.
        """
        turn = await self.find(ref)
        if turn.scene != await self._turns.scene(turn.place):
            raise RejectedError(Reason.SCENE_OVER)
        return turn

    async def reroll(self, ref: MessageRef, display: Display, request: Request) -> None:
        """Generate another take of a turn from what precedes it, and show it in its place.

        The take is no longer than the turn's limit and the one in force now. Later turns keep
        their text.

        Raises:
            RejectedError: The turn was deleted.
            StoppedError: `request` was stopped before the take was stored; nothing is stored.
            UncertainError: It is not known whether the take is shown; it is kept.
        """
        channel_id = (await self.find(ref)).place.channel_id
        async with request.stoppable(), self._lock("channel", channel_id):
            await self._settle_channel(channel_id)
            turn = await self._stored(ref)
            past = await self._turns.tail(
                turn.place, turn.scene, chars=CONTEXT_CHARS, before=turn.id
            )
            again = TurnRequest(
                place=turn.place,
                user_id=turn.user_id,
                prompt=turn.prompt,
                max_chars=turn.max_chars,
                temperature=turn.temperature,
            )
            reply = await self._complete(past, again, request)
            async with self._lock("message", ref.message_id):
                before = (await self._stored(ref)).intent
                taken = await self._turns.add_take(turn, reply.take, display.token)
                if taken is None:
                    raise RejectedError(Reason.TURN_FORGOTTEN)
                await self._show(taken, reply.dropped, display, before=before)

    async def select_take(self, ref: MessageRef, number: int, display: Display) -> None:
        """Show another take of a turn, which becomes part of the scene.

        Does not wait for a turn in progress; that turn continues from the take that was shown
        when it started.

        Raises:
            RejectedError: The turn was deleted, or the take does not exist.
            UncertainError: It is not known which take is shown.
        """
        await self.find(ref)
        async with self._lock("message", ref.message_id):
            turn = await self._stored(ref)
            selected = await self._turns.take(turn, number)
            if selected is None or not await self._turns.intend(selected, display.token):
                raise RejectedError(Reason.TURN_FORGOTTEN)
            dropped = self._lead(turn.prompt)[1]
            await self._show(selected, dropped, display, before=turn.intent, keep_take=True)

    async def delete(self, ref: MessageRef, delete_message: Callable[[], Awaitable[None]]) -> None:
        """Delete a turn, then its message.

        In this order, because words that somebody wants gone must not outlast their message. Does
        not wait for a turn in progress.
        """
        async with self._lock("message", ref.message_id):
            self._owed.pop(ref.turn_id, None)
            await self._turns.deletions.delete(ref.turn_id)
            await delete_message()

    async def end(self, place: Place) -> None:
        """End the place's scene: the next request starts a new one."""
        async with self._lock("channel", place.channel_id):
            await self._settle_channel(place.channel_id)
            scene = await self._turns.scene(place)
            unsettled = await self._turns.unsettled(place.channel_id)
            if await self._turns.tail(place, scene, chars=1) or any(
                turn.place == place for turn in unsettled
            ):
                await self._turns.start_scene(place)

    async def read_by(self, place: Place, user_id: int, *, look: bool = True) -> Place:
        """Return the place of the newest turn that a person sees in a channel.

        Where Discord shows replies to one person alone, that is a place of their own.

        Args:
            place: The channel.
            user_id: The person.
            look: Whether to look at messages of unknown outcome first, which takes a moment.
        """
        with suppress(RejectedError):  # what is stored can be read nevertheless
            if look:
                await self._settle_channel(place.channel_id)
            else:
                await self._record_owed_in(place.channel_id)
        own = replace(place, audience=user_id)
        newest = {}
        for seen in (place, own):
            turns = await self._turns.tail(seen, await self._turns.scene(seen), chars=1)
            newest[turns[-1].id if turns else 0] = seen
        return newest.get(max(newest), place) if max(newest) else place

    async def page(
        self, place: Place, *, scene: int | None = None, before: int | None = None, after: int = 0
    ) -> Page:
        """Return a page of a scene; by default the last one of the current scene.

        Args:
            place: The place.
            scene: Number of the scene; None selects the current one.
            before: Return the page that ends before the turn with this id.
            after: Return the page that starts after the turn with this id.

        Raises:
            RejectedError: The scene has no turns.
        """
        if scene is None:
            scene = await self._turns.scene(place)
        limits = {"turns": PAGE_TURNS, "chars": PAGE_CHARS}
        page = None
        if before is not None:
            page = await self._turns.page(place, scene, before=before, **limits)
        elif after:
            page = await self._turns.page(place, scene, after=after, **limits)
        if page is None or not page.turns:  # turns may have been deleted since it was opened
            page = await self._turns.page(place, scene, **limits)
        if not page.turns:
            raise RejectedError(Reason.NOTHING_TO_READ)
        return page

    async def script(self, place: Place) -> AsyncIterator[list[tuple[int, str]]]:
        """Yield the current scene in pieces: of each turn, its requester and its text.

        The texts, joined, are the scene.

        Raises:
            RejectedError: The scene has no turns.
        """
        composer = transcript.Composer()
        empty = True
        async for turns in self._turns.script(place, await self._turns.scene(place)):
            empty = False
            yield [
                (
                    turn.user_id,
                    composer.add(turn.prompt and transcript.lead(turn.prompt), turn.reply),
                )
                for turn in turns
            ]
        if empty:
            raise RejectedError(Reason.NOTHING_TO_READ)

    async def delete_channel(self, channel_id: int, *, gone: bool = False) -> int | None:
        """Delete every turn of a channel, a turn in progress included; return their number.

        Later requests begin a new scene and do not wait for the deletion.

        Args:
            channel_id: The channel.
            gone: Whether the channel itself was deleted.

        Returns:
            None if the deletion is recorded and not complete; see `DeletionStore.carry_out`.
        """
        async with self._lock("channel", channel_id):
            deletion = await self._turns.deletions.record("channel", channel_id, gone=gone)
        deleted = await self._turns.deletions.carry_out(deletion)
        if gone:
            await self._turns.deletions.resume()  # those of its threads
        return deleted

    async def delete_messages(self, channel_id: int, message_ids: Collection[int]) -> int:
        """Delete the turns of messages that were deleted on Discord; return their number.

        Waits for a turn in progress: its message may be one of them.
        """
        async with self._lock("channel", channel_id):
            return await self._turns.deletions.delete_messages(message_ids)


@dataclass(frozen=True, slots=True)
class _Reply:
    """A generated take, the limits that it was generated with, and what it left out."""

    take: Take
    max_chars: int
    temperature: float
    dropped: str
    """Characters of the prompt that the model's alphabet lacks."""
