"""Let signals end the process: the first in order, the second in haste, the third at once."""

import asyncio
import math
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import FrameType

END_SECONDS = 10.0
"""Time from the first signal to the end of the process, whatever it still does."""
_SIGNALLED = 128
"""Exit code, besides the number of the signal, of a program that a signal has ended."""
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class InterruptedStartError(Exception):
    """A signal came before the bot had started."""


class Signals:
    """The signals that this process receives while an event loop runs.

    Attributes:
        received: Done after the first signal.
        hasten: Called at the second signal.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.received: asyncio.Future[None] = self._loop.create_future()
        self.hasten: Callable[[], None] = lambda: None
        self._count = 0
        self._start: asyncio.Timeout | None = None
        # Unlike an event, a second signal may interrupt its use by the first.
        self._ending: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._end_late, name="end of the process", daemon=True).start()
        # Not `loop.add_signal_handler`, whose handlers have to wait for a loop that is busy.
        _handle(self._receive)

    @asynccontextmanager
    async def interrupting(self) -> AsyncIterator[None]:
        """Run a block that the first signal cancels.

        Raises:
            InterruptedStartError: There was a signal.
        """
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._start = scope
                if self.received.done():
                    self._interrupt()
                yield
        except TimeoutError:
            if scope.expired():
                raise InterruptedStartError from None
            raise
        finally:
            self._start = None

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 2:  # noqa: PLR2004 - see the module
            os._exit(0)
        self._ending.put(None)
        react = self._interrupt if self._count == 1 else self._hasten
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(react)

    def _interrupt(self) -> None:
        if not self.received.done():
            self.received.set_result(None)
        if self._start is not None:
            self._start.reschedule(-math.inf)

    def _hasten(self) -> None:
        self.hasten()

    def _end_late(self) -> None:
        # In a thread, for an event loop or an interpreter that hangs, made before there is any.
        self._ending.get()
        time.sleep(END_SECONDS)
        os._exit(0)


def exit_on_signals() -> None:
    """Let every signal end the process with exit code 0, until there are `Signals`."""
    _handle(lambda _number, _frame: sys.exit(0))


def fail_on_signals() -> None:
    """Let every signal end the process as one that has failed: its work is not done."""
    _handle(lambda number, _frame: sys.exit(_SIGNALLED + number))


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    for name in _NAMES:
        number: signal.Signals | None = getattr(signal, name, None)
        if number is None:  # on another platform
            continue
        # A process that `nohup` started goes on without its terminal.
        if name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
