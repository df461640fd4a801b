"""Measure how soon a request is accepted or rejected beside 16 others.

Run `python -m benchmarks.service`. It opens the services with default settings on an SQLite file,
without Discord. 16 people request replies of 4,000 characters, one after another. Meanwhile other
requests arrive, first at an open queue and then at a full one, and a coroutine wakes up every
millisecond. The last line is JSON, in milliseconds. The exit code is 1 if a decision took more
than 50 ms, or if the event loop was more than 10 ms late at the 99th percentile.
"""

import asyncio
import contextlib
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.event_loop import tick_delays
from bot.bard import Bard
from bot.config import load_settings
from bot.core.settlement import Shown
from bot.errors import RejectedError
from bot.storage.records import Place, Turn, TurnRequest

RUNNING, CHARACTERS = 16, 4000
SECONDS = 5.0
PAUSE = 0.01
GUILD, STRANGER = 1, 10_000
DECISION_BOUND, LAG_BOUND = 50.0, 10.0


class Load:
    """Requests to the services of a bard."""

    def __init__(self, bard: Bard) -> None:
        self.bard = bard
        self.ids = itertools.count(1)
        self.replies = 0

    async def request_replies(self, user: int) -> None:
        """Request one reply after another, in the user's own channel."""
        load = self

        class Message:
            message_id: int | None = None
            token: str | None = None

            async def show(self, turn: Turn, _dropped: str) -> Shown:
                load.replies += 1
                return Shown(turn.id, 0)

        while True:
            turn_request = TurnRequest(
                place=Place(guild_id=GUILD, channel_id=user),
                user_id=user,
                prompt="ROMEO:",
                max_chars=CHARACTERS,
            )
            with self.bard.queue.admit(next(self.ids), user, GUILD) as request:
                await self.bard.scenes.play(turn_request, Message(), request)

    async def decide(self, seconds: float, *, accepted: bool) -> list[float]:
        """Send requests for some seconds; return the milliseconds that each decision took."""
        durations = []
        end = time.perf_counter() + seconds
        while (arrival := time.perf_counter() + PAUSE) < end:
            await asyncio.sleep(PAUSE)
            self.bard.guild_settings.rules(GUILD)
            try:
                with self.bard.queue.admit(next(self.ids), STRANGER, GUILD):
                    as_expected = accepted
            except RejectedError:
                as_expected = not accepted
            durations.append((time.perf_counter() - arrival) * 1000)
            assert as_expected, "a request was accepted or rejected against expectation"
        return durations


def summarize(figures: list[float]) -> dict[str, float]:
    """Return the median, 99th percentile and maximum."""
    ordered = sorted(figures)
    return {
        "median": statistics.median(ordered),
        "p99": ordered[int(len(ordered) * 0.99)],
        "maximum": ordered[-1],
    }


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Bard]:
    """Open the services with this machine's settings and a database in a folder."""
    files = {"database": folder / "bard.sqlite3", "runs_dir": folder / "runs"}
    bard = await Bard.open(load_settings().model_copy(update=files))
    try:
        yield bard
    finally:
        await bard.close()


async def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Return the delays of decisions and of the event loop."""
    report = {}
    async with opened(folder) as bard:
        load, settings = Load(bard), bard.settings
        people = asyncio.gather(*(load.request_replies(user) for user in range(RUNNING)))
        await asyncio.sleep(1)  # until all of them generate
        started = time.perf_counter()
        for name, accepted in (("accepted", True), ("rejected", False)):
            with contextlib.ExitStack() as places:
                if not accepted:
                    for user in range(RUNNING, settings.workers + settings.queue):
                        places.enter_context(bard.queue.admit(next(load.ids), user, GUILD))
                decisions = asyncio.create_task(load.decide(SECONDS, accepted=accepted))
                delays = await tick_delays(decisions)
            report[name] = summarize(decisions.result())
            report[f"loop while {name}"] = summarize(delays)
        assert not people.done(), "a request failed"
        seconds = time.perf_counter() - started
        report["work"] = {"characters_per_second": load.replies * CHARACTERS / seconds}
        people.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await people
    return report


def main() -> None:
    """Measure, print, and exit with 1 if a bound does not hold."""
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(measure(Path(folder)))
    for name, figures in report.items():
        print(f"{name:20}", "  ".join(f"{k} {v:,.2f}" for k, v in figures.items()))
    held = all(
        report[name]["maximum"] <= DECISION_BOUND
        and report[f"loop while {name}"]["p99"] <= LAG_BOUND
        for name in ("accepted", "rejected")
    )
    print(json.dumps(report | {"held": held}))
    raise SystemExit(0 if held else 1)


if __name__ == "__main__":
    main()
