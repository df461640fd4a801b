"""The loss of a batch and its gradients, computed by threads that take rows of it each.

PyTorch's own threads share every operation out and wait for each other at its end, hundreds of
times a step. Threads that have rows of their own wait once. docs/experiments.md has the figures.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from noskgpt.training import hardware


class Gradients:
    """Leaves the gradients of the mean loss over a batch in the parameters of a network.

    The same inputs, precision and number of threads give the same gradients bit for bit. To be
    closed.

    Args:
        network: Maps (B, T) ids to (B, T, V) logits. With several threads it runs in all of them
            at once, on parameters that they share; it must not draw random numbers then.
        precision: ``fp32`` or ``bf16``.
        threads: How many take rows; 1 leaves the threads to PyTorch, as does a network on another
            device than the CPU.
    """

    def __init__(self, network: nn.Module, precision: str, threads: int = 1) -> None:
        self._network = network
        self._parameters = list(network.parameters())
        self._device = self._parameters[0].device
        self._precision = precision
        self._threads = threads if self._device.type == "cpu" else 1
        self._pool = _pool(threads) if self._threads > 1 else None

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def compute(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Set the gradients of a batch and return its mean loss, in nats per character.

        Args:
            inputs: (B, T) symbol ids.
            targets: (B, T) ids of the symbols that follow.
        """
        if self._pool is None:
            loss = self._loss(inputs, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        shares = min(self._threads, len(inputs))
        parts = list(
            self._pool.map(
                lambda share: self._part(inputs, targets, slice(share, None, shares)),
                range(shares),
            )
        )
        loss, gradients = parts[0]
        for other, others in parts[1:]:
            loss += other
            torch._foreach_add_(gradients, others)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        with hardware.autocast(self._device, self._precision):
            logits = self._network(inputs)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def _part(self, inputs: Tensor, targets: Tensor, rows: slice) -> tuple[Tensor, list[Tensor]]:
        """Return what some rows add to the loss, and to the gradients."""
        mine = inputs[rows]
        loss = self._loss(mine, targets[rows]) * (len(mine) / len(inputs))
        return loss.detach(), list(torch.autograd.grad(loss, self._parameters))


def _pool(threads: int) -> ThreadPoolExecutor:
    """Start threads that divide PyTorch's own among them."""
    everyone = torch.get_num_threads()
    started = threading.Barrier(threads + 1)

    def begin() -> None:
        torch.set_num_threads(max(1, everyone // threads))
        # The first operation of a thread takes over the number set last by any; have that now.
        torch.get_num_threads()
        started.wait()

    pool = ThreadPoolExecutor(threads, "noskgpt-gradients", initializer=begin)
    for _ in range(threads):
        pool.submit(int)  # starts a thread, as those there are still wait
    started.wait()
    # A number that one thread sets for itself is also what threads to come begin with.
    torch.set_num_threads(everyone)
    return pool
