"""Play turns: from a request to a stored and shown reply, one turn at a time per channel."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import noskgpt

from ..concurrency import Wait, plain_wait
from ..errors import Reason, RejectedError
from ..storage.deletions import Deletion
from ..storage.guild_settings import Rules
from ..storage.parts import Part
from ..storage.records import Page, Place, Take, Turn, TurnRequest
from ..storage.turns import TurnStore
from . import transcript
from .inference import Inference
from .parts import Parts
from .request_queue import Request
from .settlement import Display, MessageRef, Settlement
from .voices import Voices

CONTEXT_CHARS = 2000
"""Characters of a scene that the model is given. It reads the last 256 at most."""
PAGE_CHARS = 1500
PAGE_TURNS = 5
"""Limits of a page of a scene; a longer turn has a page to itself."""


class Scenes(Settlement):
    """Play, change and read turns. Turns of one channel follow each other; channels do not wait.

    Args:
        turns: The stored turns.
        inference: Generates replies.
        rules: Returns the settings in force in a server; they are read when they bind.
        voices: Lends the models that generate.
        wait: See `bot.concurrency.Wait`.

    Attributes:
        parts: The parts that people play.
    """

    def __init__(
        self,
        turns: TurnStore,
        inference: Inference,
        rules: Callable[[int | None], Rules],
        voices: Voices,
        wait: Wait = plain_wait,
    ) -> None:
        super().__init__(turns, wait)
        self.parts = Parts(turns, inference)
        self._inference = inference
        self._voices = voices
        self._rules = rules

    async def play(self, turn_request: TurnRequest, display: Display, request: Request) -> Turn:
        """Generate a reply, store it, show it, and return its turn.

        Holds the channel's lock from reading the scene until the reply is shown, so that the next
        request continues this one.

        Raises:
            RejectedError: There is no scene to continue, its voice cannot speak, or the line is a
                person's; see `Parts.voice`.
            StoppedError: `request` was stopped before the reply was stored, or the person's turns
                or the place were deleted meanwhile; nothing is stored.
            UncertainError: It is not known whether the reply is shown; the turn is kept.
        """
        place = turn_request.place
        with self._turns.deletions.watch(turn_request) as watch:
            async with request.stoppable(), self._lock("channel", place.channel_id):
                await self._settle_channel(place.channel_id)
                scene, past, parts = await self._read(turn_request)
                if turn_request.prompt is None and not past:
                    raise RejectedError(Reason.NO_SCENE)
                turn_request = self.parts.voice(turn_request, parts, past)
                reply = await self._complete(past, turn_request, request, parts)
                with self._changing(display.message_id):  # before others find the stored turn
                    turn = await self._turns.add(
                        turn_request,
                        reply.take,
                        scene=scene or await self._turns.next_scene(place),
                        max_chars=reply.max_chars,
                        temperature=reply.temperature,
                        message_id=display.message_id,
                        token=display.token,
                        watch=watch,
                    )
                    if parts:
                        await self.parts.touch(place)
                    await self._show(turn, reply.dropped, display)
                    return turn

    async def _read(self, turn_request: TurnRequest) -> tuple[int, list[Turn], list[Part]]:
        """Return the scene of a request, its last turns, and the parts in it.

        The scene is 0 if it is a new one whose number is not known yet.
        """
        place = turn_request.place
        if turn_request.fresh and not self._turns.parts.may_have(place):
            return 0, [], []
        scene = turn_request.scene or await self._turns.scene(place) or 1
        past = await self._turns.tail(place, scene, chars=CONTEXT_CHARS)
        parts = await self.parts.held_in(place, scene, past)
        begun = past or not parts  # parts that were taken before the first turn are kept
        return (0, [], []) if turn_request.fresh and begun else (scene, past, parts)

    async def _complete(
        self,
        past: list[Turn],
        turn_request: TurnRequest,
        request: Request,
        parts: Sequence[Part] = (),
    ) -> "_Reply":
        """Generate what follows turns and a prompt, and commit the request.

        The reply ends where one of the parts is to speak. It does not continue the speech of one.
        """
        wanted = turn_request.voice
        if wanted is None and past:
            wanted = past[-1].take.voice
        until = [part.name for part in parts]
        async with request.worker(), self._voices.lend(wanted, turn_request.place) as speaker:
            lead, dropped = self._lead(turn_request.prompt, speaker.model)
            text = transcript.compose(
                (self._lead(turn.prompt, speaker.model)[0], turn.reply) for turn in past
            )
            context = transcript.join(text, lead)[-CONTEXT_CHARS:]
            opening = ""
            if parts and lead is None:
                opening = transcript.close(context, {name.lower() for name in until})
            # Not earlier: a server's settings may change while the request waits.
            rules = self._rules(turn_request.place.guild_id)
            max_chars = rules.reply_chars(turn_request.max_chars)
            temperature = turn_request.temperature
            if temperature is None:
                temperature = rules.temperature
            completion = await self._inference.generate(
                context + opening,
                max_chars=max_chars,
                temperature=temperature,
                seed=turn_request.seed,
                prompt=lead,
                model=speaker.model,
                until=until,
            )
        request.commit()
        trim = transcript.begin if completion.cue else transcript.finish
        text = trim(completion.text)
        take = Take(
            reply=opening + text,
            cue=completion.cue,
            seed=completion.seed,
            weights=completion.weights,
            seconds=completion.seconds,
            voice=speaker.id,
            voice_name=speaker.name,
            instead_of=speaker.instead_of,
        )
        return _Reply(take, max_chars, temperature, dropped)

    def _lead(
        self, prompt: str | None, model: noskgpt.Generator | None = None
    ) -> tuple[str | None, str]:
        """Return the lead of a prompt in a model's alphabet, and the dropped characters."""
        if prompt is None:
            return None, ""
        folded, dropped = self._inference.fold(prompt, model)
        return transcript.lead(folded), dropped

    async def require_scene(self, place: Place) -> None:
        """Reject a request to continue a scene that there is not.

        Raises:
            RejectedError: Nobody in the channel has a scene there.
        """
        if not await self._turns.has_scene(place.channel_id):
            raise RejectedError(Reason.NO_SCENE)

    async def find_in_scene(self, ref: MessageRef) -> Turn:
        """Return the turn that a message shows if it belongs to the current scene of its place.

        Raises:
            RejectedError: It does not, or it was deleted.
        """
        turn = await self.find(ref)
        if turn.scene != await self._turns.scene(turn.place):
            raise RejectedError(Reason.SCENE_OVER)
        return turn

    async def reroll(
        self, ref: MessageRef, display: Display, request: Request, *, prompt: str | None = None
    ) -> None:
        """Generate another take of a turn from what precedes it, and show it in its place.

        The take is generated from `prompt`, or else from that of the take that is shown. It has the
        voice of that take, and is no longer than the turn's limit and the one in force now. Later
        turns keep their text.

        Raises:
            RejectedError: The turn was deleted, or the prompt has a line of another person's part.
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
                prompt=turn.prompt if prompt is None else prompt,
                max_chars=turn.max_chars,
                temperature=turn.temperature,
                voice=turn.take.voice,
            )
            parts = []
            if turn.scene == await self._turns.scene(turn.place):
                # Not those after `past`: the line that is awaited is after the last turn.
                parts = await self.parts.held(turn.place)
            if prompt is not None:  # the line of a part stays one
                again = self.parts.voice(again, parts, past)
                turn = replace(turn, prompt=again.prompt)
            reply = await self._complete(past, again, request, parts)
            if parts:
                await self.parts.touch(turn.place)
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
            dropped = self._lead(selected.prompt)[1]
            if selected.take.cue:
                await self.parts.touch(turn.place)
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
            await self.parts.end(place)
            scene = await self._turns.scene(place)
            unsettled = await self._turns.unsettled(place.channel_id)
            if await self._turns.tail(place, scene, chars=1) or any(
                turn.place == place for turn in unsettled
            ):
                await self._turns.start_scene(place)
            await self._turns.continuations.end(place)

    async def last_turns(self, place: Place) -> list[Turn]:
        """Return the last turns of a place's current scene as they are shown now, newest last."""
        await self._settle_channel(place.channel_id)
        return await self._turns.tail(place, await self._turns.scene(place), chars=CONTEXT_CHARS)

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
            scene = await self._turns.scene(place) or 1  # also of a thread without turns of its own
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

    async def delete_channel(self, channel_id: int) -> tuple[Deletion, int | None]:
        """Delete every turn of a channel, a turn in progress included.

        Later requests begin a new scene and do not wait for the deletion.

        Returns:
            The deletion, and the number of turns; None if it is recorded and not complete, see
            `DeletionStore.carry_out`.
        """
        async with self._lock("channel", channel_id):
            deletion = await self._turns.deletions.record("channel", channel_id)
        return deletion, await self._turns.deletions.carry_out(deletion)

    async def delete_messages(self, channel_id: int, message_ids: Collection[int]) -> int:
        """Delete the turns of messages that were deleted on Discord; return their number.

        At once, because Discord tells it only once; and again after a turn in progress, whose
        message may be one of them.
        """
        deletions = self._turns.deletions
        in_progress = ("channel", channel_id) in self._locks
        await self._record_owed_in(channel_id)  # a turn may get the id of its message by that
        deleted = await deletions.delete_messages(message_ids)
        if in_progress:
            async with self._lock("channel", channel_id):
                deleted += await deletions.delete_messages(message_ids)
        return deleted


@dataclass(frozen=True, slots=True)
class _Reply:
    """A generated take, the limits that it was generated with, and what it left out."""

    take: Take
    max_chars: int
    temperature: float
    dropped: str
    """Characters of the prompt that the model's alphabet lacks."""
