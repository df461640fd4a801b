"""Implement the Muon optimizer: momentum gradient descent with an orthogonalised step per matrix.

The method and its coefficients are by Keller Jordan (https://kellerjordan.github.io/posts/muon/).
`torch.optim.Muon` computes in bfloat16, one matrix at a time, which takes longer than the rest of
a training step on a processor without bfloat16. This implementation computes matrices of the same
shape together, in the data type of the weights.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Optimise hidden matrices with Muon, Nesterov momentum and decoupled weight decay.

    Args:
        params: Matrices (rows, columns). Vectors, embeddings and heads need another optimizer.
        lr: The learning rate, multiplied by sqrt(rows / columns) for a matrix with more rows than
            columns.
        weight_decay: A step multiplies each weight by 1 - lr * weight_decay.
        momentum: The factor of the earlier average in the moving average of gradients.

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
                    msg = f"Muon optimises matrices, not a tensor of shape {tuple(p.shape)}"
                    raise ValueError(msg)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every matrix that has a gradient; return the loss of `closure`, if given."""
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
                lr = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                directions = [self._direction(p, group["momentum"]) for p in matrices]
                steps = orthogonalize(torch.stack(directions))
                for p, step in zip(matrices, steps, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(step, alpha=lr)
        return loss

    def _direction(self, p: Tensor, momentum: float) -> Tensor:
        """Update the moving average of a matrix and return the Nesterov direction."""
        assert p.grad is not None  # noqa: S101 - `step` selects matrices with a gradient
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        average: Tensor = state["momentum"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(average, momentum)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return (N, rows, columns) matrices with the same singular vectors and singular values near 1.

    Runs five Newton-Schulz iterations of a quintic polynomial that is steep at 0, so that small
    singular values grow quickly. The results are between about 0.7 and 1.2, which is as good for
    training as exactly 1.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
