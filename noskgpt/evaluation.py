"""The exact loss of a model over a text."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from noskgpt.errors import CorpusError
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


@torch.inference_mode()
def evaluate(model: GPT, ids: Tensor) -> Evaluation:
    """Compute the mean loss over `ids` (N,) in non-overlapping windows of one context.

    Every character but the first is predicted once, from what stands before it in its window;
    nothing is sampled, so the figure is the same on every run.

    Raises:
        CorpusError: Fewer than two characters.
    """
    if len(ids) < 2:  # noqa: PLR2004
        msg = "At least two characters are needed to measure a loss."
        raise CorpusError(msg)
    was_training = model.training
    model.eval()
    total = torch.zeros((), dtype=torch.float64)
    for inputs, targets in _windows(ids, model.config.context):
        logits = model(inputs)
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum")
        total += loss.double().cpu()
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
