"""Run the model off the event loop: load weights and generate text in threads."""

import asyncio
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import noskgpt
from noskgpt.inference import pages
from noskgpt.inference.decoder import Cancellation
from noskgpt.inference.generator import MAX_SEED

from ..concurrency import Threads, Wait, plain_wait
from ..errors import StartupError
from ..observation import NO_OBSERVER, Observer

T = TypeVar("T")

NICENESS = 10
"""Added to the niceness of the model's threads, below the event loop's; see `man 7 sched`."""
STALL_SECONDS = 120.0
"""Time after which a call that still runs in a thread counts as stalled.

The longest reply takes some seconds; on a slow machine without the compiled decoder, a minute.
"""
ANSWER_SECONDS = 2.0
"""Time in which a free thread answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A generated text and how it was generated."""

    text: str
    seconds: float
    seed: int
    weights: str
    """Short name of the weights."""
    cue: str | None = None
    """The speaker of `until` who speaks next. Their speaker line is not part of the text."""


def _split(text: str, speakers: Sequence[str]) -> tuple[str, str | None]:
    """Divide a text that ends with a speaker line of one of some speakers, before that line."""
    line = text.removesuffix("\n").rpartition("\n")[2]
    if text.endswith(":\n"):
        for speaker in speakers:
            if line.lower() == f"{speaker}:".lower():
                return text[: -len(line) - 1], speaker
    return text, None


def _lower_priority() -> None:
    """Lower the priority of the current thread, so that the event loop runs first."""
    if sys.platform == "linux":  # the only platform where threads have a niceness of their own
        thread = threading.get_native_id()
        # A sandbox may forbid it; replies to other requests are then slower, nothing else.
        with suppress(OSError):
            niceness = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS
            os.setpriority(os.PRIO_PROCESS, thread, niceness)


class Inference:
    """Own the active model and the threads that run it.

    Args:
        path: The configured weights; None selects the bundled ones.
        workers: Number of generations that run at once.
        wait: See `bot.concurrency.Wait`.
        observer: Is told the length and time of each completion.
    """

    def __init__(
        self,
        path: Path | None,
        workers: int,
        wait: Wait = plain_wait,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self._path = path
        self._wait = wait
        self._observer = observer
        self._workers = workers
        # The time at which each call began that runs in a thread, by the thread.
        self._began: dict[int, float] = {}
        self._probe: asyncio.Future[None] | None = None
        self._threads = Threads(workers, "noskgpt_bard-inference", _lower_priority)
        self._model: noskgpt.Generator | None = None

    async def load(self) -> None:
        """Activate the configured weights.

        Raises:
            StartupError: They are missing or damaged.
        """
        try:
            self.activate(await self.read())
        except (noskgpt.NoskGPTError, OSError) as error:
            raise StartupError(f"Cannot load the weights: {error}") from error

    async def read(self, path: Path | None = None) -> noskgpt.Generator:
        """Load weights in a thread, generate with them once, and return the model.

        Args:
            path: The weights; None selects the configured ones.

        Raises:
            CheckpointError: They are missing or damaged.
            OSError: They cannot be read.
        """

        def work() -> noskgpt.Generator:
            model = noskgpt.load(self._path if path is None else path)
            # The first generation may have to compile the decoder; no request should wait for it.
            model.generate("", 2, real_words=True, cast=True, echo=True)
            pages.release()
            return model

        return await self._run(work)

    def activate(self, model: noskgpt.Generator) -> None:
        """Use a model from the next request on; running generations keep theirs."""
        self._model = model

    @property
    def model(self) -> noskgpt.Generator:
        """The active model."""
        if self._model is None:
            raise RuntimeError("load() has not finished")
        return self._model

    def fold(self, text: str, model: noskgpt.Generator | None = None) -> tuple[str, str]:
        """Return `text` in a model's alphabet, and the characters that were dropped.

        Without a model, it is the active one's.
        """
        folded = (model or self.model).tokenizer.fold(text)
        return folded.text, folded.dropped

    async def generate(
        self,
        context: str,
        *,
        max_chars: int,
        temperature: float,
        seed: int | None = None,
        prompt: str | None = None,
        until: Sequence[str] = (),
        model: noskgpt.Generator | None = None,
    ) -> Completion:
        """Continue a scene with its cast. Cancellation stops the generation in its thread too.

        Args:
            context: Text in the model's alphabet.
            max_chars: Length of the completion in characters.
            temperature: See `noskgpt.Generator.generate`.
            seed: None draws a random one.
            prompt: The end of `context` whose words the completion repeats; None repeats none.
            until: Names of speakers: the completion ends where one of them is to speak.
            model: None selects the active one.
        """
        model = model or self.model
        drawn = secrets.randbelow(MAX_SEED + 1) if seed is None else seed
        cancellation = Cancellation()

        def work() -> Completion:
            start = time.perf_counter()
            text = model.generate(
                context,
                max_chars,
                temperature,
                drawn,
                real_words=True,
                cast=True,
                echo=prompt is not None,
                echo_of=prompt,
                until=until,
                cancellation=cancellation,
            )
            text, cue = _split(text, until)
            return Completion(
                text=text,
                cue=cue,
                seconds=time.perf_counter() - start,
                seed=drawn,
                weights=model.name,
            )

        try:
            completion = await self._wait(self._run(work))
            self._observer.generated(len(completion.text), completion.seconds)
            return completion
        finally:
            cancellation.cancel()

    async def is_alive(self) -> bool:
        """Return whether the threads make progress: a free one answers, no call is stalled.

        Threads that are all busy make progress as long as no call takes `STALL_SECONDS`.
        """
        if self._probe is None or self._probe.done():
            # One at a time, so that probes do not pile up behind a thread that hangs.
            self._probe = self._threads.run(lambda: None)
        await asyncio.wait({self._probe}, timeout=ANSWER_SECONDS)
        began = [*self._began.values()]
        if any(time.monotonic() - start >= STALL_SECONDS for start in began):
            return False
        return self._probe.done() or len(began) >= self._workers

    def _run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run a call in a thread, and remember since when."""

        def timed() -> T:
            thread = threading.get_ident()
            self._began[thread] = time.monotonic()
            try:
                return work()
            finally:
                del self._began[thread]

        return self._threads.run(timed)

    async def close(self) -> None:
        """Finish running generations, drop waiting ones, and end the threads."""
        await self._threads.close()
