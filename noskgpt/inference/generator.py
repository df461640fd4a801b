"""Generate text from loaded weights: validate a request, decode it, and yield the text in pieces.

Within one context (prompt and output up to 256 characters) every character is sampled from the
same logits as by recomputing the full text. When the context is full, only its last eighth is
kept and recomputed, so that from then on a character is sampled with 32 to 256 characters before
it; the README has the loss of quality. With `exact` it always has 256, as in the reference, and
they are recomputed for each character.
"""

import re
import secrets
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from noskgpt import checkpoint as checkpoints
from noskgpt import lexicon, scene
from noskgpt.checkpoint import Checkpoint
from noskgpt.corpus import load_corpus
from noskgpt.errors import CorpusError
from noskgpt.inference.decoder import Cancellation, CompiledDecoder, Decoder, Request
from noskgpt.inference.sampling import Sampling
from noskgpt.inference.staging import Stage
from noskgpt.lexicon import Lexicon
from noskgpt.limits import MAX_PROMPT
from noskgpt.resources import weights_path
from noskgpt.scene import MAX_NAME, Casts
from noskgpt.tokenizer import Tokenizer

if TYPE_CHECKING:
    from noskgpt.model import GPT

MAX_SEED = 2**53 - 1
"""The largest seed: the largest integer that Discord and JSON represent exactly."""

KEPT_FRACTION = 1 / 8
"""Fraction of a full context that is kept."""
PIECE_CHARS = 64
"""Maximum number of characters in a piece that `stream` yields."""
MAX_UNTIL = 50
"""Maximum number of speakers at which a text may end."""


class Generator:
    """Generate text from a checkpoint. Several threads may use one object at the same time.

    Args:
        checkpoint: The weights.
        fast: False decodes with PyTorch even if the compiled decoder can run.

    Attributes:
        tokenizer: `encode`, `decode` and `fold` for the vocabulary of the weights.
        checkpoint: The configuration and the record of the training run.
        decoder: Converts prompts to symbol ids; see `noskgpt.inference.decoder`.
        name: A short name that identifies the weights.
    """

    def __init__(self, checkpoint: Checkpoint, *, fast: bool = True) -> None:
        self.checkpoint = checkpoint
        self.tokenizer = Tokenizer(checkpoint.vocabulary)
        self.decoder = self._create_decoder(fast=fast)
        self.name = f"noskgpt-{checkpoint.fingerprint()}"
        self._empty_lexicon = lexicon.build(checkpoint.vocabulary, ())
        self._bare_stage = Stage(Casts(), self.tokenizer)

    def _create_decoder(self, *, fast: bool) -> Decoder:
        config = self.checkpoint.config
        if fast and CompiledDecoder.fits(config):
            return CompiledDecoder(config, self.checkpoint.weights)
        from noskgpt.inference.eager import EagerDecoder  # noqa: PLC0415 - imports PyTorch

        return EagerDecoder(self.model)

    @cached_property
    def model(self) -> "GPT":
        """The `torch.nn.Module` in evaluation mode: (B, T) ids to (B, T, V) logits.

        Built, and PyTorch imported, at the first access.
        """
        return self.checkpoint.build_model()

    @cached_property
    def lexicon(self) -> Lexicon:
        """The words that `real_words` allows: those of the checkpoint, or of the bundled corpus."""
        if self.checkpoint.lexicon is not None:
            return self.checkpoint.lexicon
        return lexicon.build(self.tokenizer.vocabulary, lexicon.words(load_corpus().train))

    @cached_property
    def casts(self) -> Casts:
        """The casts that `cast` keeps: those of the checkpoint, or of the bundled corpus.

        Without any if the weights have none and were trained on another corpus.
        """
        if self.checkpoint.casts is not None:
            return self.checkpoint.casts
        try:
            corpus = load_corpus()
        except CorpusError:  # only weights files are needed to generate
            return Casts()
        trained_on_it = corpus.sha256 == self.checkpoint.training.corpus_sha256
        return scene.build(corpus.plays) if trained_on_it else Casts()

    @cached_property
    def _stage(self) -> Stage:
        return Stage(self.casts, self.tokenizer)

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
        cast: bool = False,
        echo: bool = False,
        echo_of: str | None = None,
        until: Sequence[str] = (),
        exact: bool = False,
        cancellation: Cancellation | None = None,
    ) -> str:
        """Return a continuation of `prompt`, `max_chars` characters long, without the prompt.

        It is shorter if it is cancelled, or if it comes to a speaker of `until`.

        The same arguments and seed give the same text on the same machine. Characters of the
        prompt outside the vocabulary are folded or left out. With `real_words`, `cast` or `echo`,
        the last word of the prompt is complete unless an apostrophe or a hyphen follows it.

        Args:
            prompt: Any text. The model reads its last 256 characters; the options
                read its last 20,000.
            max_chars: 0 or more.
            temperature: 0, which always selects the most likely character, to 100.
            seed: 0 to `MAX_SEED`; None uses a random seed.
            top_k: Sample from the `top_k` most likely characters; 0 disables the limit.
            top_p: Sample from the smallest set of most likely characters whose probabilities
                reach this sum.
            real_words: Generate only words of the text that the weights were trained on, and of
                the prompt. The last word may be incomplete.
            cast: Only the cast of the scene speaks: the play of the people who speak or are named
                in the prompt, and its own speakers (`Steve:`). Nobody answers themselves, and a
                person whom the last speech names speaks next. A prompt that ends in a question
                or an exclamation mark is answered by another person. Without effect if the text
                that the weights were trained on has no speakers.
            echo: Repeat rarer words of the prompt more often.
            echo_of: The text whose words `echo` repeats; None selects the last speech or paragraph
                of the prompt.
            until: Names of speakers, in any case. The text ends after the line (`MERCUTIO:` and a
                line break) with which the first of them begins to speak. Up to there it is the
                text without this option, if they are in its cast. With `cast`, each of them
                belongs to the cast of the scene, also those whom no play has. At most
                `MAX_UNTIL` names of `noskgpt.scene.MAX_NAME` characters.
            exact: Use the full context, as the reference does; slow beyond 256 characters.
            cancellation: Cancels the request from another thread.

        Raises:
            ValueError: An argument is out of range.
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
                cast=cast,
                echo=echo,
                echo_of=echo_of,
                until=until,
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
        cast: bool = False,
        echo: bool = False,
        echo_of: str | None = None,
        until: Sequence[str] = (),
        exact: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Iterator[str]:
        """Return an iterator over pieces of the text that `generate` returns.

        Raises:
            ValueError: An argument is out of range; raised by the call, not by the iterator.
        """
        if type(max_chars) is not int or max_chars < 0:
            msg = f"max_chars must be an integer, 0 or more, not {max_chars!r}"
            raise ValueError(msg)
        if not 0 <= temperature <= 100:  # noqa: PLR2004  (also rejects NaN)
            msg = f"temperature must be from 0 to 100, not {temperature!r}"
            raise ValueError(msg)
        if type(top_k) is not int or top_k < 0:
            msg = f"top_k must be an integer, 0 or more, not {top_k!r}"
            raise ValueError(msg)
        if not 0 < top_p <= 1:
            msg = f"top_p must be above 0 and at most 1, not {top_p!r}"
            raise ValueError(msg)
        if isinstance(until, str) or len(until) > MAX_UNTIL or not all(map(_is_name, until)):
            msg = f"until must be at most {MAX_UNTIL} names of speakers, not {until!r}"
            raise ValueError(msg)
        if seed is None:
            seed = secrets.randbelow(MAX_SEED + 1)
        elif not 0 <= seed <= MAX_SEED:
            msg = f"seed must be from 0 to {MAX_SEED}, not {seed!r}"
            raise ValueError(msg)
        context = self.checkpoint.config.context
        # A scene starts on a new line, so an empty prompt is replaced by a line break.
        text = self._read(prompt) or self._read("\n")
        ids = np.array(self.tokenizer.encode(text[-context:]) or [0], np.int64)
        sampling = self._sampling(
            text, float(temperature), top_k, float(top_p), real_words=real_words
        )
        if cast or echo:
            words = None if echo_of is None else self._read(echo_of)
            constraints = self._stage.constrain(
                text,
                sampling,
                real_words=real_words,
                cast=cast,
                echo=echo,
                echo_of=words,
                known=self.lexicon if echo else None,
                guests=until if cast else (),
            )
        else:
            constraints = self._bare_stage.constrain(text, sampling, real_words=real_words)
        request = Request(
            ids=ids,
            sampling=sampling,
            constraints=constraints,
            keep=context if exact else max(1, int(context * KEPT_FRACTION)),
            cancellation=Cancellation() if cancellation is None else cancellation,
        )
        pieces = self._stream(request, max_chars, np.random.default_rng(seed))
        if not until:
            return pieces
        return _until(pieces, until, begins_line=not text.rpartition("\n")[2].strip())

    def _read(self, prompt: str) -> str:
        """Return a text in the vocabulary; of a very long one, the end."""
        return self.tokenizer.fold(prompt).text[-MAX_PROMPT:]

    def _stream(
        self, request: Request, max_chars: int, random: np.random.Generator
    ) -> Iterator[str]:
        if max_chars == 0:
            return
        session = self.decoder.start(request)
        for start in range(0, max_chars, PIECE_CHARS):
            symbols = session.decode(random.random(min(PIECE_CHARS, max_chars - start)))
            if len(symbols):
                yield self.tokenizer.decode(symbols)
            if request.cancellation:
                return

    def _sampling(
        self, prompt: str, temperature: float, top_k: int, top_p: float, *, real_words: bool
    ) -> Sampling:
        """Return the sampling settings of a request and the state after its prompt."""
        vocabulary = self.tokenizer.vocabulary
        allowed_words = prompt_words = self._empty_lexicon
        if real_words:
            allowed_words = self.lexicon
            complete = lexicon.words(prompt)
            if complete:
                prompt_words = lexicon.build(vocabulary, complete)
        size = len(vocabulary)
        return Sampling(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            probabilities=np.empty(size, np.float64),
            order=np.empty(size, np.int64),
            allowed=np.empty(size, np.bool_),
            lexicons=(allowed_words, prompt_words),
            nodes=np.zeros(2, np.int64),
        )


def _is_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and not {":", "\n"} & set(name) and not name.isspace()


def _until(pieces: Iterator[str], names: Sequence[str], *, begins_line: bool) -> Iterator[str]:
    """Yield pieces of a text up to the end of the first line that is the name of a speaker.

    Args:
        pieces: The text. What follows that line is not generated.
        names: The speakers, in any case.
        begins_line: Whether the text begins on a new line.
    """
    wanted = "|".join(re.escape(name) for name in names)
    found = re.compile(rf"^(?:{wanted}):\n", re.MULTILINE | re.IGNORECASE)
    line = "" if begins_line else "\0"  # the line so far; its beginning is part of the prompt
    for piece in pieces:
        text = line + piece
        match = found.search(text)
        if match is not None:
            yield piece[: match.end() - len(line)]
            return
        yield piece
        line = text[text.rfind("\n") + 1 :]


def load(path: str | Path | None = None, *, fast: bool = True) -> Generator:
    """Load a weights file and return its generator.

    Args:
        path: The weights file; None loads the bundled weights.
        fast: False decodes with PyTorch even if the compiled decoder can run.

    Raises:
        CheckpointError: The file is missing, damaged or foreign.
    """
    return Generator(checkpoints.load(weights_path() if path is None else Path(path)), fast=fast)
