"""Select the batch of a training step from a text, as a function of the step number only.

Because a batch does not depend on earlier ones, a resumed run gets the same batches as an
uninterrupted one, and each process of a data-parallel run can take its rows of the same batch.
"""

import torch
from torch import Tensor

from noskgpt.errors import TrainingError


class Batches:
    """Divide a text into windows of one context, in a new order and at a new offset in each epoch.

    An epoch uses every window once.

    Args:
        ids: (N,) symbol ids of the text.
        batch: Number of windows in a batch, B.
        context: Number of characters in a window, T.
        seed: Seed of the orders and the offsets.

    Raises:
        TrainingError: The text is shorter than two windows.
    """

    def __init__(self, ids: Tensor, batch: int, context: int, seed: int) -> None:
        self._ids = ids
        self._batch = batch
        self._context = context
        self._seed = seed
        # One window less, to leave room for the offset and the last target.
        self.windows = (len(ids) - 1) // context - 1
        if self.windows < 1:
            msg = (
                f"{len(ids):,} characters are too few for windows of {context}. Give a longer text."
            )
            raise TrainingError(msg)
        self._epoch = -1
        self._inputs = self._targets = ids[:0]
        self._order = torch.empty(0, dtype=torch.int64)

    def get(self, step: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return the (B, T) inputs and targets of a step, counted from 0, or `rows` of them."""
        indices = range(step * self._batch, (step + 1) * self._batch)[rows]
        inputs, targets = [], []
        while indices:
            epoch = indices[0] // self.windows
            self._start_epoch(epoch)
            in_epoch = [index for index in indices if index // self.windows == epoch]
            selected = self._order[[index % self.windows for index in in_epoch]]
            inputs.append(self._inputs[selected])
            targets.append(self._targets[selected])
            indices = indices[len(in_epoch) :]
        return torch.cat(inputs), torch.cat(targets)

    def _start_epoch(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        random = torch.Generator().manual_seed((self._seed * 1_000_003 + epoch) % 2**63)
        offset = int(torch.randint(self._context, (1,), generator=random))
        end = offset + self.windows * self._context
        # These are views of the text; only the rows of a batch are copied.
        self._inputs = self._ids[offset:end].view(self.windows, self._context)
        self._targets = self._ids[offset + 1 : end + 1].view(self.windows, self._context)
        order = torch.randperm(self.windows, generator=random)
        self._order = order.to(self._ids.device)
        self._epoch = epoch
