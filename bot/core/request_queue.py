"""Queue requests for the model: accept or reject at once, run in order of arrival, stop.

An accepted request waits for a worker. It can be stopped until its reply is stored. A queue that
is closed rejects new requests, and those that still wait.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from ..concurrency import Wait, plain_wait
from ..errors import Reason, RejectedError, StoppedError

PER_USER = 2
"""Requests of one person that may wait or run at a time."""


class Request:
    """An accepted request.

    Attributes:
        id: Unique among all requests.
        user_id: The person.
        guild_id: The server; None outside servers.
        waiting: Whether it has not had a worker yet.
        checks: Each raises `RejectedError` if the request is not allowed any more. They are called
            when it gets a worker, and when its reply is about to be shown: rules may change.
    """

    def __init__(
        self, queue: "RequestQueue", request_id: int, user_id: int, guild_id: int | None
    ) -> None:
        self.id = request_id
        self.user_id = user_id
        self.guild_id = guild_id
        self.waiting = True
        self.checks: list[Callable[[], None]] = []
        self._queue = queue
        self._committed = False
        self._ended: StoppedError | RejectedError | None = None
        self._scope: asyncio.Timeout | None = None

    @property
    def position(self) -> int:
        """The position among waiting requests, from 1; 0 once it has a worker."""
        return self._queue.position(self)

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped it."""
        return isinstance(self._ended, StoppedError)

    @asynccontextmanager
    async def stoppable(self) -> AsyncIterator[None]:
        """Run a block that `stop` and `reject` can cancel, until the `commit` within it.

        Raises:
            StoppedError: `stop` was called.
            RejectedError: `reject` was called.
        """
        self._raise_if_ended()
        # The standard library's cancel scope: it ends this block and leaves alone a cancellation
        # from elsewhere, such as that of a bot that shuts down.
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scope = scope
                yield
        except TimeoutError:
            if scope.expired():
                self._raise_if_ended()
            raise
        finally:
            self._scope = None

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Hold a worker, after the requests that waited for one before.

        Raises:
            RejectedError: See `checks`.
        """
        async with self._queue.worker():
            self.waiting = False
            self._check()
            yield

    def commit(self) -> None:
        """Make the request impossible to stop: its reply is about to be stored and shown.

        Raises:
            StoppedError: `stop` was called before.
            RejectedError: `reject` was called before, or see `checks`.
        """
        self._raise_if_ended()
        self._check()
        self._committed = True

    def _check(self) -> None:
        for check in self.checks:
            check()

    def stop(self) -> bool:
        """Cancel the request; return False if it is too late for that."""
        return self._end(StoppedError())

    def reject(self, reason: Reason) -> bool:
        """Cancel the request for a reason to tell its sender; return False if it is too late."""
        return self._end(RejectedError(reason))

    def _end(self, error: StoppedError | RejectedError) -> bool:
        if self._committed:
            return False
        if self._ended is None:
            self._ended = error
            if self._scope is not None:
                self._scope.reschedule(-math.inf)
        return True

    def _raise_if_ended(self) -> None:
        if self._ended is not None:
            raise self._ended from None


class RequestQueue:
    """Accept requests and give them workers.

    Args:
        workers: Number of requests that run at once.
        waiting: Number of further requests that may wait.
        wait: See `bot.concurrency.Wait`.
    """

    def __init__(self, workers: int, waiting: int, wait: Wait = plain_wait) -> None:
        self._count = workers
        self._capacity = workers + waiting
        self._workers = asyncio.Semaphore(workers)
        self._wait = wait
        self._closed = False
        # In order of arrival.
        self._requests: dict[int, Request] = {}

    @contextmanager
    def admit(self, request_id: int, user_id: int, guild_id: int | None) -> Iterator[Request]:
        """Hold a place for a request while the context lasts.

        Raises:
            RejectedError: The person has too many requests, or the queue is full or closed.
        """
        if self._closed:
            raise RejectedError(Reason.CLOSING)
        active = sum(request.user_id == user_id for request in self._requests.values())
        if active >= PER_USER:
            raise RejectedError(Reason.TOO_MANY_REQUESTS)
        if len(self._requests) >= self._capacity:
            raise RejectedError(Reason.QUEUE_FULL)
        request = self._requests[request_id] = Request(self, request_id, user_id, guild_id)
        try:
            yield request
        finally:
            request.waiting = False
            del self._requests[request_id]

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Hold a worker; requests get one in the order of their calls."""
        await self._wait(self._workers.acquire())
        try:
            yield
        finally:
            self._workers.release()

    def counts(self) -> tuple[int, int]:
        """Return how many requests wait and how many have a worker; callable in any thread."""
        requests = [*self._requests.values()]
        waiting = sum(request.waiting for request in requests)
        return waiting, len(requests) - waiting

    def position(self, request: Request) -> int:
        """Return the position of a waiting request, from 1; 0 for one that does not wait."""
        if not request.waiting:
            return 0
        waiting = [other for other in self._requests.values() if other.waiting]
        return waiting.index(request) + 1

    def find(self, request_id: int) -> Request | None:
        """Return an accepted request that has not ended."""
        return self._requests.get(request_id)

    def stop_user(self, user_id: int) -> None:
        """Stop every request of a person."""
        for request in self._requests.values():
            if request.user_id == user_id:
                request.stop()

    def stop_guild(self, guild_id: int) -> None:
        """Stop every request of a server."""
        for request in self._requests.values():
            if request.guild_id == guild_id:
                request.stop()

    def close(self) -> None:
        """Reject new requests and those that wait for a busy worker; the others go on."""
        self._closed = True
        waiting = [request for request in self._requests.values() if request.waiting]
        free = self._count - (len(self._requests) - len(waiting))
        for request in waiting[free:]:
            request.reject(Reason.CLOSING)

    def cut_short(self) -> None:
        """Reject all requests, those that have a worker included, unless it is too late."""
        self._closed = True
        for request in self._requests.values():
            request.reject(Reason.CLOSING)
