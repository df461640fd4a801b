"""A turn from request to shown reply: the order of things, and one turn at a time per scene."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

from bot import script
from bot.errors import SceneError
from bot.generation import Generation, Wait, plain_wait
from bot.history import Ask, History, Turn

CONTEXT_CHARS = 2000
"""How much of a scene the model is given. It looks at the last 256 at most."""

NO_SCENE = "There is no scene here yet for me to continue. Begin one with `/bard`."

Show = Callable[[Turn, str], Awaitable[int]]
"""Sends a turn, given what its prompt lost in folding; returns the id of the message."""


class Scenes:
    """Plays turns. Requests in one channel follow each other, those in others do not wait."""

    def __init__(self, history: History, generation: Generation, wait: Wait = plain_wait) -> None:
        self._history = history
        self._generation = generation
        self._wait = wait
        # A lock lives as long as somebody holds or awaits it.
        self._locks: weakref.WeakValueDictionary[int, asyncio.Lock] = weakref.WeakValueDictionary()

    @asynccontextmanager
    async def _turn_of(self, channel_id: int) -> AsyncIterator[None]:
        lock = self._locks.setdefault(channel_id, asyncio.Lock())
        await self._wait(lock.acquire())
        try:
            yield
        finally:
            lock.release()

    async def play(self, ask: Ask, show: Show) -> Turn:
        """Generate a reply to `ask`, store it, have it shown, and return its turn.

        The channel is held from reading its scene until the reply is shown, so that the next
        request continues this one.

        Raises:
            SceneError: There is no scene to continue.
        """
        async with self._turn_of(ask.channel_id):
            return await self._play(ask, show)

    async def _play(self, ask: Ask, show: Show) -> Turn:
        scene = await self._history.scene(ask.channel_id)
        past: list[Turn] = []
        if not ask.fresh:
            past = await self._history.tail(ask.channel_id, scene, chars=CONTEXT_CHARS)
        if ask.prompt is None and not past:
            raise SceneError(NO_SCENE)
        opening, dropped = self._open(ask.prompt)
        told = script.compose((self._open(turn.prompt)[0], turn.reply) for turn in past)
        context = script.join(told, opening)[-CONTEXT_CHARS:]
        result = await self._generation.generate(
            context, max_chars=ask.max_chars, temperature=ask.temperature, seed=ask.seed
        )
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

    def _open(self, prompt: str | None) -> tuple[str | None, str]:
        """Return the lead of a prompt in the model's alphabet, and what that left out."""
        if prompt is None:
            return None, ""
        folded, dropped = self._generation.fold(prompt)
        return script.lead(folded), dropped

    async def strike(self, channel_id: int, message_ids: Collection[int]) -> int:
        """Take the turns of deleted messages out of the scene; return how many there were.

        Waits for a turn under way: its message may be the one that was deleted.
        """
        async with self._turn_of(channel_id):
            return await self._history.delete(channel_id, message_ids)
