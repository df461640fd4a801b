"""Requests for the model: whom it takes on, who waits, and how a wait or a work is ended.

Every request is admitted or refused at once. An admitted one waits for the turns before it and
for a worker, in the order of arrival, and can be stopped until its reply is written.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from ..errors import RefusedError, StoppedError
from .inference import Wait, plain_wait

PER_PERSON = 2
"""Requests of one person that may wait or run at a time."""

TOO_MANY = (
    "Two of your requests are with me already, good friend: "
    "let me finish one of them, or stop it, before the next."
)
FULL = "The whole house calls for me at once, and my list is full. Ask me again in a minute."


class Request:
    """One admitted request.

    Attributes:
        id: Unique among requests of all times.
        user_id: Who asked.
        guild_id: The server where; None outside servers.
        waiting: Whether it has not had a worker yet.
        stopped: Whether somebody stopped it.
    """

    def __init__(
        self, queue: "RequestQueue", request_id: int, user_id: int, guild_id: int | None
    ) -> None:
        self.id = request_id
        self.user_id = user_id
        self.guild_id = guild_id
        self.waiting = True
        self.stopped = False
        self._queue = queue
        self._committed = False
        self._scope: asyncio.Timeout | None = None

    @property
    def position(self) -> int:
        """The place among those who wait, from 1; 0 once a worker is at it."""
        return self._queue.position(self)

    @asynccontextmanager
    async def stoppable(self) -> AsyncIterator[None]:
        """Hold what `stop` may end, up to the `commit` within.

        Raises:
            StoppedError: It was ended.
        """
        if self.stopped:
            raise StoppedError
        # The standard library's one cancel scope: it ends this block and leaves alone a
        # cancellation from elsewhere, such as that of a closing bot.
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scope = scope
                yield
        except TimeoutError:
            if scope.expired():
                raise StoppedError from None
            raise
        finally:
            self._scope = None

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Hold one of the workers, after those who waited for one before."""
        async with self._queue.worker():
            self.waiting = False
            yield

    def commit(self) -> None:
        """From here on stopping comes too late: what follows is stored and shown.

        Raises:
            StoppedError: It came before.
        """
        if self.stopped:
            raise StoppedError
        self._committed = True

    def stop(self) -> bool:
        """End the wait or the work; return whether that did not come too late."""
        if self._committed:
            return False
        if self._scope is not None and not self.stopped:
            self._scope.reschedule(-math.inf)
        self.stopped = True
        return True


class RequestQueue:
    """Admits requests and gives them workers.

    Args:
        workers: How many run at once.
        waiting: How many more may wait.
        wait: See `Wait`.
    """

    def __init__(self, workers: int, waiting: int, wait: Wait = plain_wait) -> None:
        self._capacity = workers + waiting
        self._workers = asyncio.Semaphore(workers)
        self._wait = wait
        # In the order of arrival.
        self._requests: dict[int, Request] = {}

    @contextmanager
    def admit(self, request_id: int, user_id: int, guild_id: int | None) -> Iterator[Request]:
        """Hold a place for a request until it is answered.

        Raises:
            RefusedError: This person has too many, or there is no place left.
        """
        theirs = sum(request.user_id == user_id for request in self._requests.values())
        if theirs >= PER_PERSON:
            raise RefusedError(TOO_MANY)
        if len(self._requests) >= self._capacity:
            raise RefusedError(FULL)
        request = self._requests[request_id] = Request(self, request_id, user_id, guild_id)
        try:
            yield request
        finally:
            request.waiting = False
            del self._requests[request_id]

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Hold a worker, in the order of asking."""
        await self._wait(self._workers.acquire())
        try:
            yield
        finally:
            self._workers.release()

    def position(self, request: Request) -> int:
        """Return a request's place among those who wait, from 1; 0 for one that does not."""
        if not request.waiting:
            return 0
        waiting = [other for other in self._requests.values() if other.waiting]
        return waiting.index(request) + 1

    def find(self, request_id: int) -> Request | None:
        """Return a request that is not answered yet."""
        return self._requests.get(request_id)

    def stop_guild(self, guild_id: int) -> None:
        """Stop every request of a server."""
        for request in self._requests.values():
            if request.guild_id == guild_id:
                request.stop()
