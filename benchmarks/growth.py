"""Measure whether a large database makes the bard slower, and others wait.

Run `python -m benchmarks.growth`. It stores 100 turns in one database and a million in another, of
which one channel has 200,000, opens the services on each, and measures in turn: a page of the
scene, a turn's reads and writes, the statistics, and, while a second channel asks every 20 ms for a
page, the export of the scene, the deletion of the channel, and the deletion of 100,000 old turns.
After each of these it waits as long without doing anything: how long the second channel waits then,
and how late the event loop is, is due to other programs on this machine. The last line is JSON, in
milliseconds. The exit code is 1 if something that takes the same for any size takes more than 1.5
times as long in the large database, if anybody waits 50 ms longer for the page because of the work,
or if the event loop is 10 ms later at the 99th percentile.
"""

import argparse
import asyncio
import json
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.event_loop import tick_delays
from bot.config import Settings
from bot.core.inference import Inference
from bot.core.scenes import Scenes
from bot.core.voices import Voices
from bot.storage.database import Database, open_database
from bot.storage.guild_settings import GuildSettingsStore
from bot.storage.records import Place, Take, TurnRequest
from bot.storage.statistics import StatisticsStore
from bot.storage.turns import TurnStore
from bot.storage.voices import VoiceStore

FEW, MANY, BIG_CHANNEL = 100, 1_000_000, 200_000
OLD = 100_000
"""Number of turns of the large database that the retention deletes."""
REPEATS = 200
PAUSE = 0.02
GROWTH_BOUND, WAIT_BOUND, LAG_BOUND = 1.5, 50.0, 10.0
BIG, OTHER = Place(guild_id=1, channel_id=1), Place(guild_id=1, channel_id=2)
REPLY = "But soft, what light through yonder window breaks? It is the east. " * 6


def fill(path: Path, count: int) -> None:
    """Store shown turns, a fifth of them in one scene, the rest in a thousand channels."""
    numbers = random.Random(1)  # noqa: S311 - the same in each run
    big = min(BIG_CHANNEL, count // 5 if count > FEW else count)
    with closing(sqlite3.connect(path)) as connection, connection:
        channels = [1] * big + [numbers.randrange(2, 1000) for _ in range(count - big)]
        numbers.shuffle(channels)
        connection.executemany(
            "INSERT INTO turns (id, guild_id, channel_id, scene, user_id, prompt, max_chars,"
            " temperature, created_at, message_id, take)"
            " VALUES (?, 1, ?, 1, ?, 'ROMEO:', 400, 0.8, ?, ?, 1)",
            (
                (n, channel, n % 5000 + 1, float(n), n)
                for n, channel in enumerate(channels, start=1)
            ),
        )
        connection.execute(
            "INSERT INTO takes (turn_id, number, reply, seed, weights, seconds, created_at)"
            " SELECT id, 1, ?, 1, 'w', 0.1, 1 FROM turns",
            (REPLY,),
        )
        connection.execute(
            "INSERT INTO places SELECT channel_id, 0, 1, 1, 1 FROM turns GROUP BY channel_id"
        )


class Services:
    """The services on one database."""

    def __init__(self, database: Database) -> None:
        self.inference = Inference(None, workers=1)
        self.statistics = StatisticsStore(database)
        self.turns = TurnStore(database)
        rules = GuildSettingsStore(database, Settings()).rules
        voices = Voices(VoiceStore(database), self.inference, Path())
        self.scenes = Scenes(self.turns, self.inference, rules, voices)

    async def add(self) -> None:
        """Do the reads and writes of one turn."""
        await self.turns.tail(BIG, await self.turns.scene(BIG), chars=2000)
        turn = await self.turns.add(
            TurnRequest(place=BIG, user_id=7, prompt="ROMEO:"),
            Take(reply=REPLY, seed=1, weights="w", seconds=0.1),
            scene=1,
            max_chars=400,
            temperature=0.8,
            message_id=None,
        )
        await self.turns.show(turn, 10**9 + turn.id)

    async def export(self) -> None:
        """Read the whole scene as an export does."""
        async for _ in self.scenes.script(BIG):
            pass

    async def delete_channel(self) -> None:
        """Delete the scenes of the largest channel."""
        await self.scenes.delete_channel(1)

    async def delete_old(self) -> None:
        """Delete old turns as the retention does."""
        await self.turns.deletions.delete_before(OLD)


async def milliseconds(work: Callable[[], Awaitable[object]]) -> float:
    """Return the duration of some work."""
    start = time.perf_counter()
    await work()
    return (time.perf_counter() - start) * 1000


async def waits_during(services: Services, work: Callable[[], Awaitable[object]]) -> dict[str, Any]:
    """Return the duration of some work, the longest wait of others, and the loop's delay.

    Each of the two is a pair: during the work, and during as much time without work.
    """
    start = time.perf_counter()
    wait, late = await delays(services, work)
    seconds = time.perf_counter() - start
    idle_wait, idle_late = await delays(services, partial(asyncio.sleep, seconds))
    return {
        "seconds": round(seconds, 2),
        "longest_wait": (wait, idle_wait),
        "loop_p99": (late, idle_late),
    }


async def delays(services: Services, work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Return the longest wait of others during some work, and the loop's delay."""
    waits: list[float] = []

    async def others() -> None:
        while True:
            waits.append(await milliseconds(lambda: services.scenes.page(OTHER)))
            await asyncio.sleep(PAUSE)

    asking = asyncio.create_task(others())
    late = sorted(await tick_delays(asyncio.ensure_future(work())))
    asking.cancel()
    return round(max(waits, default=0.0), 1), round(late[int(len(late) * 0.99)], 1)


async def compare(few: Services, many: Services) -> dict[str, float]:
    """Return how many times as long each operation takes in the large database."""
    growth = {}
    for name, of in {
        "page": lambda services: services.scenes.page(BIG),
        "turn": Services.add,
        "statistics": lambda services: services.statistics.read(),
    }.items():
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(REPEATS):
            for services, durations in zip((few, many), times, strict=True):
                durations.append(await milliseconds(partial(of, services)))
        growth[name] = round(statistics.median(times[1]) / statistics.median(times[0]), 2)
    return growth


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread, and those it starts, on one core, where the system can.

    A page takes 0.3 ms, and to wake a thread on another, sleeping core about as long: without this,
    the ratio says on which core the system put the threads of which database.
    """
    if sys.platform != "linux":
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Services]:
    """Open the services on a database."""
    async with open_database(path) as database:
        services = Services(database)
        try:
            yield services
        finally:
            await services.inference.close()


async def measure(count: int) -> tuple[dict[str, Any], bool]:
    """Measure with a large database of `count` turns.

    Returns:
        The report, and whether every bound was kept.
    """
    with tempfile.TemporaryDirectory() as folder:
        small, large = (Path(folder) / f"{number}.sqlite3" for number in (FEW, count))
        for path, number in ((small, FEW), (large, count)):
            async with open_database(path):
                pass  # creates the schema
            fill(path, number)
        with one_core():
            async with opened(small) as few, opened(large) as many:
                growth = await compare(few, many)
        async with opened(large) as many:
            long = {
                "export": await waits_during(many, many.export),
                "delete_old": await waits_during(many, many.delete_old),
                "delete_channel": await waits_during(many, many.delete_channel),
            }
    kept = max(growth.values()) <= GROWTH_BOUND and all(
        during - idle <= bound
        for work in long.values()
        for name, bound in (("longest_wait", WAIT_BOUND), ("loop_p99", LAG_BOUND))
        for during, idle in (work[name],)
    )
    return {"turns": count, "growth": growth, **long}, kept


def main() -> int:
    """Measure, print the report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=MANY, help="turns of the large database")
    report, kept = asyncio.run(measure(parser.parse_args().turns))
    print(json.dumps(report))
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
