"""Text from a model: the loaded weights, sampling, and the window beyond the context.

Within one context (prompt and output up to 256 characters) every character is drawn from
exactly the logits that recomputing the whole text would give. When the context is full, the
last half of it is computed anew as a fresh beginning, so that from then on a character is drawn
with 128 to 256 characters before it; learned absolute positions make every cached key and value
stale as soon as the window moves, and this costs one recomputed character per new one.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from noskgpt import checkpoint as checkpoints
from noskgpt.checkpoint import Checkpoint
from noskgpt.model import KVCache
from noskgpt.resources import weights_path
from noskgpt.tokenizer import Tokenizer

MAX_SEED = 2**53 - 1
"""The largest seed: the largest whole number that Discord and JSON carry exactly."""


class Generator:
    """Loaded weights that write text. One object serves any number of threads at once.

    Attributes:
        model: `torch.nn.Module` in evaluation mode: (B, T) ids to (B, T, V) logits.
        tokenizer: `encode`, `decode` and `fold` for the alphabet of the weights.
        checkpoint: The configuration and the record of the training run.
        name: A short name that changes whenever the weights do.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.model = checkpoint.build_model()
        self.tokenizer = Tokenizer(checkpoint.vocabulary)
        self.name = f"noskgpt-{checkpoint.fingerprint()}"

    def generate(
        self,
        prompt: str,
        max_chars: int = 1000,
        temperature: float = 0.8,
        seed: int | None = None,
    ) -> str:
        """Return a continuation of `prompt`, without it, of `max_chars` characters.

        The same seed gives the same text on the same machine. `temperature` 0 always takes the
        likeliest character. Characters of the prompt outside the alphabet are folded or left out.

        Raises:
            ValueError: `max_chars`, `temperature` or `seed` is out of range.
        """
        return "".join(self.stream(prompt, max_chars, temperature, seed))

    def stream(
        self,
        prompt: str,
        max_chars: int = 1000,
        temperature: float = 0.8,
        seed: int | None = None,
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
        if seed is None:
            seed = secrets.randbelow(MAX_SEED + 1)
        elif not 0 <= seed <= MAX_SEED:
            msg = f"seed must be from 0 to {MAX_SEED}, not {seed!r}"
            raise ValueError(msg)
        # A scene begins on a new line, so nothing at all is continued as one.
        ids = self.tokenizer.encode(prompt) or self.tokenizer.encode("\n") or [0]
        return self._stream(ids, max_chars, temperature, torch.Generator().manual_seed(seed))

    def _stream(
        self, ids: list[int], max_chars: int, temperature: float, random: torch.Generator
    ) -> Iterator[str]:
        context = self.model.config.context
        ids = ids[-context:]
        cache = KVCache(self.model.config)
        pending = ids
        for _ in range(max_chars):
            if cache.length == context:
                cache.length = 0
                pending = ids[-max(1, context // 2) :]
            logits = self._advance(pending, cache)
            chosen = sample(logits, temperature, random)
            ids = [*ids[-context:], chosen]
            pending = [chosen]
            yield self.tokenizer.vocabulary[chosen]

    @torch.inference_mode()
    def _advance(self, ids: list[int], cache: KVCache) -> Tensor:
        """Feed `ids` behind the cache; return the (V,) logits of the next symbol."""
        logits: Tensor = self.model(torch.tensor([ids]), cache)
        return logits[0, -1]


@torch.inference_mode()
def sample(logits: Tensor, temperature: float, random: torch.Generator) -> int:
    """Draw one symbol id from (V,) logits at `temperature`; 0 takes the likeliest."""
    if temperature == 0:
        return int(logits.argmax())
    # The largest logit is taken away first, so that a tiny temperature cannot overflow.
    weights = torch.softmax((logits - logits.max()) / temperature, dim=-1)
    return int(torch.multinomial(weights, 1, generator=random))


def load(path: str | Path | None = None) -> Generator:
    """Load weights; the bundled ones when no path is given.

    Raises:
        CheckpointError: The file is missing, damaged or foreign.
    """
    return Generator(checkpoints.load(weights_path() if path is None else Path(path)))
