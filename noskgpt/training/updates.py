"""Update the weights of a model: a training step from its batch to the optimizers."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from noskgpt.model import GPT
from noskgpt.training.batches import Batches
from noskgpt.training.distributed import Group
from noskgpt.training.gradients import Gradients
from noskgpt.training.muon import Muon
from noskgpt.training.recipe import TrainingConfig, build_optimizers, lr_factor


class Updates:
    """Make training steps, each a function of the weights, the moments and the number of the step.

    Args:
        model: The model, whose parameters the steps change.
        ids: (N,) symbol ids of the training text.
        config: The configuration of the run.
        group: The processes that share the run; each takes its rows of a batch.

    Raises:
        TrainingError: The text is too short.
    """

    def __init__(self, model: GPT, ids: Tensor, config: TrainingConfig, group: Group) -> None:
        self.lr_scale = 1.0
        """Factor of all learning rates."""
        self._model = model
        self._config = config
        self._group = group
        self._batches = Batches(ids, config.batch, model.config.context, config.seed)
        self.optimizers = build_optimizers(model, config)
        self._peak_lrs = [[g["lr"] for g in o.param_groups] for o in self.optimizers]

    def open_gradients(self, precision: str) -> Gradients:
        """Return what computes the gradients of a batch; close it after use."""
        return Gradients(self._group.wrap(self._model), precision, self._threads())

    def _threads(self) -> int:
        """Return the number of threads among which the rows of a batch are divided."""
        config = self._config
        # Dropout uses one random generator; several threads would use it in a varying order.
        random = config.dropout or config.attention_dropout
        if random or self._group.size > 1:
            return 1
        return min(torch.get_num_threads(), config.batch)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets that this process takes of a step's batch."""
        return self._batches.get(step, slice(self._group.rank, None, self._group.size))

    def take_step(self, step: int, steps: int, gradients: Gradients) -> float:
        """Update the weights; return the mean loss of the batch over all processes.

        Args:
            step: The number of the step, from 0.
            steps: The planned number of steps.
            gradients: From `open_gradients`.
        """
        config, group = self._config, self._group
        factor = self.lr_scale * lr_factor(step, steps, config)
        for optimizer, peak_lrs in zip(self.optimizers, self._peak_lrs, strict=True):
            for param_group, peak_lr in zip(optimizer.param_groups, peak_lrs, strict=True):
                param_group["lr"] = peak_lr * factor
        if config.dropout or config.attention_dropout:
            # Dropout uses the global random generator.
            torch.manual_seed(hash((config.seed, step, group.rank)) % 2**63)
        loss = gradients.compute(*self.batch(step))
        if math.isfinite(config.gradient_clip):
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), config.gradient_clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(group.sum(loss) / group.size)

    def moments(self) -> list[dict[str, Any]]:
        """Return the states of the optimizers."""
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def restore(self, moments: Sequence[Mapping[str, Any]]) -> None:
        """Set the optimizers to earlier states.

        Raises:
            ValueError: They are not those of these optimizers; other errors if they are no states.
        """
        for optimizer, saved in zip(self.optimizers, moments, strict=True):
            _check_moments(optimizer, saved["state"])
            # The settings are those of the configuration.
            settings = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict(
                {"state": copy.deepcopy(saved["state"]), "param_groups": settings}
            )


def _check_moments(optimizer: torch.optim.Optimizer, state: Mapping[int, Any]) -> None:
    """Raise `ValueError` unless a saved state has the moments of the optimizer's parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    names = {"momentum"} if isinstance(optimizer, Muon) else {"step", "exp_avg", "exp_avg_sq"}
    for index, moments in state.items():
        shapes = {name: parameters[index].shape if name != "step" else () for name in names}
        if {name: tuple(moment.shape) for name, moment in moments.items()} != shapes or not all(
            bool(moment.isfinite().all()) for moment in moments.values()
        ):
            msg = "a moment of the optimizer is missing, not finite, or of a wrong shape"
            raise ValueError(msg)
