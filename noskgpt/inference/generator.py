"""Text from a model: what a request may ask for, and the text in pieces.

Within one context (prompt and output up to 256 characters) every character is drawn from exactly
the logits that recomputing the whole text would give. When the context is full the last eighth
of it is computed anew as a fresh beginning, so that from then on a character is drawn with 32 to
256 characters before it; README says what that costs. `exact` always gives it 256, as the
reference does, at the price of recomputing them for each character.
"""

import secrets
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from noskgpt import checkpoint as checkpoints
from noskgpt import lexicon
from noskgpt.checkpoint import Checkpoint
from noskgpt.corpus import load_corpus
from noskgpt.inference.decoder import Cancellation, Request, create_decoder
from noskgpt.inference.sampling import Sampling, step
from noskgpt.lexicon import Lexicon
from noskgpt.resources import weights_path
from noskgpt.tokenizer import Tokenizer

MAX_SEED = 2**53 - 1
"""The largest seed: the largest whole number that Discord and JSON carry exactly."""


KEPT_SHARE = 8
"""A full context begins anew with its last eighth."""
PIECE = 64
"""Characters that `stream` gives at once, at most."""


class Generator:
    """Loaded weights that write text. One object serves any number of threads at once.

    Args:
        checkpoint: The weights.
        fast: False decodes with PyTorch even where the compiled decoder can run.

    Attributes:
        model: `torch.nn.Module` in evaluation mode: (B, T) ids to (B, T, V) logits.
        tokenizer: `encode`, `decode` and `fold` for the alphabet of the weights.
        checkpoint: The configuration and the record of the training run.
        decoder: What turns prompts into symbols; see `noskgpt.inference.decoder`.
        name: A short name that changes whenever the weights do.
    """

    def __init__(self, checkpoint: Checkpoint, *, fast: bool = True) -> None:
        self.checkpoint = checkpoint
        self.model = checkpoint.build_model()
        self.tokenizer = Tokenizer(checkpoint.vocabulary)
        self.decoder = create_decoder(self.model, fast=fast)
        self.name = f"noskgpt-{checkpoint.fingerprint()}"
        self._no_words = lexicon.build(checkpoint.vocabulary, ())

    @cached_property
    def lexicon(self) -> Lexicon:
        """The words that `real_words` keeps to: the weights' own, else the bundled corpus's."""
        if self.checkpoint.lexicon is not None:
            return self.checkpoint.lexicon
        return lexicon.build(self.tokenizer.vocabulary, lexicon.words(load_corpus().train))

    def generate(
        self,
        prompt: str,
        max_chars: int = 1000,
        temperature: float = 0.8,
        seed: int | None = None,
        *,
        top_k: int = 0,
        top_p: float = 1.0,
        real_words: bool = False,
        exact: bool = False,
        cancellation: Cancellation | None = None,
    ) -> str:
        """Return a continuation of `prompt`, without it, of `max_chars` characters.

        The same seed gives the same text on the same machine, whatever else runs beside it.
        Characters of the prompt outside the alphabet are folded or left out.

        Args:
            prompt: Any text; the last 256 characters of it are read.
            max_chars: From 0.
            temperature: From 0, which always takes the likeliest character, to 100.
            seed: From 0 to `MAX_SEED`; None draws one.
            top_k: Draw from so many of the likeliest characters only; 0 is from all.
            top_p: Draw from the fewest likeliest characters whose probabilities reach this sum.
            real_words: Write only words of the text that the weights were trained on, and of the
                prompt. The last word may be unfinished.
            exact: Keep the whole context, as the reference does; slow beyond 256 characters.
            cancellation: Ends the request early, from another thread.

        Raises:
            ValueError: One of them is out of range.
        """
        return "".join(
            self.stream(
                prompt,
                max_chars,
                temperature,
                seed,
                top_k=top_k,
                top_p=top_p,
                real_words=real_words,
                exact=exact,
                cancellation=cancellation,
            )
        )

    def stream(
        self,
        prompt: str,
        max_chars: int = 1000,
        temperature: float = 0.8,
        seed: int | None = None,
        *,
        top_k: int = 0,
        top_p: float = 1.0,
        real_words: bool = False,
        exact: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Iterator[str]:
        """Return an iterator over the pieces of the text that `generate` would return.

        Raises:
            ValueError: As `generate`, at the call and not at the first piece.
        """
        if type(max_chars) is not int or max_chars < 0:
            msg = f"max_chars must be a whole number from 0, not {max_chars!r}"
            raise ValueError(msg)
        if not 0 <= temperature <= 100:  # noqa: PLR2004  (also refuses NaN)
            msg = f"temperature must be from 0 to 100, not {temperature!r}"
            raise ValueError(msg)
        if type(top_k) is not int or top_k < 0:
            msg = f"top_k must be a whole number from 0, not {top_k!r}"
            raise ValueError(msg)
        if not 0 < top_p <= 1:
            msg = f"top_p must be above 0 and at most 1, not {top_p!r}"
            raise ValueError(msg)
        if seed is None:
            seed = secrets.randbelow(MAX_SEED + 1)
        elif not 0 <= seed <= MAX_SEED:
            msg = f"seed must be from 0 to {MAX_SEED}, not {seed!r}"
            raise ValueError(msg)
        context = self.model.config.context
        # A scene begins on a new line, so nothing at all is continued as one.
        read = (self.tokenizer.fold(prompt).text or self.tokenizer.fold("\n").text)[-context:]
        ids = np.array(self.tokenizer.encode(read) or [0], np.int64)
        request = Request(
            ids=ids,
            sampling=self._sampling(
                read, float(temperature), top_k, float(top_p), real_words=real_words
            ),
            real_words=real_words,
            keep=context if exact else max(1, context // KEPT_SHARE),
            cancellation=Cancellation() if cancellation is None else cancellation,
        )
        return self._stream(request, max_chars, np.random.default_rng(seed))

    def _stream(
        self, request: Request, max_chars: int, random: np.random.Generator
    ) -> Iterator[str]:
        if max_chars == 0:
            return
        session = self.decoder.start(request)
        for start in range(0, max_chars, PIECE):
            symbols = session.write(random.random(min(PIECE, max_chars - start)))
            if len(symbols):
                yield self.tokenizer.decode(symbols)
            if request.cancellation:
                return

    def _sampling(
        self, read: str, temperature: float, top_k: int, top_p: float, *, real_words: bool
    ) -> Sampling:
        vocabulary = self.tokenizer.vocabulary
        known = own = self._no_words
        if real_words:
            known = self.lexicon
            begun = lexicon.unfinished(read)
            complete = lexicon.words(read[: len(read) - len(begun)])
            own = lexicon.build(vocabulary, complete) if complete else own
        size = len(vocabulary)
        sampling = Sampling(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            probabilities=np.empty(size, np.float64),
            order=np.empty(size, np.int64),
            allowed=np.empty(size, np.bool_),
            words=(known, own),
            nodes=np.zeros(2, np.int64),
            masked=np.zeros(2, np.int64),
        )
        if real_words:
            for symbol in self.tokenizer.encode(begun):
                step(sampling, symbol)
        return sampling


def load(path: str | Path | None = None, *, fast: bool = True) -> Generator:
    """Load weights; the bundled ones when no path is given.

    Args:
        path: The weights file.
        fast: False decodes with PyTorch even where the compiled decoder can run.

    Raises:
        CheckpointError: The file is missing, damaged or foreign.
    """
    return Generator(checkpoints.load(weights_path() if path is None else Path(path)), fast=fast)
