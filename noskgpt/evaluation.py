"""The two figures of quality: the exact loss over a text, and the share of real words."""

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
    """Loss in nats per predicted character, and how many characters were predicted."""

    loss: float
    characters: int

    @property
    def bits_per_character(self) -> float:
        """The loss in bits."""
        return self.loss / math.log(2)


class Processes(Protocol):
    """The processes that share an evaluation, as `noskgpt.training.distributed.Group`."""

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

    Every character but the first is predicted once, from what stands before it in its window;
    nothing is sampled, so the figure is the same on every run. The processes of a `group` share
    the windows out and return the same figure.

    Raises:
        CorpusError: Fewer than two characters.
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
    """Yield (B, T) inputs and targets: batches of whole windows, then the shorter last one."""
    whole = (len(ids) - 1) // context
    inputs = ids[: whole * context].view(-1, context)
    targets = ids[1 : whole * context + 1].view(-1, context)
    for start in range(0, whole, BATCH):
        yield inputs[start : start + BATCH], targets[start : start + BATCH]
    if whole * context < len(ids) - 1:
        yield ids[None, whole * context : -1], ids[None, whole * context + 1 :]


@dataclass(frozen=True, slots=True)
class Words:
    """How many words a model wrote, and which of them the text that it learnt from has not."""

    words: int
    made_up: Counter[str]

    @property
    def real_share(self) -> float:
        """The share of words, counted as often as they were written, that are in the text."""
        return 1 - self.made_up.total() / self.words if self.words else 0.0


def count_words(
    bard: Generator,
    *,
    samples: int = 100,
    characters: int = 1000,
    temperature: float = 0.8,
    seed: int = 1,
) -> Words:
    """Have `bard` write freely and look its words up in the text that it was trained on.

    Each sample begins with nothing and has a seed of its own, from `seed` upwards: only seeds
    that are `samples` apart have no sample in common. A word that the end of a sample cuts is not
    counted; case does not count. Words are not masked.
    """

    def write(sample: int) -> str:
        return bard.generate("", characters, temperature, seed + sample)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        texts = list(threads.map(write, range(samples)))
    written: Counter[str] = Counter()
    for text in texts:
        written.update(lexicon.words_in_order(text.removesuffix(lexicon.unfinished(text))))
    made_up = {
        word: count
        for word, count in written.items()
        if not lexicon.knows(bard.lexicon, bard.tokenizer.encode(word))
    }
    return Words(written.total(), Counter(made_up))
