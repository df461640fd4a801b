"""The model at work: loads the weights and generates in threads, off the event loop."""

import asyncio
import os
import secrets
import sys
import threading
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import noskgpt
from noskgpt.inference.decoder import Cancellation
from noskgpt.inference.generator import MAX_SEED

from .errors import StartupError

T = TypeVar("T")

NICENESS = 10
"""By how much the model's threads stand back for the event loop's; see `man 7 sched`."""


class Wait(Protocol):
    """How the services await a thread or another request.

    The one seam where a simulated Discord, which must know such waits, puts its own.
    """

    def __call__(self, awaitable: Awaitable[T], /) -> Awaitable[T]:
        """Return an awaitable with the same result."""
        ...


def plain_wait(awaitable: Awaitable[T], /) -> Awaitable[T]:
    """Wait without telling anyone."""
    return awaitable


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the model wrote and how."""

    text: str
    seconds: float
    seed: int
    weights: str
    """The short name of the weights."""


def _yield_to_the_loop() -> None:
    """Lower this thread's priority, where threads have their own: the event loop goes first."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        # A sandbox may forbid it, and then it is only slower.
        with suppress(OSError):
            niceness = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS
            os.setpriority(os.PRIO_PROCESS, thread, niceness)


class Generation:
    """Owns the model that speaks and the threads that it runs in.

    Args:
        path: The weights of the settings; None is the bundled ones.
        workers: How many requests run at once.
        wait: See `Wait`.
    """

    def __init__(self, path: Path | None, workers: int, wait: Wait = plain_wait) -> None:
        self._path = path
        self._wait = wait
        self._executor = ThreadPoolExecutor(
            workers, thread_name_prefix="bard", initializer=_yield_to_the_loop
        )
        self._model: noskgpt.Generator | None = None

    async def load(self) -> None:
        """Speak with the weights of the settings.

        Raises:
            StartupError: They are missing or damaged.
        """
        try:
            self.speak_with(await self.read())
        except (noskgpt.NoskGPTError, OSError) as error:
            raise StartupError(f"Cannot load the weights: {error}") from error

    async def read(self, path: Path | None = None) -> noskgpt.Generator:
        """Return a model that has shown, in a thread, that it can write; it does not speak yet.

        Args:
            path: The weights; None is those of the settings.

        Raises:
            CheckpointError: They are missing or damaged.
            OSError: They cannot be read.
        """

        def work() -> noskgpt.Generator:
            model = noskgpt.load(self._path if path is None else path)
            # The first text may have to wait for a compiler; nobody who asks should.
            model.generate("", 2, real_words=True)
            return model

        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def speak_with(self, model: noskgpt.Generator) -> None:
        """Let a model speak from the next request on; those under way end on theirs."""
        self._model = model

    @property
    def model(self) -> noskgpt.Generator:
        """The model that speaks."""
        if self._model is None:
            raise RuntimeError("load() has not finished")
        return self._model

    def fold(self, text: str) -> tuple[str, str]:
        """Return `text` in the model's alphabet, and the characters that had no place in it."""
        folded = self.model.tokenizer.fold(text)
        return folded.text, folded.dropped

    async def generate(
        self,
        context: str,
        *,
        max_chars: int,
        temperature: float,
        seed: int | None = None,
        model: noskgpt.Generator | None = None,
    ) -> Result:
        """Continue `context`; without a seed one is drawn, so that every result has one.

        Cancelled, it ends the work in its thread as well. A `model` of None is the one that speaks.
        """
        model = model or self.model
        drawn = secrets.randbelow(MAX_SEED + 1) if seed is None else seed
        cancellation = Cancellation()

        def work() -> Result:
            start = time.perf_counter()
            text = model.generate(
                context,
                max_chars,
                temperature,
                drawn,
                real_words=True,
                cancellation=cancellation,
            )
            return Result(
                text=text,
                seconds=time.perf_counter() - start,
                seed=drawn,
                weights=model.name,
            )

        try:
            return await self._wait(asyncio.wrap_future(self._executor.submit(work)))
        finally:
            cancellation.cancel()

    async def close(self) -> None:
        """Let running requests finish, drop waiting ones, and end the threads."""
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)
