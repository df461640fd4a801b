"""The work of each statement does not grow with the number of stored turns.

SQLite counts the instructions of its virtual machine, which do not depend on the machine's load.
"""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from bot.storage.database import Database, open_database
from bot.storage.deletions import Deletion
from bot.storage.exports import ExportStore
from bot.storage.records import Place, Take, TurnRequest
from bot.storage.statistics import StatisticsStore
from bot.storage.turns import TurnStore

FEW, MANY = 1_200, 15_000
GARDEN = Place(guild_id=7, channel_id=3)
ANN = 11
RATIO = 1.5


def fill(path: Path, count: int) -> None:
    """Store shown turns of one scene, half of them of one person."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO turns (id, guild_id, channel_id, scene, user_id, prompt, max_chars,"
            " temperature, created_at, message_id, take)"
            " VALUES (?, 7, 3, 1, ?, 'P', 9, 1, ?, ?, 1)",
            ((n, ANN + n % 2, n, 10**6 + n) for n in range(1, count + 1)),
        )
        connection.execute(
            "INSERT INTO takes (turn_id, number, reply, seed, weights, seconds, created_at)"
            " SELECT id, 1, 'O, she doth teach.', 1, 'w', 1, 1 FROM turns"
        )
        connection.execute("INSERT INTO places VALUES (3, 0, 7, 1, 1)")
        connection.execute("INSERT INTO places SELECT id + 9, id, NULL, 1, 1 FROM turns")
        connection.execute("INSERT INTO threads SELECT id + 9, id, 7 FROM turns")


async def whole(iterator: AsyncIterator[object]) -> None:
    """Read the first piece of a long result."""
    async for _ in iterator:
        return


async def add(turns: TurnStore) -> None:
    turn = await turns.add(
        TurnRequest(place=GARDEN, user_id=ANN, prompt="P"),
        Take(reply="O.", seed=1, weights="w", seconds=1),
        scene=1,
        max_chars=9,
        temperature=1,
        message_id=5,
    )
    await turns.show(turn, 5)
    taken = await turns.add_take(turn, turn.take)
    assert taken is not None
    await turns.withdraw(taken)
    await turns.deletions.delete(turn.id)


STATEMENTS: dict[str, Callable[[TurnStore], Awaitable[object]]] = {
    "scene": lambda turns: turns.scene(GARDEN),
    "has scene": lambda turns: turns.has_scene(3),
    "tail": lambda turns: turns.tail(GARDEN, 1, chars=2000),
    "earlier tail": lambda turns: turns.tail(GARDEN, 1, chars=2000, before=600),
    "last page": lambda turns: turns.page(GARDEN, 1, turns=5, chars=1500),
    "middle page": lambda turns: turns.page(GARDEN, 1, turns=5, chars=1500, before=600),
    "next page": lambda turns: turns.page(GARDEN, 1, turns=5, chars=1500, after=600),
    "find": lambda turns: turns.find(600),
    "prompts": lambda turns: turns.prompts(GARDEN),
    "statistics": lambda turns: StatisticsStore(turns._database).read(),
    "unsettled": lambda turns: turns.unsettled(),
    "unsettled here": lambda turns: turns.unsettled(3),
    "forget unseen": lambda turns: turns.deletions.forget_unseen(10**9),
    "first piece of the script": lambda turns: whole(turns.script(GARDEN, 1)),
    "first piece of the export": lambda turns: whole(ExportStore(turns._database).read(ANN)),
    "a turn and a take": add,
    "deleted message": lambda turns: turns.deletions.delete_messages({10**6 + 600}),
    "recorded deletion": lambda turns: turns.deletions.record("user", 5),
    "deletion": lambda turns: turns.deletions.carry_out(Deletion(1, "user", 5, 10**9)),
    "intended take": lambda turns: turns.intended(600),
    "deletion of one day": lambda turns: turns.deletions.delete_before(50),
    "new scene": lambda turns: turns.start_scene(GARDEN),
    "deletion of a channel that is gone": lambda turns: turns.deletions.record(
        "channel", 5, gone=True
    ),
}


async def instructions(database: Database, work: Awaitable[object]) -> int:
    """Return the number of instructions that SQLite executes for some statements."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connections = (database._writer, database._reader)
    for connection in connections:
        await connection.set_progress_handler(step, 1)
    await work
    for connection in connections:
        await connection.set_progress_handler(lambda: 0, 0)
    return count


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Databases with few and with many turns."""
    return tmp_path_factory.mktemp("few") / "few.sqlite3", tmp_path_factory.mktemp("many") / "many"


@pytest.mark.parametrize("name", STATEMENTS)
async def test_work_does_not_grow(files: tuple[Path, Path], name: str) -> None:
    counts = []
    for path, count in zip(files, (FEW, MANY), strict=True):
        fresh = not path.exists()
        async with open_database(path) as database:
            if fresh:
                fill(path, count)
            work = STATEMENTS[name](TurnStore(database))
            counts.append(await instructions(database, work))
    few, many = counts
    assert 0 < many <= RATIO * few


async def test_statistics_read_no_table_that_grows(tmp_path: Path) -> None:
    """A lookup takes longer in a larger table, though SQLite counts the same instructions."""
    path, tables = tmp_path / "bard.sqlite3", set()

    def authorize(action: int, table: str, *_: object) -> int:
        if action == sqlite3.SQLITE_READ:
            tables.add(table)
        return sqlite3.SQLITE_OK

    async with open_database(path) as database:
        turns = TurnStore(database)
        for _ in range(130):
            await add(turns)
        await database._reader.set_authorizer(authorize)
        found = await StatisticsStore(database).read()
    assert found.timed == 100
    with closing(sqlite3.connect(path)) as connection:
        rows = [connection.execute(f"SELECT count(*) FROM {name}").fetchone() for name in tables]  # noqa: S608
    assert tables == {"totals", "durations"}
    assert sum(count for (count,) in rows) == 101
