"""Give parts in scenes to people, find whose line is awaited, and make speeches of their words.

A part is given up by leaving it, by a moderator, with its scene, or by silence: after some minutes
in which the person's line is awaited, or a day in which the bard does not play in the scene.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from noskgpt.scene import Casts

from ..errors import Reason, RejectedError
from ..storage.parts import Part
from ..storage.records import Place, Turn, TurnRequest
from ..storage.turns import TurnStore
from . import transcript
from .inference import Inference

SILENCE_SECONDS = 600.0
"""Time in which a person's line is awaited."""
IDLE_SECONDS = 86_400.0
"""Time after which parts end in a scene in which the bard does not play."""
NAME_LIMIT = 32
"""Maximum length of a part's name in characters."""


class Parts:
    """The parts that people play in scenes. The channel's lock is held by whoever plays a turn.

    Args:
        turns: The stored turns, with the stored parts.
        inference: The active model, whose alphabet and casts names are compared with.
    """

    def __init__(self, turns: TurnStore, inference: Inference) -> None:
        self._turns = turns
        self._store = turns.parts
        self._inference = inference
        # A time of day that nobody sets back while the process runs.
        self._epoch = time.time() - time.monotonic()

    def _now(self) -> float:
        """Return the time in seconds since 1970 UTC."""
        return self._epoch + time.monotonic()

    async def held(self, place: Place) -> list[Part]:
        """Return the parts that people play in the current scene of a place."""
        return (await self._current(place))[0]

    async def _current(self, place: Place) -> tuple[list[Part], list[Turn]]:
        """Return the parts in the current scene of a place, and its last turn, if there are any."""
        if not self._store.may_have(place):
            return [], []
        scene = await self._turns.scene(place) or 1
        past = await self._turns.tail(place, scene, chars=1)
        return await self.held_in(place, scene, past), past

    async def held_in(self, place: Place, scene: int, past: Sequence[Turn]) -> list[Part]:
        """Return the parts of a scene; delete those that silence has ended.

        Args:
            place: The place of the scene.
            scene: Its number.
            past: The last of its shown turns.
        """
        held = await self._store.held(place, scene)
        awaited, now = awaited_in(held, past), self._now()
        kept = []
        for part in held:
            patience = SILENCE_SECONDS if part is awaited else IDLE_SECONDS
            if now - part.active_at < patience:
                kept.append(part)
            else:
                await self._store.delete(place, part)
        return kept

    async def join(self, place: Place, user_id: int, name: str) -> Part:
        """Give a part to a person, who gives up any other one in the channel; return the part.

        Raises:
            RejectedError: The name is none, another person has the part, or only one person sees
                the scene.
        """
        wanted = await self.require_free(place, user_id, name)
        scene = await self._turns.scene(place) or 1
        part = await self._store.take(place, scene, wanted, user_id, self._now())
        if part.user_id != user_id:
            raise _not_theirs(Reason.PART_TAKEN, part)
        return part

    async def require_free(self, place: Place, user_id: int, name: str) -> str:
        """Return how a part is spelt that a person may take.

        Raises:
            RejectedError: See `join`.
        """
        wanted = self.spell(name)
        if place.audience:
            raise RejectedError(Reason.PARTS_PRIVATE)
        for part in await self.held(place):
            if part.is_named(wanted) and part.user_id != user_id:
                raise _not_theirs(Reason.PART_TAKEN, part)
        return wanted

    async def of(self, place: Place, user_id: int) -> Part:
        """Return a person's part.

        Raises:
            RejectedError: They have none.
        """
        part = part_of(await self.held(place), user_id)
        if part is None:
            raise RejectedError(Reason.NO_PART)
        return part

    async def named(self, place: Place, name: str) -> Part:
        """Return the part with a name.

        Raises:
            RejectedError: Nobody has it.
        """
        wanted = self._fold(name.removesuffix(":"))
        for part in await self.held(place):
            if part.is_named(wanted):
                return part
        raise RejectedError(Reason.PART_FREE)

    async def give_up(self, place: Place, part: Part) -> None:
        """End a part."""
        await self._store.delete(place, part)

    async def require_speaker(self, place: Place, user_id: int, turn: Turn) -> Part:
        """Return a person's part, if a turn ends where it is to speak.

        Args:
            place: The place.
            user_id: The person.
            turn: The turn.

        Raises:
            RejectedError: The part is another person's, or nobody's, or the scene is over.
        """
        if turn.scene != await self._turns.scene(place):
            raise RejectedError(Reason.SCENE_OVER)
        for part in await self.held(place):
            if part.is_named(turn.take.cue):
                if part.user_id != user_id:
                    raise _not_theirs(Reason.PART_TAKEN, part)
                return part
        raise RejectedError(Reason.PART_GIVEN_UP, part=turn.take.cue)

    async def require_turn(self, turn_request: TurnRequest) -> None:
        """Reject a request that `voice` would reject.

        Raises:
            RejectedError: See `voice`.
        """
        if not turn_request.fresh:
            self.voice(turn_request, *await self._current(turn_request.place))

    def voice(
        self, turn_request: TurnRequest, parts: Sequence[Part], past: Sequence[Turn]
    ) -> TurnRequest:
        """Return a request whose prompt is the speech of the person's part, if they have one.

        A prompt that begins with another speaker, and text that is quoted, stay as they are.

        Args:
            turn_request: The request.
            parts: The parts in the scene.
            past: The last turns of the scene.

        Raises:
            RejectedError: The prompt has a line of a part that another person has; or there is no
                prompt, and a person's line is awaited; or the model can read nothing of a line.
        """
        prompt, own = turn_request.prompt, part_of(parts, turn_request.user_id)
        if prompt is None:
            awaited = awaited_in(parts, past)
            if awaited is not None:
                raise _not_theirs(Reason.LINE_AWAITED, awaited)
            return turn_request
        if turn_request.quoted or not parts:
            return turn_request
        speaker = self._speaker(prompt.lstrip().partition("\n")[0])
        if own is not None and (speaker is None or own.is_named(speaker)):
            return replace(turn_request, prompt=self._speech(own, prompt))
        speakers = [self._speaker(line) for line in prompt.split("\n")]
        for part in parts:
            if part is not own and any(map(part.is_named, speakers)):
                raise _not_theirs(Reason.PART_TAKEN, part)
        return turn_request

    def _speech(self, part: Part, prompt: str) -> str:
        """Return the speech of a part that a prompt has; a name alone asks the bard to speak."""
        words = prompt
        while part.is_named(self._speaker(words.lstrip().partition("\n")[0])):
            words = words.partition(":")[2]
        if words is not prompt and not words.strip():
            return prompt
        words = self._words(words)
        if not self._fold(words):
            raise RejectedError(Reason.EMPTY_LINE)
        return transcript.speech(part.name, words)

    def _words(self, text: str) -> str:
        """Return the words of one speech: without blank lines, and without other speakers."""
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        return "\n".join(
            line if self._speaker(line) is None else line.replace(":", ",", 1).rstrip(",")
            for line in lines
        )

    def _speaker(self, line: str) -> str | None:
        """Return the name with which a line begins, in the model's alphabet."""
        name, colon, _ = line.partition(":")
        return transcript.speaker_of(f"{self._fold(name)}{colon}")

    def _fold(self, text: str) -> str:
        return " ".join(self._inference.fold(text)[0].split())

    def spell(self, name: str) -> str:
        """Return the name of a part: as in the plays, else in capitals.

        Raises:
            RejectedError: It is too long, or none that the model can read.
        """
        folded, dropped = self._inference.fold(name.strip().removesuffix(":").upper())
        wanted = " ".join(folded.split())
        if dropped or len(wanted) > NAME_LIMIT or not transcript.is_speaker(f"{wanted}:"):
            raise RejectedError(Reason.PART_NAME, limit=NAME_LIMIT)
        spelt = (known for known in self.casts.names if known.upper() == wanted)
        return next(spelt, wanted)

    @property
    def casts(self) -> Casts:
        """The casts of the plays that the active weights know."""
        return self._inference.model.casts

    async def touch(self, place: Place) -> None:
        """Record that the bard plays in the scene of a place."""
        await self._store.touch(place, self._now())

    async def end(self, place: Place) -> None:
        """End every part in a place."""
        if self._store.may_have(place):
            await self._store.delete_all(place)

    async def delete_idle(self) -> int:
        """Delete the parts of scenes in which the bard has not played; return their number."""
        return await self._store.delete_idle(self._now() - IDLE_SECONDS)


def part_of(parts: Sequence[Part], user_id: int) -> Part | None:
    """Return the part of a person."""
    return next((part for part in parts if part.user_id == user_id), None)


def awaited_in(parts: Sequence[Part], past: Sequence[Turn]) -> Part | None:
    """Return the part whose line is awaited after the last turn of a scene."""
    cue = past[-1].take.cue if past else None
    return next((part for part in parts if part.is_named(cue)), None)


def _not_theirs(reason: Reason, part: Part) -> RejectedError:
    return RejectedError(reason, part=part.name, holder=part.user_id)
