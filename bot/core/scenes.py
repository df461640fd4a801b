"""Play turns: from a request to a stored and shown reply, one turn at a time per channel."""

import weakref
from asyncio import Lock
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from ..concurrency import Threads, Wait, plain_wait
from ..errors import Reason, RejectedError
from ..storage.turns import Turn, TurnRequest, TurnStore
from . import transcript
from .inference import Completion, Inference
from .request_queue import Request

CONTEXT_CHARS = 2000
"""Characters of a scene that the model is given. It reads the last 256 at most."""
PAGE_CHARS = 1500
PAGE_TURNS = 5
"""Limits of a page of a scene; a longer turn has a page to itself."""

Show = Callable[[Turn, str], Awaitable[int]]
"""Sends a turn, given the characters of its prompt that were dropped; returns the message's id."""


@dataclass(frozen=True, slots=True)
class MessageRef:
    """A message that is supposed to show a turn. The turn may have been deleted."""

    turn_id: int
    channel_id: int
    message_id: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a scene with its turns, oldest first."""

    scene: int
    turns: list[Turn]
    number: int
    """From 1."""
    count: int
    """Number of pages."""


class Scenes:
    """Play, change and read turns. Turns of one channel follow each other; channels do not wait.

    Args:
        turns: The stored turns.
        inference: Generates replies.
        threads: Runs the composition of long scripts.
        wait: See `bot.concurrency.Wait`.
    """

    def __init__(
        self,
        turns: TurnStore,
        inference: Inference,
        threads: Threads,
        wait: Wait = plain_wait,
    ) -> None:
        self._turns = turns
        self._inference = inference
        self._threads = threads
        self._wait = wait
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

    async def play(self, turn_request: TurnRequest, show: Show, request: Request) -> Turn:
        """Generate a reply, store it, show it, and return its turn.

        Holds the channel's lock from reading the scene until the reply is shown, so that the next
        request continues this one.

        Raises:
            RejectedError: There is no scene to continue.
            StoppedError: `request` was stopped before the reply was stored; nothing is stored.
        """
        async with request.stoppable(), self._lock("channel", turn_request.channel_id):
            scene = await self._turns.scene(turn_request.channel_id)
            past: list[Turn] = []
            if not turn_request.fresh:
                past = await self._turns.tail(turn_request.channel_id, scene, chars=CONTEXT_CHARS)
            if turn_request.prompt is None and not past:
                raise RejectedError(Reason.NO_SCENE)
            completion, dropped = await self._complete(
                past,
                turn_request.prompt,
                turn_request.max_chars,
                turn_request.temperature,
                turn_request.seed,
                request,
            )
            turn = await self._turns.add(
                turn_request,
                scene=scene + 1 if turn_request.fresh or not scene else scene,
                reply=transcript.finish(completion.text),
                seed=completion.seed,
                weights=completion.weights,
                seconds=completion.seconds,
            )
            await self._turns.show(turn, await show(turn, dropped))
            return turn

    async def _complete(
        self,
        past: list[Turn],
        prompt: str | None,
        max_chars: int,
        temperature: float,
        seed: int | None,
        request: Request,
    ) -> tuple[Completion, str]:
        """Generate what follows turns and a prompt, and commit the request.

        Returns:
            The completion, and the characters of the prompt that were dropped.
        """
        lead, dropped = self._lead(prompt)
        text = transcript.compose((self._lead(turn.prompt)[0], turn.reply) for turn in past)
        context = transcript.join(text, lead)[-CONTEXT_CHARS:]
        async with request.worker():
            completion = await self._inference.generate(
                context,
                max_chars=max_chars,
                temperature=temperature,
                seed=seed,
                prompt=lead,
            )
        request.commit()
        return completion, dropped

    def _lead(self, prompt: str | None) -> tuple[str | None, str]:
        """Return the lead of a prompt in the model's alphabet, and the dropped characters."""
        if prompt is None:
            return None, ""
        folded, dropped = self._inference.fold(prompt)
        return transcript.lead(folded), dropped

    async def find(self, ref: MessageRef) -> Turn:
        """Return the turn that a message shows.

        Raises:
            RejectedError: It was deleted.
        """
        turn = await self._turns.find(
            ref.turn_id, channel_id=ref.channel_id, message_id=ref.message_id
        )
        if turn is None:
            raise RejectedError(Reason.TURN_FORGOTTEN)
        return turn

    async def find_in_scene(self, ref: MessageRef) -> Turn:
        """Return the turn that a message shows if it belongs to the channel's current scene.

        Raises:
            RejectedError: It does not, or it was deleted.
        """
        turn = await self.find(ref)
        if turn.scene != await self._turns.scene(ref.channel_id):
            raise RejectedError(Reason.SCENE_OVER)
        return turn

    async def reroll(self, ref: MessageRef, max_chars: int, show: Show, request: Request) -> None:
        """Generate another take of a turn from what precedes it, and show it in its place.

        Later turns keep their text.

        Args:
            ref: The message that shows the turn.
            max_chars: The limit in force now; the take is no longer than the turn's own limit.
            show: Edits the message.
            request: The accepted request.

        Raises:
            RejectedError: The turn was deleted.
            StoppedError: `request` was stopped before the take was stored; nothing is stored.
        """
        async with request.stoppable(), self._lock("channel", ref.channel_id):
            turn = await self.find(ref)
            past = await self._turns.tail(
                turn.channel_id, turn.scene, chars=CONTEXT_CHARS, before=turn.id
            )
            limit = min(turn.max_chars, max_chars)
            completion, dropped = await self._complete(
                past, turn.prompt, limit, turn.temperature, None, request
            )
            async with self._lock("message", ref.message_id):
                take = await self._turns.add_take(
                    turn,
                    reply=transcript.finish(completion.text),
                    seed=completion.seed,
                    weights=completion.weights,
                    seconds=completion.seconds,
                )
                await self._show_take(take, dropped, show)

    async def select_take(self, ref: MessageRef, number: int, show: Show) -> None:
        """Show another take of a turn, which becomes part of the scene.

        Does not wait for a turn in progress; that turn continues from the take that was shown
        when it started.

        Raises:
            RejectedError: The turn was deleted, or the take does not exist.
        """
        async with self._lock("message", ref.message_id):
            turn = await self.find(ref)
            take = await self._turns.take(turn, number)
            await self._show_take(take, self._lead(turn.prompt)[1], show)

    async def _show_take(self, take: Turn | None, dropped: str, show: Show) -> None:
        if take is None:
            raise RejectedError(Reason.TURN_FORGOTTEN)
        await show(take, dropped)
        await self._turns.show_take(take)

    async def delete(self, ref: MessageRef, delete_message: Callable[[], Awaitable[None]]) -> None:
        """Delete a turn's message, then the turn.

        In this order, because the buttons of a stored turn still work. Does not wait for a turn
        in progress.
        """
        async with self._lock("message", ref.message_id):
            await delete_message()
            await self._turns.delete(ref.channel_id, {ref.message_id})

    async def end(self, guild_id: int | None, channel_id: int) -> None:
        """End the channel's scene: the next request starts a new one."""
        async with self._lock("channel", channel_id):
            scene = await self._turns.scene(channel_id)
            if await self._turns.tail(channel_id, scene, chars=1):
                await self._turns.start_scene(guild_id, channel_id, scene + 1)

    async def page(
        self, channel_id: int, *, scene: int | None = None, number: int | None = None
    ) -> Page:
        """Return a page of a scene; by default the last one of the current scene.

        Raises:
            RejectedError: The scene has no turns.
        """
        if scene is None:
            scene = await self._turns.scene(channel_id)
        pages = _paginate(await self._turns.lengths(channel_id, scene))
        # Turns may have been deleted since the page was opened or counted.
        number = min(number or len(pages), len(pages))
        turns = await self._turns.between(channel_id, scene, *pages[number - 1]) if pages else []
        if not turns:
            raise RejectedError(Reason.NOTHING_TO_READ)
        return Page(scene, turns, number, len(pages))

    async def script(self, channel_id: int) -> tuple[str, list[int]]:
        """Return the text of the current scene, and the ids of the people who requested it.

        Raises:
            RejectedError: The scene has no turns.
        """
        scene = await self._turns.scene(channel_id)
        turns = await self._turns.between(channel_id, scene)
        if not turns:
            raise RejectedError(Reason.NOTHING_TO_READ)
        parts = ((turn.prompt and transcript.lead(turn.prompt), turn.reply) for turn in turns)
        text = await self._threads.run(transcript.compose, parts)
        return text, list(dict.fromkeys(turn.user_id for turn in turns))

    async def delete_channel(self, channel_id: int) -> int:
        """Delete every turn of a channel; return their number."""
        async with self._lock("channel", channel_id):
            return await self._turns.delete_channel(channel_id)

    async def delete_messages(self, channel_id: int, message_ids: Collection[int]) -> int:
        """Delete the turns of messages that were deleted on Discord; return their number.

        Waits for a turn in progress: its message may be one of them.
        """
        async with self._lock("channel", channel_id):
            return await self._turns.delete(channel_id, message_ids)


def _paginate(lengths: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the first and last id of each page, given ids and lengths of turns."""
    pages: list[tuple[int, int]] = []
    turns = chars = 0
    for turn_id, length in lengths:
        if pages and turns < PAGE_TURNS and chars + length <= PAGE_CHARS:
            pages[-1] = (pages[-1][0], turn_id)
        else:
            pages.append((turn_id, turn_id))
            turns = chars = 0
        turns += 1
        chars += length
    return pages
