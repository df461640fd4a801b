"""What a run is made with: its configuration, the presets, optimizers and learning rates.

Muon moves the hidden matrices and AdamW the rest, unless the configuration asks for AdamW alone.
docs/experiments.md says how it was found.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from noskgpt.model import GPT
from noskgpt.training.muon import Muon


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One run. The defaults are the default run of ``noskgpt train``."""

    steps: int = 3000
    minutes: float | None = None
    """Plans as many steps as end in this time, in place of `steps`."""
    batch: int = 8
    optimizer: str = "muon"
    """``muon`` for the hidden matrices with AdamW for the rest, or ``adamw`` for all."""
    muon_rate: float = 0.02
    adam_rate: float = 0.004
    weight_decay: float = 0.05
    warmup_share: float = 0.05
    """Share of the steps, at the beginning, over which the rates rise from zero in a line."""
    decay_share: float = 1.0
    """Share of the steps, at the end, over which they fall to zero in a line."""
    dropout: float = 0.0
    attention_dropout: float = 0.0
    """Above zero it keeps PyTorch from its fused CPU attention kernel."""
    gradient_clip: float = 1.0
    """The largest norm of a gradient; infinity leaves it alone."""
    seed: int = 1
    report_every: int = 10
    """Steps between progress events."""
    evaluations: int = 2
    """Measurements of the held-out loss, evenly over the run; the last is at its end."""
    precision: str = "auto"
    """``fp32``, ``bf16``, or ``auto``: whichever is measured to be faster here."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for settings that make no run."""
        if min(self.steps, self.batch, self.report_every, self.evaluations) < 1:
            msg = "steps, batch, report_every and evaluations must be at least 1"
            raise ValueError(msg)
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            msg = f"minutes must be more than 0, not {self.minutes}"
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
    "best": TrainingConfig(steps=12_000, batch=16, evaluations=8),
    "original": TrainingConfig(
        steps=10_000,
        batch=64,
        optimizer="adamw",
        adam_rate=0.001,
        weight_decay=0.01,  # what AdamW has by itself
        warmup_share=0.0,
        decay_share=0.0,
        dropout=0.1,
        attention_dropout=0.1,
        gradient_clip=math.inf,
        evaluations=20,
    ),
}
"""Named runs; docs/experiments.md says what they reach and why they are as they are."""


def build_optimizers(model: GPT, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside the blocks and the last feed-forward, AdamW for the rest.

    Embeddings, the head, LayerNorms and biases are what Muon is not made for.
    """
    hidden = model.hidden_matrices() if config.optimizer == "muon" else {}
    adamw = torch.optim.AdamW(
        [p for name, p in model.named_parameters() if name not in hidden],
        lr=config.adam_rate,
        betas=(0.9, 0.95) if hidden else (0.9, 0.999),
        weight_decay=config.weight_decay,
        fused=True,
    )
    if not hidden:
        return [adamw]
    return [Muon(hidden.values(), config.muon_rate, config.weight_decay), adamw]


def rate_factor(step: int, steps: int, config: TrainingConfig) -> float:
    """Return what the learning rates are multiplied by at `step` (from 0) of `steps`.

    A linear warm-up, a constant middle, and a linear fall to zero at the last step.
    """
    warmup = min(1.0, (step + 1) / max(1.0, steps * config.warmup_share))
    decay = min(1.0, (steps - step) / max(1.0, steps * config.decay_share))
    return max(0.0, min(warmup, decay))
