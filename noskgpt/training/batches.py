"""Batches of a text: which characters a step learns from, as a function of the step alone.

Because nothing is carried from step to step, a run that is continued draws what it would have
drawn, and the processes of a data-parallel run each take their rows of the same batch.
"""

import torch
from torch import Tensor

from noskgpt.errors import TrainingError


class Batches:
    """Shuffled epochs over a text, each cut at another offset into windows of one context.

    Every window of an epoch is dealt once before the next epoch begins.

    Args:
        ids: (N,) symbol ids.
        batch: Windows in a batch, B.
        context: Characters in a window, T.
        seed: Of the order and the offsets.

    Raises:
        TrainingError: The text is shorter than two windows.
    """

    def __init__(self, ids: Tensor, batch: int, context: int, seed: int) -> None:
        self._ids = ids
        self._batch = batch
        self._context = context
        self._seed = seed
        # One window is left over for the offset and the last target.
        self.windows = (len(ids) - 1) // context - 1
        if self.windows < 1:
            msg = (
                f"{len(ids):,} characters are too few for windows of {context}. Give a longer text."
            )
            raise TrainingError(msg)
        self._epoch = -1
        self._inputs = self._targets = ids[:0]
        self._order = torch.empty(0, dtype=torch.int64)

    def draw(self, step: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return the (B, T) inputs and targets of a step, from 0, or only some `rows` of them."""
        places = range(step * self._batch, (step + 1) * self._batch)[rows]
        inputs, targets = [], []
        while places:
            epoch = places[0] // self.windows
            self._turn_to(epoch)
            here = [place for place in places if place // self.windows == epoch]
            chosen = self._order[[place % self.windows for place in here]]
            inputs.append(self._inputs[chosen])
            targets.append(self._targets[chosen])
            places = places[len(here) :]
        return torch.cat(inputs), torch.cat(targets)

    def _turn_to(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        random = torch.Generator().manual_seed((self._seed * 1_000_003 + epoch) % 2**63)
        offset = int(torch.randint(self._context, (1,), generator=random))
        end = offset + self.windows * self._context
        # Views of the text: only the rows of a batch are ever copied.
        self._inputs = self._ids[offset:end].view(self.windows, self._context)
        self._targets = self._ids[offset + 1 : end + 1].view(self.windows, self._context)
        order = torch.randperm(self.windows, generator=random)
        self._order = order.to(self._ids.device)
        self._epoch = epoch
