"""Measure a model: the exact loss over a text, and the fraction of generated words that are real.

A real word occurs in the text that the model was trained on.
"""

import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from noskgpt import lexicon
from noskgpt.errors import CorpusError
from noskgpt.inference.generator import Generator
from noskgpt.model import GPT

BATCH = 64


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of `evaluate`: mean loss in nats per character, over `characters` predictions."""

    loss: float
    characters: int

    @property
    def bits_per_character(self) -> float:
        """The loss in bits per character."""
        return self.loss / math.log(2)


class Processes(Protocol):
    """Describe the processes that share an evaluation; see `noskgpt.training.distributed.Group`."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """The number of processes."""
        ...

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes."""
        ...


@torch.inference_mode()
def evaluate(model: GPT, ids: Tensor, group: Processes | None = None) -> Evaluation:
    """Compute the mean loss over `ids` (N,) in non-overlapping windows of one context.

    Every character except the first is predicted once, from the characters before it in its
    window. Nothing is sampled, so the result is the same on every run. The processes of a `group`
    divide the windows among them and return the same result.

    Raises:
        CorpusError: There are fewer than two characters.
    """
    if len(ids) < 2:  # noqa: PLR2004
        msg = "At least two characters are needed to measure a loss."
        raise CorpusError(msg)
    was_training = model.training
    model.eval()
    rank, size = (group.rank, group.size) if group is not None else (0, 1)
    total = torch.zeros((), dtype=torch.float64, device=ids.device)
    for inputs, targets in islice(_windows(ids, model.config.context), rank, None, size):
        logits = model(inputs)
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum")
        total += loss.double()
    if group is not None:
        total = group.sum(total)
    model.train(was_training)
    return Evaluation(float(total) / (len(ids) - 1), len(ids) - 1)


def _windows(ids: Tensor, context: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (B, T) inputs and targets: batches of full windows, then the shorter last window."""
    full = (len(ids) - 1) // context
    inputs = ids[: full * context].view(-1, context)
    targets = ids[1 : full * context + 1].view(-1, context)
    for start in range(0, full, BATCH):
        yield inputs[start : start + BATCH], targets[start : start + BATCH]
    if full * context < len(ids) - 1:
        yield ids[None, full * context : -1], ids[None, full * context + 1 :]


@dataclass(frozen=True, slots=True)
class Words:
    """Result of `count_words`: the number of generated words, and the made-up ones among them."""

    words: int
    made_up: Counter[str]

    @property
    def real_fraction(self) -> float:
        """The fraction of generated words, repetitions included, that are real."""
        return 1 - self.made_up.total() / self.words if self.words else 0.0


def count_words(
    generator: Generator,
    *,
    samples: int = 100,
    characters: int = 1000,
    temperature: float = 0.8,
    seed: int = 1,
) -> Words:
    """Generate samples without masking and look up their words in the generator's lexicon.

    Each sample starts from an empty prompt. The seeds are `seed` to `seed + samples - 1`, so calls
    whose seeds differ by less than `samples` share samples. A word cut off by the end of a sample
    is not counted, and case is ignored.

    Args:
        generator: The weights.
        samples: The number of samples.
        characters: The length of each.
        temperature: See `Generator.generate`.
        seed: The seed of the first sample.
    """

    def sample(number: int) -> str:
        return generator.generate("", characters, temperature, seed + number)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        texts = list(threads.map(sample, range(samples)))
    counts: Counter[str] = Counter()
    for text in texts:
        complete = text.removesuffix(lexicon.last_partial_word(text))
        counts.update(lexicon.words_in_order(complete))
    made_up = {
        word: count
        for word, count in counts.items()
        if not lexicon.contains(generator.lexicon, generator.tokenizer.encode(word))
    }
    return Words(counts.total(), Counter(made_up))
