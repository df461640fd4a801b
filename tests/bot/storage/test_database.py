"""The database file: created, migrated, or rejected and left unchanged."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bot.errors import StartupError
from bot.storage.database import APPLICATION_ID, migrations_path, open_database

SECOND = "ALTER TABLE turns ADD COLUMN mood TEXT;"
BROKEN = "CREATE TABLE half_done (x); INSERT INTO no_such_table VALUES (1);"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "bard.sqlite3"


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """A folder with a copy of the bot's first migration."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    (first,) = migrations_path().glob("0001_*.sql")
    (folder / first.name).write_text(first.read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def pragma(path: Path, name: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}


def open_and_close(path: Path, migrations: Path | None = None) -> None:
    async def work() -> None:
        async with open_database(path, migrations):
            pass

    asyncio.run(work())


def assert_rejected(path: Path, match: str, migrations: Path | None = None) -> None:
    """Check that opening fails with one line that matches, and changes no byte."""
    before = {file: file.read_bytes() for file in path.parent.glob(f"{path.name}*")}
    with pytest.raises(StartupError, match=match) as caught:
        open_and_close(path, migrations)
    assert "\n" not in str(caught.value)
    assert {file: file.read_bytes() for file in path.parent.glob(f"{path.name}*")} == before


async def test_foreign_keys_are_enforced(path: Path) -> None:
    async with (
        open_database(path) as connection,
        connection.execute("PRAGMA foreign_keys") as cursor,
    ):
        assert await cursor.fetchone() == (1,)


def test_new_file_and_folder_are_created(path: Path) -> None:
    open_and_close(path)
    assert pragma(path, "journal_mode") == "wal"
    assert pragma(path, "application_id") == APPLICATION_ID
    assert pragma(path, "user_version") == len(list(migrations_path().glob("*.sql")))
    assert "turns" in tables(path)


def test_every_migration_has_a_header() -> None:
    for number, file in enumerate(sorted(migrations_path().glob("*.sql")), start=1):
        header = file.read_text(encoding="utf-8").splitlines()[:2]
        assert header[0].startswith(f"-- {number:04}: ")
        assert header[1].startswith("-- Why: ")


def test_migration_counts_turns_that_were_shown_before(path: Path, migrations: Path) -> None:
    open_and_close(path, migrations)
    turns = [
        (1, 1, "abc", "shown"),
        (1, 1, "d", "shown"),
        (1, 2, "e", "pending"),
        (2, 1, "", "deleted"),
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO turns (channel_id, scene, reply, state, user_id, max_chars, temperature,"
            " seed, weights, seconds, created_at) VALUES (?, ?, ?, ?, 1, 1, 1, 1, 'w', 1, 1)",
            turns,
        )
    open_and_close(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT scenes, characters FROM totals").fetchall() == [(2, 4)]


def test_only_pending_migrations_run(path: Path, migrations: Path) -> None:
    open_and_close(path, migrations)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO turns (channel_id, user_id, scene, reply, max_chars, temperature, seed,"
            " weights, seconds, created_at) VALUES (1, 1, 1, 'Words', 1, 1, 1, '', 1, 1)"
        )
    (migrations / "0002_mood.sql").write_text(SECOND)
    open_and_close(path, migrations)

    assert pragma(path, "user_version") == 2
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT reply, mood FROM turns").fetchall() == [("Words", None)]


def test_failed_migration_leaves_an_existing_file_unchanged(path: Path, migrations: Path) -> None:
    open_and_close(path, migrations)
    (migrations / "0002_mood.sql").write_text(SECOND)
    (migrations / "0003_broken.sql").write_text(BROKEN)
    assert_rejected(path, r"0003_broken\.sql.*no_such_table", migrations)
    assert pragma(path, "user_version") == 1
    assert "half_done" not in tables(path)


def test_failed_migration_creates_no_file(path: Path, migrations: Path) -> None:
    (migrations / "0002_broken.sql").write_text(BROKEN)
    assert_rejected(path, r"0002_broken\.sql", migrations)
    assert not path.exists()


def test_migration_that_fails_only_on_the_file_is_rolled_back(path: Path, migrations: Path) -> None:
    """A migration can pass on the copy and fail on the file; this one depends on its name."""
    open_and_close(path, migrations)
    (migrations / "0002_name_dependent.sql").write_text(
        "CREATE TABLE half_done (x CHECK (x != ''));\n"
        "INSERT INTO half_done SELECT file FROM pragma_database_list WHERE name = 'main';"
    )
    with closing(sqlite3.connect(":memory:")) as memory:
        assert memory.execute("SELECT file FROM pragma_database_list").fetchone() == ("",)
    assert_rejected(path, r"0002_name_dependent\.sql", migrations)
    assert "half_done" not in tables(path)


def test_newer_database_is_rejected(path: Path) -> None:
    open_and_close(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    assert_rejected(path, "newer than this bot")


def test_file_that_is_no_database_is_rejected(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"To be, or not to be, that is the question. " * 100)
    assert_rejected(path, "not a database")


def test_database_of_another_program_is_rejected(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE accounts (id)")
    assert_rejected(path, "another program")


def test_folder_at_the_path_is_rejected(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StartupError, match="BARD_DATABASE"):
        open_and_close(path)


def test_empty_file_becomes_a_database(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    open_and_close(path)
    assert "turns" in tables(path)


def test_gap_in_the_migration_numbers_is_rejected(path: Path, migrations: Path) -> None:
    (migrations / "0003_late.sql").write_text(SECOND)
    assert_rejected(path, "without a gap", migrations)
