"""Compute the loss of a batch and its gradients in threads, each of which takes some of the rows.

PyTorch's own threads divide every operation among them and synchronise after it, hundreds of times
per step. Threads with their own rows synchronise once. docs/experiments.md has the figures.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from noskgpt.training import hardware


class Gradients:
    """Set the gradients of the mean loss of a batch in the parameters of a network.

    The same inputs, precision and number of threads give the same gradients, bit for bit. Call
    `close` after use.

    Args:
        network: Maps (B, T) ids to (B, T, V) logits. Several threads run it at the same time on
            shared parameters, so with more than one it must not use random numbers.
        precision: ``fp32`` or ``bf16``.
        threads: The number of threads that take rows. With 1, or if the network is not on the CPU,
            PyTorch's own threads are used.
    """

    def __init__(self, network: nn.Module, precision: str, threads: int = 1) -> None:
        self._network = network
        self._parameters = list(network.parameters())
        self._device = self._parameters[0].device
        self._precision = precision
        self._threads = threads if self._device.type == "cpu" else 1
        self._pool = _start_threads(threads) if self._threads > 1 else None

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def compute(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Set the gradients of a batch and return its mean loss, in nats per character.

        Args:
            inputs: (B, T) symbol ids.
            targets: (B, T) ids of the next symbol at each position.
        """
        if self._pool is None:
            loss = self._loss(inputs, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        parts = min(self._threads, len(inputs))
        results = list(
            self._pool.map(
                lambda part: self._compute_rows(inputs, targets, slice(part, None, parts)),
                range(parts),
            )
        )
        loss, gradients = results[0]
        for part_loss, part_gradients in results[1:]:
            loss += part_loss
            torch._foreach_add_(gradients, part_gradients)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        with hardware.autocast(self._device, self._precision):
            logits = self._network(inputs)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def _compute_rows(
        self, inputs: Tensor, targets: Tensor, rows: slice
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the part of some rows in the loss of the batch and in its gradients."""
        selected = inputs[rows]
        loss = self._loss(selected, targets[rows]) * (len(selected) / len(inputs))
        return loss.detach(), list(torch.autograd.grad(loss, self._parameters))


def _start_threads(threads: int) -> ThreadPoolExecutor:
    """Start a thread pool and divide PyTorch's number of threads among its threads."""
    total = torch.get_num_threads()
    started = threading.Barrier(threads + 1)

    def initialize() -> None:
        torch.set_num_threads(max(1, total // threads))
        # The first operation of a thread adopts the number that any thread set last. Trigger that
        # now, while it is the number of this pool.
        torch.get_num_threads()
        started.wait()

    pool = ThreadPoolExecutor(threads, "noskgpt-gradients", initializer=initialize)
    for _ in range(threads):
        pool.submit(int)  # starts one more thread, because the earlier ones wait at the barrier
    started.wait()
    # Threads started later adopt the number that was set last, in any thread. Restore it.
    torch.set_num_threads(total)
    return pool
