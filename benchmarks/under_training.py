"""How much a training run slows replies: `python -m benchmarks.under_training`.

The bot's own services on an SQLite file, configured as by default and without Discord: two people
ask for replies of 1,000 characters, one after the other, at first alone and then beside a run that
`/train start` would begin. Meanwhile a coroutine asks to be woken every millisecond. Ends in one
line of JSON, in milliseconds; exits with 1 if the 95th percentile of the replies' times beside the
run is more than twice that without one.
"""

import asyncio
import contextlib
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.event_loop import lags
from benchmarks.service import opened
from bot.config import Settings
from bot.core.promotions import Succession
from bot.core.request_queue import RequestQueue
from bot.core.scenes import Scenes
from bot.core.training_runner import Order, Training
from bot.storage.guild_settings import DEFAULT_CHARS, DEFAULT_TEMPERATURE
from bot.storage.runs import Runs
from bot.storage.turns import Ask, History, Turn

PEOPLE = 2
SECONDS = 20.0
BOUND = 2.0


class Service:
    """The services that answer requests."""

    def __init__(self, settings: Settings, scenes: Scenes) -> None:
        self.scenes = scenes
        self.queue = RequestQueue(settings.workers, settings.queue)
        self.ids = itertools.count(1)

    async def ask(self, user: int, seconds: float) -> list[float]:
        """Ask for one reply after the other; return how many ms each took."""

        async def show(turn: Turn, _dropped: str) -> int:
            return turn.id

        ask = Ask(
            guild_id=None,
            channel_id=user,
            user_id=user,
            prompt="ROMEO:",
            max_chars=DEFAULT_CHARS,
            temperature=DEFAULT_TEMPERATURE,
        )
        found = []
        end = time.perf_counter() + seconds
        while (asked := time.perf_counter()) < end:
            with self.queue.admit(next(self.ids), user, None) as request:
                await self.scenes.play(ask, show, request)
            found.append((time.perf_counter() - asked) * 1000)
        return found

    async def measure(self) -> dict[str, float]:
        """Return how long replies take, and how late the event loop is beside them."""
        people = asyncio.gather(*(self.ask(user, SECONDS) for user in range(PEOPLE)))
        late = sorted(await lags(people))
        replies = sorted(itertools.chain(*people.result()))
        return {
            "replies": len(replies),
            "median": statistics.median(replies),
            "p95": replies[int(len(replies) * 0.95)],
            "loop p99": late[int(len(late) * 0.99)],
        }


async def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Return what `Service.measure` does, without and with a run beside it."""
    async with (
        opened(folder) as (settings, database, generation),
        contextlib.AsyncExitStack() as stack,
    ):
        runs = Runs(database)
        training = Training(
            runs,
            Succession(runs, generation, folder),
            generation,
            folder=folder,
            corpus=settings.corpus,
            keep=0,
            auto_promote=False,
        )
        stack.push_async_callback(training.close)
        service = Service(settings, Scenes(History(database), generation))
        report = {"alone": await service.measure()}
        order = Order(user_id=0, guild_id=None, channel_id=0, preset="default", minutes=60)
        live = await training.start(order)
        while live.progress is None:
            assert not live.ended.done(), "the run ended before its first step"
            await asyncio.sleep(0.1)
        begun = live.progress.step
        report["beside a run"] = await service.measure()
        assert not live.ended.done(), "the run ended early"
        report["beside a run"]["steps"] = live.progress.step - begun
        assert live.progress.step > begun, "other work on this machine kept the run from any step"
    return report


def main() -> None:
    """Measure, print, and say by the exit status whether the bound holds."""
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
