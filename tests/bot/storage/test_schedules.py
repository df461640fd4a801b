"""Stored daily scenes: each run is claimed once, and nothing outlives what it belongs to."""

import asyncio
from datetime import date, time
from pathlib import Path
from typing import Any

import pytest

from bot.storage.database import Database
from bot.storage.deletions import DeletionStore
from bot.storage.schedules import PAUSE_AFTER, PER_GUILD, Schedule, ScheduleStore

ANN, BEN = 1, 2
TODAY, TOMORROW = date(2026, 1, 5), date(2026, 1, 6)
WORDS = "Words of a daily scene"


@pytest.fixture
def schedules(database: Database) -> ScheduleStore:
    return ScheduleStore(database)


async def add(schedules: ScheduleStore, **changes: Any) -> Schedule:
    values: dict[str, Any]
    values = {"guild_id": 7, "channel_id": 3, "parent_id": None, "user_id": ANN, "zone": "UTC"}
    values |= {"at": time(8, 30), "prompt": WORDS, "last_day": date(2026, 1, 4), "due_at": 100.0}
    added = await schedules.add(**(values | changes))
    assert added is not None
    return added


async def test_run_of_a_day_is_claimed_once(schedules: ScheduleStore) -> None:
    added = await add(schedules)
    assert await schedules.due(99.0, 9) == []
    assert await schedules.due(100.0, 9) == [added]
    claims = await asyncio.gather(*(schedules.claim(added, TODAY, 200.0) for _ in range(5)))
    assert sorted(claims) == [False] * 4 + [True]
    assert not await schedules.claim(added, date(2026, 1, 3), 200.0)  # the clock was set back
    assert await schedules.due(199.0, 9) == []
    assert await schedules.next_due_at() == 200.0
    assert await schedules.claim(added, TOMORROW, 300.0)


async def test_released_run_can_be_claimed_again(schedules: ScheduleStore) -> None:
    added = await add(schedules)
    assert await schedules.claim(added, TODAY, 200.0)
    await schedules.release(added, TODAY)
    assert await schedules.due(100.0, 9) == [added]
    assert await schedules.claim(added, TODAY, 200.0)


async def test_removed_schedule_cannot_be_claimed(schedules: ScheduleStore) -> None:
    added = await add(schedules)
    assert await schedules.remove(8, added.id) is None  # another server
    assert await schedules.remove(7, added.id) == added
    assert not await schedules.claim(added, TODAY, 200.0)
    assert await schedules.settle(added, "played") is None
    assert await schedules.next_due_at() is None
    assert (await add(schedules)).id > added.id  # people may still name the old number


async def test_server_has_a_limit_also_for_requests_at_once(schedules: ScheduleStore) -> None:
    added = await asyncio.gather(*(_try_to_add(schedules) for _ in range(PER_GUILD + 5)))
    assert sum(schedule is not None for schedule in added) == PER_GUILD
    assert (await add(schedules, guild_id=8)).guild_id == 8


async def _try_to_add(schedules: ScheduleStore) -> Schedule | None:
    return await schedules.add(
        guild_id=7,
        channel_id=3,
        parent_id=None,
        user_id=ANN,
        at=time(8, 30),
        zone="UTC",
        prompt=WORDS,
        last_day=TODAY,
        due_at=1.0,
    )


async def test_failures_in_a_row_pause_a_schedule(schedules: ScheduleStore) -> None:
    added = await add(schedules)
    assert await schedules.settle(added, "forbidden") is not None
    settled = await schedules.settle(added, "away")
    assert settled is not None
    assert settled.failures == 0  # nobody has to do anything about it
    for number in range(1, PAUSE_AFTER + 1):
        settled = await schedules.settle(added, "gone")
        assert settled is not None
        assert settled.failures == number
        assert settled.paused == (number == PAUSE_AFTER)
    assert await schedules.due(1000.0, 9) == []
    assert await schedules.next_due_at() is None


@pytest.mark.parametrize(
    ("scope", "target", "gone", "kept"),
    [
        ("user", ANN, False, [BEN]),
        ("user", BEN, False, [ANN]),
        ("guild", 7, True, [BEN]),
        ("channel", 3, True, [BEN]),
        ("channel", 30, True, [BEN]),  # of which 3 is a thread
        ("channel", 3, False, [ANN, BEN]),  # its scenes are forgotten, and go on tomorrow
    ],
)
async def test_schedules_go_with_their_person_channel_and_server(
    schedules: ScheduleStore,
    database: Database,
    path: Path,
    scope: Any,
    target: int,
    *,
    gone: bool,
    kept: list[int],
) -> None:
    words = {ANN: "Words of Ann", BEN: "Words of Ben"}
    await add(schedules, user_id=ANN, channel_id=3, parent_id=30, prompt=words[ANN])
    await add(schedules, user_id=BEN, guild_id=8, channel_id=4, prompt=words[BEN])
    deletions = DeletionStore(database)
    await deletions.carry_out(await deletions.record(scope, target, gone=gone))
    assert [schedule.user_id for schedule in await schedules.after(0, 9)] == kept
    files = b"".join(file.read_bytes() for file in path.parent.glob("bard.sqlite3*"))
    for user, prompt in words.items():
        assert (prompt.encode() in files) == (user in kept)


async def test_deletions_of_the_store_erase_the_prompt(
    schedules: ScheduleStore, path: Path
) -> None:
    await add(schedules, channel_id=3)
    await add(schedules, channel_id=4, parent_id=30)
    assert [schedule.channel_id for schedule in await schedules.delete_channel(3)] == [3]
    assert [schedule.channel_id for schedule in await schedules.delete_channel(30)] == [4]
    files = b"".join(file.read_bytes() for file in path.parent.glob("bard.sqlite3*"))
    assert WORDS.encode() not in files
