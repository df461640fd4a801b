"""Define what a program needs that starts training runs and follows them, without PyTorch.

`noskgpt.training.trainer` yields these events, and `noskgpt train --json` prints them.
"""

from dataclasses import dataclass
from pathlib import Path

from noskgpt.checkpoint import Checkpoint

SAMPLE_CHARS = 240
"""Length of the samples of a run in characters."""
SAVE_SECONDS = 60.0
"""Seconds between two saves of the state of a run."""


def run_path(out: Path) -> Path:
    """Return the path of the state file of the run that will write `out`."""
    return out.with_name(f"{out.name}.run")


@dataclass(frozen=True, slots=True)
class Started:
    """Signal that a run starts or resumes."""

    step: int
    """Number of completed steps; 0 unless the run resumes."""
    steps: int
    """Planned number of steps."""
    parameters: int
    characters: int
    """Length of the training text."""
    precision: str
    device: str
    threads: int
    processes: int
    characters_per_step: int
    peak_flops: float
    """Floating-point operations per second of large matrix products, over all processes."""
    start_weights: str | None
    """Short name of the weights that the run starts from; None if it starts from nothing."""
    start_loss: float | None
    """Held-out loss of these weights, before the first step."""
    left_out: str
    """The characters of the text that these weights cannot spell, each once."""
    held_out_characters: int
    """Length of the held-out text."""
    evaluated_characters: int
    """Number of held-out characters, from the first on, over which losses are measured."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Report the state of a run after a step. Losses are nats per character."""

    step: int
    steps: int
    """Planned number of steps; may change from event to event if the run has a time limit."""
    train_loss: float
    """Mean over the steps since the last event."""
    held_out_loss: float | None
    """Exact, over the `evaluated_characters` of `Started`; None if not measured at this step."""
    characters_per_second: float
    """Training speed over the latest steps, without the time of evaluations."""
    peak_fraction: float
    """Floating-point operations of these steps as a fraction of the peak of `Started`."""
    seconds: float
    """Duration of the run so far, without interruptions."""
    seconds_left: float
    sample: str | None
    """Text generated with the current weights; None if the held-out loss was not measured."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Signal that a run has stopped on request; `Trainer.state` returns the state to resume it."""

    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Signal that a run is complete."""

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Saved:
    """Signal that the state of a run is saved."""

    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class NotSaved:
    """Signal that saving failed. The run continues, and the last saved state is intact."""

    step: int
    problem: str


Event = Started | Progress | Interrupted | Finished
