"""Rows of training runs and promotions: one active run, and deletion of personal data."""

import dataclasses
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from bot.errors import Reason
from bot.storage import exports as exports_module
from bot.storage.database import open_database
from bot.storage.deletions import DeletionStore
from bot.storage.exports import ExportStore
from bot.storage.runs import Run, RunStore
from bot.storage.schema import migrations_path
from tests.bot.conftest import rejected

ANN, BEN = 11, 12


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[RunStore]:
    async with open_database(tmp_path / "bard.sqlite3") as connection:
        yield RunStore(connection)


async def start(runs: RunStore) -> Run:
    return await runs.start(
        user_id=ANN, guild_id=1, channel_id=2, preset="quick", minutes=1, corpus=None
    )


async def test_second_active_run_is_rejected(runs: RunStore) -> None:
    ended = await start(runs)
    await runs.end(ended.id, "cancelled")
    active = await start(runs)
    with rejected(Reason.RUN_ACTIVE):
        await start(runs)
    with rejected(Reason.RUN_ACTIVE):
        await runs.resume(ended.id, user_id=ANN, guild_id=1, channel_id=2)
    assert await runs.running() == active
    await runs.end(active.id, "failed")
    assert (await runs.resume(ended.id, user_id=BEN, guild_id=1, channel_id=2)).state == "running"


async def test_database_allows_one_running_row(runs: RunStore) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await runs._database.run(
            "INSERT INTO runs (user_id, preset, minutes, started_at)"
            " VALUES (1, 'quick', 1, 0), (1, 'quick', 1, 0)",
            (),
        )


async def test_end_is_recorded_once(runs: RunStore) -> None:
    run = await start(runs)
    ended = await runs.end(run.id, "cancelled", step=5, steps=9)
    assert (ended.state, ended.step, ended.steps) == ("cancelled", 5, 9)
    assert await runs.end(run.id, "failed", problem="late") == ended


async def test_data_of_users_and_servers_can_be_deleted(runs: RunStore) -> None:
    run = await start(runs)
    run = await runs.end(run.id, "finished", weights="w")
    await runs.set_message(run.id, 2, 3)
    await runs.promote(run.id, ANN)
    (promotion,) = await runs.promotions()
    await runs.withdraw(promotion, BEN)
    deletions = DeletionStore(runs._database)
    assert [(await deletions.record("user", ANN)).marks for _ in range(2)] == [2, 0]
    assert [(await deletions.record("user", BEN)).marks for _ in range(2)] == [1, 0]
    assert (await deletions.record("channel", 99, gone=True)).marks == 0
    assert [(await deletions.record("guild", 1, gone=True)).marks for _ in range(2)] == [1, 0]
    await runs.set_message(run.id, 2, 4)  # the answer to an edit that began before
    kept = await runs.get(run.id)
    assert kept == dataclasses.replace(
        run, user_id=0, guild_id=None, channel_id=None, message_id=None
    )
    ((promoted_by, withdrawn_by),) = await runs._database.fetch(
        "SELECT user_id, withdrawn_by FROM promotions"
    )
    assert (promoted_by, withdrawn_by) == (0, 0)


async def test_end_counts_as_shown_until_the_run_is_resumed(runs: RunStore) -> None:
    run = await start(runs)
    assert await runs.unshown() == []
    run = await runs.end(run.id, "cancelled")
    assert await runs.unshown() == [run]
    await runs.set_end_shown(run)
    assert await runs.unshown() == []
    await runs.resume(run.id, user_id=ANN, guild_id=1, channel_id=2)
    again = await runs.end(run.id, "interrupted")
    await runs.set_end_shown(run)  # of the end before
    assert await runs.unshown() == [again]


async def test_ends_from_before_the_migration_count_as_shown(tmp_path: Path) -> None:
    old, path = tmp_path / "migrations", tmp_path / "old.sqlite3"
    old.mkdir()
    for script in sorted(migrations_path().glob("*.sql"))[:6]:
        shutil.copy(script, old)
    async with open_database(path, old):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO runs (id, state, user_id, preset, minutes, started_at, ended_at)"
            " VALUES (1, 'finished', 1, 'quick', 1, 0, 1), (2, 'running', 1, 'quick', 1, 0, NULL)"
        )
    async with open_database(path) as connection:
        runs = RunStore(connection)
        assert await runs.unshown() == []
        interrupted = await runs.end(2, "interrupted")
        assert await runs.unshown() == [interrupted]


async def test_decisions_are_conditional_on_the_state(runs: RunStore) -> None:
    run = await start(runs)
    assert not await runs.promote(run.id, ANN)
    assert not await runs.discard(run.id)
    await runs.end(run.id, "finished", weights="w")
    assert await runs.promote(run.id, ANN)
    assert not await runs.discard(run.id)
    (promotion,) = await runs.promotions()
    await runs.withdraw(promotion, ANN)
    assert await runs.discard(run.id)
    assert not await runs.promote(run.id, ANN)


async def test_export_has_all_of_one_person_and_nothing_of_others(
    runs: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = ExportStore(runs._database)
    monkeypatch.setattr(exports_module, "_ROWS_PER_READ", 2)
    for user in (ANN, BEN, ANN, ANN):
        run = await runs.start(
            user_id=user, guild_id=2**60, channel_id=2, preset="quick", minutes=1, corpus="a.txt"
        )
        await runs.end(run.id, "finished", weights="w", loss=1.5)
    await runs.promote(2, ANN)
    await runs.promote(4, BEN)
    for promotion, person in zip(await runs.promotions(), (ANN, BEN), strict=True):
        await runs.withdraw(promotion, person)
    exported = [json.loads(text) async for text in exports.read(ANN)]
    assert [(item["type"], item["run"]) for item in exported] == [
        ("run", 1),
        ("run", 3),
        ("run", 4),
        ("promotion", 2),
        ("promotion", 4),
    ]
    assert {item["user_id"] for item in exported[:3]} == {str(ANN)}
    assert exported[0]["server_id"] == str(2**60)
    assert exported[0]["loss"] == 1.5
    assert exported[0]["started_at"].endswith("Z")
    parts = [(item["promoted_by"], item["withdrawn_by"]) for item in exported[3:]]
    assert parts == [(str(ANN), None), (None, str(ANN))]
    assert [json.loads(text)["run"] async for text in exports.read(BEN)] == [2, 2, 4]
