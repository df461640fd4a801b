"""Rows of training runs and promotions: one active run, and deletion of personal data."""

import dataclasses
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.errors import Reason
from bot.storage.database import open_database
from bot.storage.runs import Run, RunStore
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
        await runs._write(
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
    await runs.delete_user(ANN)
    await runs.delete_user(BEN)
    await runs.delete_guild(1)
    kept = await runs.get(run.id)
    assert kept == dataclasses.replace(
        run, user_id=0, guild_id=None, channel_id=None, message_id=None
    )
    ((promoted_by, withdrawn_by),) = await runs._connection.execute_fetchall(
        "SELECT user_id, withdrawn_by FROM promotions"
    )
    assert (promoted_by, withdrawn_by) == (0, 0)
