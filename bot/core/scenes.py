"""A turn from request to shown reply: the order of things, and one turn at a time per scene."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from ..errors import SceneError
from ..storage.turns import Ask, History, Turn
from . import transcript as script
from .inference import Generation, Wait, plain_wait
from .request_queue import Request

CONTEXT_CHARS = 2000
"""How much of a scene the model is given. It looks at the last 256 at most."""
PAGE_CHARS = 1500
PAGE_TURNS = 5
"""What a page of a scene holds at most; a longer turn has a page to itself."""

NO_SCENE = "There is no scene here yet for me to continue. Begin one with `/bard`."
NOTHING_TO_READ = "There is no scene here to read. Begin one with `/bard`."
FORGOTTEN = "That speech has left my memory: it was deleted or forgotten. Begin anew with `/bard`."
OVER = (
    "That scene is over. Go on with the one now played here by `/scene continue`, "
    "or begin another with `/bard`."
)

Show = Callable[[Turn, str], Awaitable[int]]
"""Sends a turn, given what its prompt lost in folding; returns the id of the message."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A message that shows a turn. It may be gone, or show nothing that is remembered."""

    turn_id: int
    channel_id: int
    message_id: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some turns of a scene, oldest first."""

    scene: int
    turns: list[Turn]
    number: int
    """From 1."""
    count: int
    """Of all pages."""


class Scenes:
    """Plays turns. Requests in one channel follow each other, those in others do not wait."""

    def __init__(self, history: History, generation: Generation, wait: Wait = plain_wait) -> None:
        self._history = history
        self._generation = generation
        self._wait = wait
        # Of channels, and of messages. A lock lives as long as somebody holds or awaits it.
        self._locks: weakref.WeakValueDictionary[tuple[str, int], asyncio.Lock]
        self._locks = weakref.WeakValueDictionary()

    @asynccontextmanager
    async def _hold(
        self, kind: Literal["channel", "message"], snowflake: int
    ) -> AsyncIterator[None]:
        """Hold a channel while a turn is played in it, or a message while it changes.

        Who holds both took the channel first. A thread has the id of the message it hangs on.
        """
        lock = self._locks.setdefault((kind, snowflake), asyncio.Lock())
        await self._wait(lock.acquire())
        try:
            yield
        finally:
            lock.release()

    async def play(self, ask: Ask, show: Show, request: Request) -> Turn:
        """Generate a reply to `ask`, store it, have it shown, and return its turn.

        The channel is held from reading its scene until the reply is shown, so that the next
        request continues this one.

        Raises:
            SceneError: There is no scene to continue.
            StoppedError: `request` was stopped before its reply was written; nothing is stored.
        """
        async with request.stoppable(), self._hold("channel", ask.channel_id):
            return await self._play(ask, show, request)

    async def _play(self, ask: Ask, show: Show, request: Request) -> Turn:
        scene = await self._history.scene(ask.channel_id)
        past: list[Turn] = []
        if not ask.fresh:
            past = await self._history.tail(ask.channel_id, scene, chars=CONTEXT_CHARS)
        if ask.prompt is None and not past:
            raise SceneError(NO_SCENE)
        context, dropped = self._context(past, ask.prompt)
        async with request.worker():
            result = await self._generation.generate(
                context, max_chars=ask.max_chars, temperature=ask.temperature, seed=ask.seed
            )
        request.commit()
        turn = await self._history.add(
            ask,
            scene=scene + 1 if ask.fresh or not scene else scene,
            reply=script.finish(result.text),
            seed=result.seed,
            weights=result.weights,
            seconds=result.seconds,
        )
        await self._history.show(turn, await show(turn, dropped))
        return turn

    def _context(self, past: list[Turn], prompt: str | None) -> tuple[str, str]:
        """Return what the model reads before it answers, and what of the prompt that left out."""
        opening, dropped = self._open(prompt)
        told = script.compose((self._open(turn.prompt)[0], turn.reply) for turn in past)
        return script.join(told, opening)[-CONTEXT_CHARS:], dropped

    def _open(self, prompt: str | None) -> tuple[str | None, str]:
        """Return the lead of a prompt in the model's alphabet, and what that left out."""
        if prompt is None:
            return None, ""
        folded, dropped = self._generation.fold(prompt)
        return script.lead(folded), dropped

    async def find(self, spot: Spot) -> Turn:
        """Return the turn that a message shows.

        Raises:
            SceneError: It is no longer remembered.
        """
        turn = await self._history.find(
            spot.turn_id, channel_id=spot.channel_id, message_id=spot.message_id
        )
        if turn is None:
            raise SceneError(FORGOTTEN)
        return turn

    async def find_in_scene(self, spot: Spot) -> Turn:
        """Return the turn that a message shows, if the channel still plays its scene.

        Raises:
            SceneError: It does not, or the turn is no longer remembered.
        """
        turn = await self.find(spot)
        if turn.scene != await self._history.scene(spot.channel_id):
            raise SceneError(OVER)
        return turn

    async def reroll(self, spot: Spot, show: Show, request: Request) -> None:
        """Play a turn again with another seed, and have the new take shown in place of the old.

        It is written from what stood before the turn. Later turns stay as they are.

        Raises:
            SceneError: The turn is no longer remembered.
            StoppedError: `request` was stopped before its reply was written; nothing is stored.
        """
        async with request.stoppable(), self._hold("channel", spot.channel_id):
            turn = await self.find(spot)
            past = await self._history.tail(
                turn.channel_id, turn.scene, chars=CONTEXT_CHARS, before=turn.id
            )
            context, dropped = self._context(past, turn.prompt)
            async with request.worker():
                result = await self._generation.generate(
                    context, max_chars=turn.max_chars, temperature=turn.temperature
                )
            request.commit()
            async with self._hold("message", spot.message_id):
                taken = await self._history.add_take(
                    turn,
                    reply=script.finish(result.text),
                    seed=result.seed,
                    weights=result.weights,
                    seconds=result.seconds,
                )
                await self._change(taken, dropped, show)

    async def choose(self, spot: Spot, number: int, show: Show) -> None:
        """Have another take of a turn shown; it is what the scene remembers then.

        It does not wait for a turn under way, which goes on from the take that was shown when it
        began.

        Raises:
            SceneError: The turn, or such a take, is not remembered.
        """
        async with self._hold("message", spot.message_id):
            turn = await self.find(spot)
            taken = await self._history.take(turn, number)
            await self._change(taken, self._open(turn.prompt)[1], show)

    async def _change(self, taken: Turn | None, dropped: str, show: Show) -> None:
        if taken is None:
            raise SceneError(FORGOTTEN)
        await show(taken, dropped)
        await self._history.show_take(taken)

    async def remove(self, spot: Spot, erase: Callable[[], Awaitable[None]]) -> None:
        """Have a turn's message erased, then forget the turn.

        In this order, because a turn that is still remembered has buttons that still work. As
        `choose`, it does not wait for a turn under way.
        """
        async with self._hold("message", spot.message_id):
            await erase()
            await self._history.delete(spot.channel_id, {spot.message_id})

    async def end(self, guild_id: int | None, channel_id: int) -> None:
        """Let the channel's next request begin a new scene."""
        async with self._hold("channel", channel_id):
            scene = await self._history.scene(channel_id)
            if await self._history.tail(channel_id, scene, chars=1):
                await self._history.begin(guild_id, channel_id, scene + 1)

    async def page(
        self, channel_id: int, *, scene: int | None = None, number: int | None = None
    ) -> Page:
        """Return a page of a scene; by default the last one of the current scene.

        Raises:
            SceneError: There is nothing to read.
        """
        if scene is None:
            scene = await self._history.scene(channel_id)
        pages = _paginate(await self._history.lengths(channel_id, scene))
        # Turns may have been deleted since the reader came, or since they were counted.
        number = min(number or len(pages), len(pages))
        turns = await self._history.between(channel_id, scene, *pages[number - 1]) if pages else []
        if not turns:
            raise SceneError(NOTHING_TO_READ)
        return Page(scene, turns, number, len(pages))

    async def script(self, channel_id: int) -> tuple[str, list[int]]:
        """Return the text of the current scene, and the ids of those who asked for it.

        Raises:
            SceneError: There is nothing to read.
        """
        scene = await self._history.scene(channel_id)
        turns = await self._history.between(channel_id, scene)
        if not turns:
            raise SceneError(NOTHING_TO_READ)
        spoken = ((turn.prompt and script.lead(turn.prompt), turn.reply) for turn in turns)
        text = await asyncio.to_thread(script.compose, spoken)
        return text, list(dict.fromkeys(turn.user_id for turn in turns))

    async def forget(self, channel_id: int) -> int:
        """Forget all that was played in a channel; return how many turns that was."""
        async with self._hold("channel", channel_id):
            return await self._history.forget_channel(channel_id)

    async def strike(self, channel_id: int, message_ids: Collection[int]) -> int:
        """Take the turns of deleted messages out of the scene; return how many there were.

        Waits for a turn under way: its message may be the one that was deleted.
        """
        async with self._hold("channel", channel_id):
            return await self._history.delete(channel_id, message_ids)


def _paginate(lengths: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the first and last id of each page, given ids and characters of turns."""
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
