"""Muon: gradient descent with momentum whose step on each matrix is made orthogonal.

The method and its coefficients are Keller Jordan's (https://kellerjordan.github.io/posts/muon/).
`torch.optim.Muon` computes in bfloat16, one matrix at a time; on a processor without bfloat16
that takes longer than the rest of a training step. Here matrices of one shape are computed
together, in the type of their weights.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay, for hidden matrices.

    Args:
        params: Matrices (rows, columns). Vectors, embeddings and heads belong to another optimizer.
        lr: The rate. A matrix with more rows than columns moves by sqrt(rows / columns) times it.
        weight_decay: Share of a weight taken away in a step, times the rate.
        momentum: Share of the past in the direction of a step.

    Raises:
        ValueError: A parameter is not a matrix.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:  # noqa: PLR2004
                    msg = f"Muon moves matrices, not a tensor of shape {tuple(p.shape)}"
                    raise ValueError(msg)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every matrix that has a gradient; returns what `closure` does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for shape, matrices in by_shape.items():
                rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                directions = [self._direction(p, group["momentum"]) for p in matrices]
                steps = orthogonalize(torch.stack(directions))
                for p, step in zip(matrices, steps, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(step, alpha=rate)
        return loss

    def _direction(self, p: Tensor, momentum: float) -> Tensor:
        assert p.grad is not None  # noqa: S101 - as chosen in step
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        average: Tensor = state["momentum"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(average, momentum)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Bring every singular value of (N, rows, columns) matrices near 1, singular vectors kept.

    Five Newton-Schulz iterations of a quintic whose steep start lifts small singular values
    fast; they end between about 0.7 and 1.2 and not at 1, which is as good for training.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
