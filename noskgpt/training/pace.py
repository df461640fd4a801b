"""Keep the durations of a run, and compute from them how many steps fit into its time."""

import time
from collections import deque

from noskgpt.training.planning import FINISH_SECONDS

_SPEED_STEPS = 30
"""Number of latest steps over which the reported speed is averaged."""


class Pace:
    """Keep how long a run, its steps and its evaluations take.

    Args:
        began: The value of `time.perf_counter` at which the time of the run began; None is now.
    """

    def __init__(self, began: float | None = None) -> None:
        self._began = time.perf_counter() if began is None else began
        self.seconds_before_resume = 0.0
        self.evaluation_seconds = 0.0
        """Duration of the newest evaluation and its sample, or the planned one."""
        self._step_seconds = 0.0
        self._steps = 0
        self._latest: deque[float] = deque(maxlen=_SPEED_STEPS)

    @property
    def seconds(self) -> float:
        """The duration of the run so far, including the time before a resume."""
        return self.seconds_before_resume + time.perf_counter() - self._began

    @property
    def step_seconds(self) -> float:
        """The mean duration of the latest steps."""
        return sum(self._latest) / len(self._latest)

    def expect(self, *, step_seconds: float, evaluation_seconds: float) -> None:
        """Begin with the durations of a plan."""
        self._step_seconds, self._steps = step_seconds, 1
        self.evaluation_seconds = evaluation_seconds

    def add_step(self, seconds: float) -> None:
        """Record the duration of a step."""
        self._latest.append(seconds)
        self._step_seconds += seconds
        self._steps += 1

    def steps_until(self, minutes: float, *, evaluations: int) -> int:
        """Return how many steps fit into the rest of the time of a run.

        Args:
            minutes: The time of the run.
            evaluations: Number of evaluations that have to fit as well.
        """
        left = 60 * minutes - self.seconds - FINISH_SECONDS
        left -= evaluations * self.evaluation_seconds
        # The mean over all steps keeps the learning-rate schedule stable while other work
        # slows some steps down. The run still ends on time, because the number of steps left
        # shrinks with the time left.
        mean = self._step_seconds / self._steps
        return max(0, round(left / mean))

    def seconds_for(self, steps: int, *, evaluations: int) -> float:
        """Return how long steps and evaluations take at the latest speed."""
        return self.step_seconds * steps + evaluations * self.evaluation_seconds
