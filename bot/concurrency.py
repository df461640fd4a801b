"""Threads that end with their owner, and the function through which services wait."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Wait(Protocol):
    """How services wait for a thread, a child process or another request.

    A simulated Discord has to know about such waits, so it puts its own function here.
    """

    def __call__(self, awaitable: Awaitable[T], /) -> Awaitable[T]:
        """Return an awaitable with the same result."""
        ...


def plain_wait(awaitable: Awaitable[T], /) -> Awaitable[T]:
    """Return the awaitable unchanged."""
    return awaitable


class Threads:
    """Run blocking calls off the event loop, in threads that `close` ends.

    The event loop's own executor would keep its threads after an extension is unloaded.

    Args:
        count: The largest number of threads.
        name: The prefix of their names.
        initializer: Called first in each thread.
    """

    def __init__(
        self, count: int, name: str, initializer: Callable[[], None] | None = None
    ) -> None:
        self._executor = ThreadPoolExecutor(count, name, initializer)
        self._futures: set[Future[object]] = set()

    def run(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """Start `function` in a thread and return a future of its result."""
        future: Future[T] = self._executor.submit(function, *args, **kwargs)
        self._futures.add(future)  # type: ignore[arg-type]  # results are not looked at
        future.add_done_callback(self._futures.discard)
        return asyncio.wrap_future(future)

    async def close(self) -> None:
        """Drop calls that have not started, wait for the others, and end the threads."""
        for future in list(self._futures):
            future.cancel()
        if running := [asyncio.wrap_future(future) for future in list(self._futures)]:
            await asyncio.wait(running)
        # All threads are idle now, so joining them does not block the event loop.
        self._executor.shutdown()
