"""Test the plan of a run with a time limit, and the clock that it uses."""

import math
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from noskgpt.errors import TrainingError
from noskgpt.training import planning
from noskgpt.training.planning import (
    FINISH_SECONDS,
    MIN_EVALUATED,
    MIN_STEPS,
    MIN_WARM_STEPS,
    Costs,
    Plan,
)

COSTS = Costs(step=0.5, evaluation=20.0, sample=1.0)
TEXT = 400_000


def plan(minutes: float, **changes: Any) -> Plan:
    usual: dict[str, Any] = {
        "spent": 10.0,
        "costs": COSTS,
        "evaluations": 2,
        "held_out": TEXT,
        "context": 256,
        "warm_start": False,
    }
    return planning.plan(minutes, **(usual | changes))


def planned_seconds(plan: Plan, *, warm_start: bool = False) -> float:
    evaluations = plan.evaluations + warm_start
    return 10 + FINISH_SECONDS + evaluations * plan.evaluation_seconds + plan.steps * COSTS.step


def test_counts_start_evaluations_samples_and_the_finish() -> None:
    found = plan(60)
    assert (found.evaluations, found.evaluated, found.evaluation_seconds) == (2, TEXT, 21)
    assert planned_seconds(found) == pytest.approx(3600, abs=COSTS.step)
    warm = plan(60, warm_start=True)
    assert found.steps - warm.steps == 21 / COSTS.step
    late = plan(60, spent=40.0)
    assert found.steps - late.steps == 30 / COSTS.step


@pytest.mark.parametrize("warm_start", [False, True])
def test_evaluates_less_often_then_less_text_as_the_time_gets_short(*, warm_start: bool) -> None:
    kinds = []
    for minutes in (60, 15, 9, 5, 3, 2, 1.5):
        found = plan(minutes, warm_start=warm_start)
        kinds.append((found.evaluations, found.evaluated == TEXT))
        seconds = planned_seconds(found, warm_start=warm_start)
        assert seconds == pytest.approx(60 * minutes, abs=COSTS.step)
        assert found.steps >= (MIN_WARM_STEPS if warm_start else MIN_STEPS)
        assert MIN_EVALUATED <= found.evaluated <= TEXT
        if found.evaluated > MIN_EVALUATED:
            evaluations = found.evaluations + warm_start
            assert evaluations * found.evaluation_seconds <= 0.1 * 60 * minutes
        assert found.evaluated in {TEXT, found.evaluated // 256 * 256}
    assert kinds == sorted(kinds, reverse=True)
    assert kinds[0] == (2, True)
    assert kinds[-1] == (1, False)


def test_a_short_text_is_always_evaluated_entirely() -> None:
    costs = Costs(step=0.5, evaluation=0.1, sample=0.2)
    for minutes in (1.1, 2, 60):
        assert plan(minutes, held_out=2000, costs=costs).evaluated == 2000


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("spent", [2.0, 100.0])
def test_refuses_what_is_too_short_and_names_the_shortest(
    *, warm_start: bool, spent: float
) -> None:
    with pytest.raises(TrainingError, match=r"0\.1 min is too short") as caught:
        plan(0.1, warm_start=warm_start, spent=spent)
    (shortest,) = re.findall(r"takes ([\d.]+) min\b", str(caught.value))
    found = plan(float(shortest), warm_start=warm_start, spent=spent)
    fewest = MIN_WARM_STEPS if warm_start else MIN_STEPS
    assert fewest <= found.steps <= fewest + (0.2 * 60 * float(shortest) + 6) / COSTS.step
    with pytest.raises(TrainingError, match="too short"):
        plan(float(shortest) / 1.5, warm_start=warm_start, spent=spent)


def test_a_slower_machine_needs_more_minutes() -> None:
    shortest = []
    for step in (0.01, 1.0, 10.0):
        with pytest.raises(TrainingError) as caught:
            plan(0.1, costs=Costs(step=step, evaluation=20.0, sample=1.0))
        shortest += re.findall(r"takes ([\d.]+) min\b", str(caught.value))
    assert sorted(set(map(float, shortest))) == list(map(float, shortest))


AGE = """
import time
time.sleep(0.3)
from noskgpt.training import planning
{change}
print(time.perf_counter() - planning.process_start())
"""


@pytest.mark.parametrize("change", ["", "planning._STARTED = 1e9"])
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_the_clock_starts_with_the_process(change: str) -> None:
    start = time.perf_counter()
    command = [sys.executable, "-u", "-c", AGE.format(change=change)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        age = float(process.stdout.readline())
        elapsed = time.perf_counter() - start
    assert 0.3 < age <= elapsed + 0.02  # /proc counts hundredths of a second
    assert age == pytest.approx(elapsed, abs=1)


def test_without_proc_the_clock_starts_near_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert planning.process_start() == planning._STARTED
    assert 0 < time.perf_counter() - planning._STARTED < math.inf
