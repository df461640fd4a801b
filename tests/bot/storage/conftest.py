"""Fixtures: an open database in the test's own folder, and the store of its turns."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.storage.database import Database, open_database
from bot.storage.turns import TurnStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bard.sqlite3"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    async with open_database(path) as database:
        yield database


@pytest.fixture
def turns(database: Database) -> TurnStore:
    return TurnStore(database)
