"""Measure how much a training run slows down replies.

Run `python -m benchmarks.under_training`. It opens the services with default settings on an
SQLite file, without Discord. Two people request replies of 1,000 characters, one after another,
first alone and then beside a run as `/train start` starts it. Meanwhile a coroutine wakes up every
millisecond. The last line is JSON, in milliseconds. The exit code is 1 if the 95th percentile of
the reply times beside the run is more than twice that without one.
"""

import asyncio
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.event_loop import tick_delays
from benchmarks.service import opened
from bot.bard import Bard
from bot.core.settlement import Shown
from bot.core.training_runner import TrainingRequest
from bot.storage.records import Place, Turn, TurnRequest

PEOPLE = 2
SECONDS = 20.0
BOUND = 2.0


class ShownAtOnce:
    """A message that shows a turn without Discord."""

    message_id: int | None = None
    token: str | None = None

    async def show(self, turn: Turn, _dropped: str) -> Shown:
        """Return at once."""
        return Shown(turn.id, 0)


class Load:
    """Requests to the services of a bard."""

    def __init__(self, bard: Bard) -> None:
        self.bard = bard
        self.ids = itertools.count(1)

    async def request_replies(self, user: int, seconds: float) -> list[float]:
        """Request one reply after another; return the milliseconds that each took."""
        turn_request = TurnRequest(
            place=Place(guild_id=None, channel_id=user), user_id=user, prompt="ROMEO:"
        )
        durations = []
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            with self.bard.queue.admit(next(self.ids), user, None) as request:
                await self.bard.scenes.play(turn_request, ShownAtOnce(), request)
            durations.append((time.perf_counter() - start) * 1000)
        return durations

    async def measure(self) -> dict[str, float]:
        """Return figures of the durations of replies and of the delay of the event loop."""
        people = asyncio.gather(*(self.request_replies(user, SECONDS) for user in range(PEOPLE)))
        delays = sorted(await tick_delays(people))
        replies = sorted(itertools.chain(*people.result()))
        return {
            "replies": len(replies),
            "median": statistics.median(replies),
            "p95": replies[int(len(replies) * 0.95)],
            "loop p99": delays[int(len(delays) * 0.99)],
        }


async def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Return the figures of `Load.measure`, without and with a run beside it."""
    async with opened(folder) as bard:
        load, training = Load(bard), bard.training
        report = {"alone": await load.measure()}
        request = TrainingRequest(
            user_id=0, guild_id=None, channel_id=0, preset="default", minutes=60
        )
        active = await training.start(request)
        while active.progress is None:
            assert not active.ended.done(), "the run ended before its first step"
            await asyncio.sleep(0.1)
        first_step = active.progress.step
        report["beside a run"] = await load.measure()
        assert not active.ended.done(), "the run ended early"
        report["beside a run"]["steps"] = active.progress.step - first_step
        assert active.progress.step > first_step, "the run made no step: this machine is too busy"
    return report


def main() -> None:
    """Measure, print, and exit with 1 if the bound does not hold."""
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(measure(Path(folder)))
    for name, figures in report.items():
        print(f"{name:14}", "  ".join(f"{k} {v:,.2f}" for k, v in figures.items()))
    ratio = report["beside a run"]["p95"] / report["alone"]["p95"]
    held = ratio <= BOUND
    print(json.dumps(report | {"ratio": ratio, "bound": BOUND, "held": held}))
    raise SystemExit(0 if held else 1)


if __name__ == "__main__":
    main()
