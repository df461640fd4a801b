"""Keep what the child of a training run has reported."""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from noskgpt.runs import Progress

from ..storage.runs import Run, State
from .training_child import TrainingChild

log = logging.getLogger(__name__)


@dataclass(eq=False, kw_only=True)
class ActiveRun:
    """A run whose child process is alive."""

    run: Run
    child: TrainingChild
    progress: Progress | None = None
    """The newest progress event."""
    characters_per_step: int = 0
    """Known from the start of the training on."""
    missing: str | None = None
    """The characters of an attached text for which it starts from nothing and not from weights."""
    start_loss: float | None = None
    """Held-out loss of the weights that the run started from."""
    evaluated_fraction: float = 1.0
    """The part of the held-out text that is evaluated."""
    held_out_loss: float | None = None
    """The newest one; like the sample, it is measured on some steps only."""
    sample: str | None = None
    samples: tuple[str, str] | None = None
    """After the run has finished: a text of the weights active until then, and one of the new."""
    stopped_as: State | None = None
    """The state to record, once the run was told to stop."""
    problem: str | None = None
    finished: bool = False
    ended: asyncio.Task[Run] = field(init=False)
    """The task that follows the child; its result is the run as it ended."""

    @property
    def step_seconds(self) -> float:
        """The duration of a step; 0 before the first."""
        if self.progress is None:
            return 0.0
        return self.characters_per_step / self.progress.characters_per_second

    def apply(self, event: dict[str, Any]) -> None:
        """Keep what an event of the child reports.

        Raises:
            KeyError, TypeError, AttributeError: It is no event of a run.
        """
        kind = event.pop("event")
        if kind == "started":
            self.characters_per_step = event["characters_per_step"]
            self.start_loss = event["start_loss"]
            self.evaluated_fraction = event["evaluated_characters"] / event["held_out_characters"]
        elif kind == "progress":
            self.progress = Progress(**event)
            if self.progress.held_out_loss is not None:
                self.held_out_loss = self.progress.held_out_loss
                self.sample = self.progress.sample
        elif kind == "finished":
            self.finished = True
        elif kind == "error":
            self.problem = str(event["problem"])
        elif kind == "not_saved":
            log.warning("Run %d: %s", self.run.id, event["problem"])

    def columns(self) -> dict[str, float | None]:
        """Return the columns of the record that are known of a run which has not finished."""
        if self.progress is None:
            return {}
        return {
            "step": self.progress.step,
            "steps": self.progress.steps,
            "start_loss": self.start_loss,
            "evaluated_fraction": self.evaluated_fraction,
        }
