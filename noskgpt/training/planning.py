"""Plan a run with a time limit: how much to evaluate, and how many steps fit into the time left.

The time of a run starts with its process, so that the import of PyTorch counts, and ends when the
weights are written.
"""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

from noskgpt.errors import TrainingError

MIN_STEPS = 100
"""Steps of the shortest run from nothing.

Fewer leave the loss above that of the frequencies of letter pairs; docs/experiments.md has both.
"""
MIN_WARM_STEPS = 30
"""Steps of the shortest run from trained weights, which spell before the first one."""
EVALUATION_FRACTION = 0.1
"""Fraction of the time that evaluations may take before they become fewer or smaller."""
MIN_EVALUATED = 8192
"""Characters of the smallest part of the held-out text that is evaluated."""
FINISH_SECONDS = 2.0
"""Time to write the weights and the plot, and to exit."""
_MARGIN = 1.2
"""Factor of the duration that a refusal recommends: other work may slow the next attempt down."""

# A fallback for systems without /proc: until here, a process has mostly computed.
_STARTED = time.perf_counter() - time.process_time()


def process_start() -> float:
    """Return the value that `time.perf_counter` had when this process started, in seconds."""
    try:
        # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: field 22, the start in ticks
        # since boot. The name in field 2 may contain spaces, so the count starts after it.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks = int(fields[22 - 3])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return _STARTED
    return time.perf_counter() - age


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Durations measured on this machine, in seconds."""

    step: float
    """One training step."""
    evaluation: float
    """An evaluation of the entire held-out text."""
    sample: float
    """What follows each evaluation: a sample of text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What fits into the time of a run."""

    steps: int
    evaluations: int
    """Number of evaluations after steps, evenly spaced; the last is after the last step."""
    evaluated: int
    """Number of held-out characters that each evaluation uses, from the first on."""
    evaluation_seconds: float
    """Expected duration of an evaluation and its sample."""


def plan(
    minutes: float,
    *,
    spent: float,
    costs: Costs,
    evaluations: int,
    held_out: int,
    context: int,
    warm_start: bool,
) -> Plan:
    """Return the plan of a run.

    All `evaluations` are planned if they take at most a tenth of the time, else only the last one,
    else that one on a part of the held-out text.

    Args:
        minutes: Duration of the run.
        spent: Seconds since the start of the process.
        costs: Durations measured on this machine.
        evaluations: Number of evaluations wanted.
        held_out: Length of the held-out text in characters.
        context: Length of a window; a part of the text consists of entire windows.
        warm_start: Whether the run starts from trained weights, which are evaluated as well.

    Raises:
        TrainingError: Too few steps fit; the message has the shortest duration.
    """
    seconds = 60 * minutes
    min_steps = MIN_WARM_STEPS if warm_start else MIN_STEPS

    def evaluation_seconds(characters: int) -> float:
        return costs.evaluation * characters / held_out + costs.sample

    smallest = min(held_out, MIN_EVALUATED)
    available = seconds - spent - FINISH_SECONDS - min_steps * costs.step
    budget = min(available, EVALUATION_FRACTION * seconds)
    evaluated = held_out
    if (evaluations + warm_start) * evaluation_seconds(held_out) > budget:
        evaluations = 1
    count = evaluations + warm_start
    if count * evaluation_seconds(held_out) > budget:
        part = held_out * (budget / count - costs.sample) / costs.evaluation
        evaluated = max(smallest, min(held_out, int(part) // context * context))
    if count * evaluation_seconds(evaluated) > available:
        # The smallest evaluations do not leave time for the fewest steps.
        overhead = spent + FINISH_SECONDS + (1 + warm_start) * evaluation_seconds(smallest)
        raise TrainingError(_too_short(minutes, overhead, min_steps, costs.step))
    left = seconds - spent - FINISH_SECONDS - count * evaluation_seconds(evaluated)
    return Plan(
        steps=int(left / costs.step),
        evaluations=evaluations,
        evaluated=evaluated,
        evaluation_seconds=evaluation_seconds(evaluated),
    )


def _too_short(minutes: float, overhead: float, steps: int, step_seconds: float) -> str:
    training = steps * step_seconds
    shortest = math.ceil(_MARGIN * (overhead + training) / 6) / 10
    return (
        f"A run of {minutes:g} min is too short on this machine: start-up, evaluation and saving "
        f"take {overhead:.0f} s, and {steps} steps, the fewest that are worth it, "
        f"{training:.0f} s. The shortest sensible run here takes {shortest:g} min."
    )
