"""How soon a request is taken on or refused beside 16 others: `python -m benchmarks.service`.

The bot's own services on an SQLite file, configured as by default and without Discord: 16 people
ask for replies of 4,000 characters, one after the other. Meanwhile requests of others arrive, at
first into an open queue and then into a full one, and a coroutine asks to be woken every
millisecond. Ends in one line of JSON, in milliseconds; exits with 1 if a decision took more than
50 ms or the event loop was more than 10 ms late at the 99th percentile.
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

import aiosqlite

from benchmarks.event_loop import lags
from bot.config import Settings, load_settings
from bot.core.inference import Generation
from bot.core.request_queue import RequestQueue
from bot.core.scenes import Scenes
from bot.errors import RefusedError
from bot.storage.database import open_database
from bot.storage.guild_settings import GuildSettingsStore
from bot.storage.turns import Ask, History, Turn

RUNNING, CHARACTERS = 16, 4000
SECONDS = 5.0
PAUSE = 0.01
GUILD, STRANGER = 1, 10_000
DECISION_BOUND, LAG_BOUND = 50.0, 10.0


class Service:
    """The services that answer requests, as `bot.app` puts them together."""

    def __init__(self, settings: Settings, store: GuildSettingsStore, scenes: Scenes) -> None:
        self.settings = settings
        self.store = store
        self.scenes = scenes
        self.queue = RequestQueue(settings.workers, settings.queue)
        self.ids = itertools.count(1)
        self.replies = 0

    async def ask(self, user: int) -> None:
        """Ask for one reply after the other, in a channel of one's own."""

        async def show(turn: Turn, _dropped: str) -> int:
            self.replies += 1
            return turn.id

        while True:
            rules = self.store.rules(GUILD)
            ask = Ask(
                guild_id=GUILD,
                channel_id=user,
                user_id=user,
                prompt="ROMEO:",
                max_chars=min(CHARACTERS, rules.max_chars),
                temperature=rules.temperature,
            )
            with self.queue.admit(next(self.ids), user, GUILD) as request:
                await self.scenes.play(ask, show, request)

    async def decide(self, seconds: float, *, accepted: bool) -> list[float]:
        """Let requests arrive for a while; return after how many ms each was decided on."""
        found = []
        end = time.perf_counter() + seconds
        while (arrival := time.perf_counter() + PAUSE) < end:
            await asyncio.sleep(PAUSE)
            self.store.rules(GUILD)
            try:
                with self.queue.admit(next(self.ids), STRANGER, GUILD):
                    took = accepted
            except RefusedError:
                took = not accepted
            found.append((time.perf_counter() - arrival) * 1000)
            assert took, "decided otherwise than it should be"
        return found


def summarize(figures: list[float]) -> dict[str, float]:
    """Return the median, 99th percentile and maximum."""
    ordered = sorted(figures)
    return {
        "median": statistics.median(ordered),
        "p99": ordered[int(len(ordered) * 0.99)],
        "maximum": ordered[-1],
    }


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Settings, aiosqlite.Connection, Generation]]:
    """Open a database in a folder and the model, as the settings of this machine have it."""
    settings = load_settings().model_copy(update={"database": folder / "bard.sqlite3"})
    async with contextlib.AsyncExitStack() as stack:
        database = await open_database(settings.database)
        stack.push_async_callback(database.close)
        generation = Generation(settings.weights, settings.workers)
        stack.push_async_callback(generation.close)
        await generation.load()
        yield settings, database, generation


async def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Return how late decisions and the event loop were."""
    report = {}
    async with opened(folder) as (settings, database, generation):
        store = GuildSettingsStore(database, settings)
        await store.load()
        service = Service(settings, store, Scenes(History(database), generation))
        people = asyncio.gather(*(service.ask(user) for user in range(RUNNING)))
        await asyncio.sleep(1)  # all of them at work
        started = time.perf_counter()
        for name, accepted in (("accepted", True), ("refused", False)):
            with contextlib.ExitStack() as places:
                if not accepted:
                    for user in range(RUNNING, settings.workers + settings.queue):
                        places.enter_context(service.queue.admit(next(service.ids), user, GUILD))
                decisions = asyncio.create_task(service.decide(SECONDS, accepted=accepted))
                late = await lags(decisions)
            report[name] = summarize(decisions.result())
            report[f"loop while {name}"] = summarize(late)
        assert not people.done(), "somebody's request failed"
        seconds = time.perf_counter() - started
        report["work"] = {"characters_per_second": service.replies * CHARACTERS / seconds}
        people.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await people
    return report


def main() -> None:
    """Measure, print, and say by the exit status whether the bounds hold."""
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(measure(Path(folder)))
    for name, figures in report.items():
        print(f"{name:20}", "  ".join(f"{k} {v:,.2f}" for k, v in figures.items()))
    held = all(
        report[name]["maximum"] <= DECISION_BOUND
        and report[f"loop while {name}"]["p99"] <= LAG_BOUND
        for name in ("accepted", "refused")
    )
    print(json.dumps(report | {"held": held}))
    raise SystemExit(0 if held else 1)


if __name__ == "__main__":
    main()
