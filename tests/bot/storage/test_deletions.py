"""What deletions leave behind: no row about a place without turns, and none with a person's id."""

import asyncio
import itertools
import random
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import date, time
from pathlib import Path

import pytest

from bot.errors import Reason, RejectedError, StoppedError
from bot.storage.database import Database, Row, open_database
from bot.storage.records import Place, Take, Turn, TurnRequest
from bot.storage.runs import RunStore
from bot.storage.schedules import ScheduleStore
from bot.storage.schema import migrations_path
from bot.storage.statistics import StatisticsStore
from bot.storage.turns import TurnStore
from tests.bot.conftest import rejected

ANN, BEN = 2**62 + 1, 2**62 + 2
GLOBE = 7
CHANNELS = (3, 4, 5)
TAKE = Take(reply="O.", seed=1, weights="w", seconds=0.5)


_message_ids = itertools.count(1000)


def request(
    user: int = ANN, channel: int = 3, *, private: bool = False, parent: int | None = None
) -> TurnRequest:
    place = Place(
        guild_id=GLOBE, channel_id=channel, parent_id=parent, audience=user if private else 0
    )
    return TurnRequest(place=place, user_id=user, prompt="ROMEO:")


async def add(turns: TurnStore, asked: TurnRequest, *, shown: bool = True) -> Turn:
    turn = await turns.add(
        asked,
        TAKE,
        scene=await turns.scene(asked.place) or 1,
        max_chars=9,
        temperature=0.8,
        message_id=next(_message_ids),
    )
    if shown:
        assert turn.message_id is not None
        await turns.show(turn, turn.message_id)
    return turn


def rows_with(path: Path, snowflake: int) -> list[tuple[str, object]]:
    """Return every row of every table with an id in any of its columns, also as text."""
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return [
            (table, row)
            for (table,) in tables.fetchall()
            for row in connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608
            if any(str(snowflake) in str(value) for value in row)
        ]


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


async def delete_message(turns: TurnStore, turn: Turn) -> object:
    assert turn.message_id is not None
    return await turns.deletions.delete_messages({turn.message_id})


async def delete_all_of(turns: TurnStore, scope: str, target: int, *, gone: bool = False) -> None:
    deletions = turns.deletions
    await deletions.carry_out(
        await deletions.record(scope, target, gone=gone)  # type: ignore[arg-type]
    )


WAYS: dict[str, Callable[[TurnStore, Turn], Awaitable[object]]] = {
    "the button": lambda turns, turn: turns.deletions.delete(turn.id),
    "deletion of the message": delete_message,
    "retention": lambda turns, _turn: turns.deletions.delete_before(10.0**12),
    "my words": lambda turns, turn: delete_all_of(turns, "user", turn.user_id),
    "all of this channel": lambda turns, turn: delete_all_of(
        turns, "channel", turn.place.channel_id
    ),
    "departure": lambda turns, _turn: delete_all_of(turns, "guild", GLOBE, gone=True),
}


@pytest.mark.parametrize("way", WAYS)
async def test_last_turn_of_a_place_takes_its_rows_along(
    turns: TurnStore, path: Path, way: str
) -> None:
    turn = await add(turns, request(private=True, parent=30))
    assert {table for table, _ in rows_with(path, ANN)} == {"turns", "places"}
    await WAYS[way](turns, turn)
    assert rows_with(path, ANN) == []
    assert (count(path, "places"), count(path, "threads")) == (0, 0)


async def test_turn_that_was_never_shown_takes_its_rows_along(turns: TurnStore, path: Path) -> None:
    await add(turns, request(private=True, parent=30), shown=False)
    assert await turns.deletions.forget_unseen(10.0**12) == 1
    assert (count(path, "places"), count(path, "threads")) == (0, 0)


async def test_place_with_another_turn_keeps_its_rows(turns: TurnStore, path: Path) -> None:
    turn = await add(turns, request(parent=30))
    await add(turns, request(BEN, parent=30))
    await turns.start_scene(turn.place)
    await turns.deletions.delete(turn.id)
    assert await turns.scene(turn.place) == 2
    assert (count(path, "places"), count(path, "threads")) == (1, 1)


@pytest.mark.parametrize("seed", range(8))
async def test_no_row_has_the_id_of_a_person_who_was_forgotten(
    turns: TurnStore, database: Database, path: Path, seed: int
) -> None:
    """Whatever happened before, in any order."""
    dice, runs = random.Random(seed), RunStore(database)  # noqa: S311 - the same in each run
    added: list[Turn] = []
    for _ in range(40):
        user, channel = dice.choice((ANN, BEN)), dice.choice(CHANNELS)
        asked = request(user, channel, private=dice.random() < 0.5, parent=dice.choice((None, 30)))
        match dice.randrange(9):
            case 0 if added:
                await turns.deletions.delete(dice.choice(added).id)
            case 1:
                await turns.start_scene(asked.place)
            case 2:
                await turns.show(await add(turns, asked, shown=False), next(_message_ids), user)
            case 3:
                run = await runs.start(
                    user_id=user,
                    guild_id=GLOBE,
                    channel_id=channel,
                    preset="quick",
                    minutes=1,
                    corpus=None,
                )
                await runs.end(run.id, "finished", weights="w")
                await runs.promote(run.id, user)
                await runs.withdraw((await runs.promotions())[0], dice.choice((ANN, BEN)))
            case 4:
                await ScheduleStore(database).add(
                    guild_id=GLOBE,
                    channel_id=channel,
                    parent_id=None,
                    user_id=user,
                    at=time(8, 30),
                    zone="UTC",
                    prompt="ROMEO:",
                    last_day=date(2026, 1, 5),
                    due_at=1.0,
                )
            case 5 if added:
                await turns.withdraw(dice.choice(added))
            case 5:
                scene = await turns.scene(asked.place) or 1
                await turns.parts.take(asked.place, scene, f"PART {user % 9}", user, 1.0)
            case _:
                added.append(await add(turns, asked, shown=dice.random() < 0.8))
    await delete_all_of(turns, "user", ANN)
    assert rows_with(path, ANN) == []
    assert rows_with(path, BEN)


@pytest.mark.parametrize(
    ("scope", "target", "gone", "stored"),
    [
        ("user", ANN, False, False),
        ("user", BEN, False, True),
        ("guild", GLOBE, True, False),
        ("guild", 8, True, True),
        ("channel", 3, True, False),
        ("channel", 3, False, True),  # its lock keeps the order
    ],
)
async def test_turn_that_was_requested_before_a_deletion_is_not_stored_after_it(
    turns: TurnStore, path: Path, scope: str, target: int, *, gone: bool, stored: bool
) -> None:
    asked = request()
    values = {"scene": 1, "max_chars": 9, "temperature": 0.8, "message_id": None}
    with turns.deletions.watch(asked) as watch:
        await delete_all_of(turns, scope, target, gone=gone)
        if stored:
            await turns.add(asked, TAKE, watch=watch, **values)  # type: ignore[arg-type]
        else:
            with pytest.raises(StoppedError):
                await turns.add(asked, TAKE, watch=watch, **values)  # type: ignore[arg-type]
    assert count(path, "turns") == stored
    with turns.deletions.watch(asked) as watch:  # a later request
        await turns.add(asked, TAKE, watch=watch, **values)  # type: ignore[arg-type]


async def test_threads_of_a_channel_that_goes_while_deletions_are_read_are_deleted_too(
    turns: TurnStore, database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(turns, request(channel=4, parent=3))
    read, recorded = asyncio.Event(), asyncio.Event()
    fetch = database.fetch

    async def slow_fetch(sql: str) -> list[Row]:
        rows = await fetch(sql)
        read.set()
        await recorded.wait()
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(database, "fetch", slow_fetch)
        resuming = asyncio.create_task(turns.deletions.resume())
        await read.wait()
    await turns.deletions.carry_out(await turns.deletions.record("channel", 3, gone=True))
    recorded.set()
    await resuming
    await turns.deletions.resume()
    assert count(path, "turns") == count(path, "erasures") == 0


async def test_channel_with_many_threads_is_recorded_in_few_statements(
    turns: TurnStore, database: Database, path: Path
) -> None:
    """Others wait meanwhile."""
    counts = []
    for channel, threads in ((3, 2), (4, 200)):
        ids = range(1000 * channel, 1000 * channel + threads)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executemany(
                "INSERT INTO threads VALUES (?, ?, 7)", ((thread, channel) for thread in ids)
            )
        statements: list[str] = []
        await database._writer.set_trace_callback(statements.append)
        await turns.deletions.record("channel", channel, gone=True)
        await database._writer.set_trace_callback(statements.clear)
        counts.append(len(statements))
    few, many = counts
    assert many == few
    assert (count(path, "threads"), count(path, "erasures")) == (0, 204)
    await turns.deletions.resume()
    assert count(path, "erasures") == 0


async def test_deletion_that_was_recorded_and_not_begun_is_resumed(
    turns: TurnStore, path: Path
) -> None:
    """The settings are deleted in between, which may fail."""
    await add(turns, request())
    await turns.deletions.resume()
    await turns.deletions.record("guild", GLOBE, gone=True)
    await turns.deletions.resume()
    assert count(path, "turns") == count(path, "erasures") == 0


async def test_deletions_that_could_not_be_read_are_resumed_later(
    turns: TurnStore, database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_sql: str) -> list[Row]:
        raise RejectedError(Reason.MEMORY_BUSY)

    await add(turns, request())
    await turns.deletions.record("user", ANN)
    with monkeypatch.context() as patched, rejected(Reason.MEMORY_BUSY):
        patched.setattr(database, "fetch", fail)
        await turns.deletions.resume()
    await turns.deletions.resume()
    assert count(path, "turns") == 0


async def test_migration_removes_rows_of_empty_places_and_keeps_the_last_durations(
    path: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for script in sorted(migrations_path().glob("*.sql"))[:7]:
        shutil.copy(script, old)
    async with open_database(path, old):
        pass
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO turns (id, channel_id, scene, user_id, max_chars, temperature, created_at,"
            " take) VALUES (?, 3, 1, 1, 9, 1, 1, 1)",
            ((n,) for n in range(1, 151)),
        )
        connection.execute(
            "INSERT INTO takes SELECT id, 1, 'O.', 1, 'w', iif(id > 75, 2, 9), 1 FROM turns"
        )
        connection.execute("INSERT INTO places VALUES (3, 0, 7, 1, 1), (4, 5, 7, 1, 1)")
        connection.execute("INSERT INTO threads VALUES (3, 30, 7), (4, 30, 7)")
    async with open_database(path) as database:
        found = await StatisticsStore(database).read()
    assert (found.timed, found.median_seconds) == (100, 2)
    assert (count(path, "places"), count(path, "threads")) == (1, 1)
