"""Define the training configuration, its presets, the optimizers and the learning-rate schedule.

Muon updates the hidden matrices and AdamW the other parameters, unless the configuration selects
AdamW for all. docs/experiments.md explains how the defaults were chosen.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from noskgpt.inference.generator import MAX_SEED
from noskgpt.limits import MAX_BATCH
from noskgpt.model import GPT
from noskgpt.training.muon import Muon


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Configure a training run. The defaults are those of ``noskgpt train``."""

    steps: int = 3000
    minutes: float | None = None
    """Duration of the run; if set, `steps` is replaced by the number of steps that fit."""
    batch: int = 8
    """Windows of one context per step."""
    optimizer: str = "muon"
    """``muon`` for the hidden matrices and AdamW for the rest, or ``adamw`` for all."""
    muon_lr: float = 0.02
    """Peak learning rate of Muon."""
    adam_lr: float = 0.004
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.05
    warmup_fraction: float = 0.05
    """Fraction of the steps, at the start, in which learning rates increase linearly from 0."""
    decay_fraction: float = 1.0
    """Fraction of the steps, at the end, in which learning rates decrease linearly to 0."""
    dropout: float = 0.0
    attention_dropout: float = 0.0
    """A value above zero disables PyTorch's fused CPU attention kernel."""
    gradient_clip: float = 1.0
    """Maximum norm of the gradient; infinity disables clipping."""
    seed: int = 1
    report_every: int = 10
    """Steps between progress events."""
    evaluations: int = 2
    """Number of held-out loss measurements, evenly spaced; the last is after the last step."""
    precision: str = "auto"
    """``fp32``, ``bf16``, or ``auto``, which measures both and selects the faster one."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for invalid settings."""
        counts = (self.steps, self.batch, self.report_every, self.evaluations)
        if not all(type(count) is int and count >= 1 for count in counts):
            msg = "steps, batch, report_every and evaluations must be at least 1"
            raise ValueError(msg)
        if self.batch > MAX_BATCH:
            msg = f"batch must be at most {MAX_BATCH}"
            raise ValueError(msg)
        if type(self.seed) is not int or not 0 <= self.seed <= MAX_SEED:
            msg = f"seed must be from 0 to {MAX_SEED}, not {self.seed}"
            raise ValueError(msg)
        rates = (self.muon_lr, self.adam_lr, self.weight_decay, self.gradient_clip)
        fractions = (self.warmup_fraction, self.decay_fraction)
        probabilities = (self.dropout, self.attention_dropout)
        if not all(value >= 0 for value in (*rates, *fractions)):  # rejects NaN, too
            msg = "learning rates, weight decay, clipping and fractions must be 0 or more"
            raise ValueError(msg)
        if not all(0 <= value < 1 for value in probabilities):
            msg = "dropout must be from 0 to 1, without 1"
            raise ValueError(msg)
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            msg = f"minutes must be positive and finite, not {self.minutes}"
            raise ValueError(msg)
        if self.optimizer not in ("muon", "adamw"):
            msg = f"optimizer must be muon or adamw, not {self.optimizer!r}"
            raise ValueError(msg)
        if self.precision not in ("auto", "fp32", "bf16"):
            msg = f"precision must be auto, fp32 or bf16, not {self.precision!r}"
            raise ValueError(msg)


PRESETS: Mapping[str, TrainingConfig] = {
    "quick": TrainingConfig(steps=1200),
    "default": TrainingConfig(),
    "best": TrainingConfig(steps=20_000, batch=16, weight_decay=0.1, evaluations=10),
    "original": TrainingConfig(
        steps=10_000,
        batch=64,
        optimizer="adamw",
        adam_lr=0.001,
        weight_decay=0.01,  # the default of PyTorch's AdamW
        warmup_fraction=0.0,
        decay_fraction=0.0,
        dropout=0.1,
        attention_dropout=0.1,
        gradient_clip=math.inf,
        evaluations=20,
    ),
}
"""Named configurations; docs/experiments.md has their results and explains them."""


def fine_tuning_factor(passes: float) -> float:
    """Return the factor of the peak learning rates of a run that starts from trained weights.

    The weights move by about the learning rate times the number of steps. Over many passes over a
    text, a long way makes the held-out loss rise again; docs/experiments.md has the measurements.

    Args:
        passes: How often the run passes over its text.
    """
    return min(0.25, 0.7 / passes)


def build_optimizers(model: GPT, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a model: Muon for its hidden matrices, AdamW for the rest.

    Muon is not designed for embeddings, the head, LayerNorms and biases.
    """
    hidden = model.hidden_matrices() if config.optimizer == "muon" else {}
    adamw = torch.optim.AdamW(
        [p for name, p in model.named_parameters() if name not in hidden],
        lr=config.adam_lr,
        betas=(0.9, 0.95) if hidden else (0.9, 0.999),
        weight_decay=config.weight_decay,
        fused=True,
    )
    if not hidden:
        return [adamw]
    return [Muon(hidden.values(), config.muon_lr, config.weight_decay), adamw]


def lr_factor(step: int, steps: int, config: TrainingConfig) -> float:
    """Return the factor, 0 to 1, of the peak learning rates at `step` (from 0) of `steps`.

    The schedule is a linear warm-up, a constant phase, and a linear decay to 0 after the last step.
    """
    warmup = min(1.0, (step + 1) / max(1.0, steps * config.warmup_fraction))
    decay = min(1.0, (steps - step) / max(1.0, steps * config.decay_fraction))
    return max(0.0, min(warmup, decay))
