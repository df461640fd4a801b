"""Run the model off the event loop: load weights and generate text in threads."""

import os
import secrets
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import noskgpt
from noskgpt.inference.decoder import Cancellation
from noskgpt.inference.generator import MAX_SEED

from ..concurrency import Threads, Wait, plain_wait
from ..errors import StartupError

NICENESS = 10
"""Added to the niceness of the model's threads, below the event loop's; see `man 7 sched`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A generated text and how it was generated."""

    text: str
    seconds: float
    seed: int
    weights: str
    """Short name of the weights."""


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
    """

    def __init__(self, path: Path | None, workers: int, wait: Wait = plain_wait) -> None:
        self._path = path
        self._wait = wait
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
            return model

        return await self._threads.run(work)

    def activate(self, model: noskgpt.Generator) -> None:
        """Use a model from the next request on; running generations keep theirs."""
        self._model = model

    @property
    def model(self) -> noskgpt.Generator:
        """The active model."""
        if self._model is None:
            raise RuntimeError("load() has not finished")
        return self._model

    def fold(self, text: str) -> tuple[str, str]:
        """Return `text` in the model's alphabet, and the characters that were dropped."""
        folded = self.model.tokenizer.fold(text)
        return folded.text, folded.dropped

    async def generate(
        self,
        context: str,
        *,
        max_chars: int,
        temperature: float,
        seed: int | None = None,
        prompt: str | None = None,
        model: noskgpt.Generator | None = None,
    ) -> Completion:
        """Continue a scene with its cast. Cancellation stops the generation in its thread too.

        Args:
            context: Text in the model's alphabet.
            max_chars: Length of the completion in characters.
            temperature: See `noskgpt.Generator.generate`.
            seed: None draws a random one.
            prompt: The end of `context` whose words the completion repeats; None repeats none.
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
                cancellation=cancellation,
            )
            return Completion(
                text=text,
                seconds=time.perf_counter() - start,
                seed=drawn,
                weights=model.name,
            )

        try:
            return await self._wait(self._threads.run(work))
        finally:
            cancellation.cancel()

    async def close(self) -> None:
        """Finish running generations, drop waiting ones, and end the threads."""
        await self._threads.close()
