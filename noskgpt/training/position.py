"""Keep the numbers of a run that change while it trains, and read those of a saved run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from noskgpt.corpus import Corpus
from noskgpt.errors import TrainingError
from noskgpt.training.recipe import TrainingConfig

_RENAMED_SETTINGS = {
    "muon_rate": "muon_lr",
    "adam_rate": "adam_lr",
    "warmup_share": "warmup_fraction",
    "decay_share": "decay_fraction",
}
"""Settings that a state saved by an earlier version has under another name."""
_REMOVED_SETTINGS = {"sharpening": 1.0}
"""Settings of earlier versions, with the values that have no effect."""


@dataclass(kw_only=True)
class Position:
    """Hold how far a run has got, and what is left of it."""

    steps: int
    evaluations: int
    """Number of evaluations after steps; a time limit may reduce it to 1."""
    evaluated_characters: int
    """Number of held-out characters that are evaluated; a time limit may reduce it."""
    precision: str
    step: int = 0
    evaluations_done: int = 0
    start_loss: float | None = None
    """The held-out loss of the start weights."""
    losses: list[float] = field(default_factory=list)
    """The losses of the steps since the last progress event."""
    curve: list[tuple[int, float, float | None]] = field(default_factory=list)
    """(step, training loss, held-out loss or None) of every progress event so far."""

    @classmethod
    def of_run(cls, config: TrainingConfig, held_out: int) -> Self:
        """Return the position before the first step of a run.

        Args:
            config: Its configuration.
            held_out: Length of the held-out text in characters.
        """
        return cls(
            steps=config.steps,
            evaluations=config.evaluations,
            evaluated_characters=held_out,
            precision=config.precision,
        )

    @property
    def evaluations_left(self) -> int:
        """The number of evaluations to come."""
        return self.evaluations - self.evaluations_done

    @property
    def evaluation_due(self) -> bool:
        """Whether an evaluation follows the step that was made last."""
        return self.step * self.evaluations >= (self.evaluations_done + 1) * self.steps

    def check_losses(self) -> None:
        """Raise `TrainingError` if a loss since the last progress event is not finite."""
        if not all(map(math.isfinite, self.losses)):
            raise self.not_finite()

    def not_finite(self) -> TrainingError:
        """Return the error of a run whose loss or weights are not finite."""
        return TrainingError(
            f"The loss is not finite at step {self.step}. "
            "Use lower learning rates or --precision fp32."
        )

    def to_values(self) -> dict[str, Any]:
        """Return plain values, for the state of the run."""
        return {
            "precision": self.precision,
            "step": self.step,
            "steps": self.steps,
            "evaluated": self.evaluations_done,
            "evaluations": self.evaluations,
            "evaluated_characters": self.evaluated_characters,
            "start_loss": self.start_loss,
            "losses": self.losses,
            "curve": self.curve,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to the position of a state of the same run.

        Raises:
            ValueError: It evaluates more or less than the held-out text; other errors if the state
                has no position.
        """
        held_out = self.evaluated_characters
        self.precision = state["precision"]
        self.step, self.steps = state["step"], state["steps"]
        self.evaluations_done = state["evaluated"]
        # States of earlier versions do not have these.
        self.evaluations = state.get("evaluations", self.evaluations)
        self.evaluated_characters = state.get("evaluated_characters", held_out)
        if not 1 < self.evaluated_characters <= held_out:
            msg = "it evaluates more or less than the held-out text"
            raise ValueError(msg)
        self.start_loss = state.get("start_loss")
        self.losses = list(state["losses"])
        self.curve = [tuple(point) for point in state["curve"]]


def check_belongs(state: Mapping[str, Any], corpus: Corpus, processes: int) -> None:
    """Raise `TrainingError` if a state is one of another text or of another number of processes."""
    if state["corpus_sha256"] != corpus.sha256:
        msg = (
            f"{corpus.name} is not the text that this run started with. "
            "Give the path of that text with --corpus."
        )
        raise TrainingError(msg)
    if state["processes"] != processes:
        msg = (
            f"This run started with {state['processes']} processes. Resume it with the same number."
        )
        raise TrainingError(msg)


def read_config(state: Mapping[str, Any]) -> TrainingConfig:
    """Return the configuration of the run that a `Trainer.state` resumes.

    Raises:
        TrainingError: The state has a setting that this version does not have.
    """
    settings = {_RENAMED_SETTINGS.get(k, k): v for k, v in state["config"].items()}
    for name, value in _REMOVED_SETTINGS.items():
        if settings.get(name) == value:
            del settings[name]
    unknown = sorted(settings.keys() - {field.name for field in fields(TrainingConfig)})
    if unknown:
        msg = (
            f"This run has settings that this version of noskgpt does not have: "
            f"{', '.join(unknown)}. Resume it with the version that started it."
        )
        raise TrainingError(msg)
    return TrainingConfig(**settings)
