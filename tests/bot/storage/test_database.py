"""The database file: created, migrated, rejected and left unchanged; its statements."""

import asyncio
import itertools
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bot.errors import Reason, StartupError
from bot.storage import database as module
from bot.storage.database import Database, open_database
from bot.storage.schema import APPLICATION_ID, migrations_path
from tests.bot.conftest import rejected

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
    async with open_database(path) as database:
        assert await database.change("PRAGMA foreign_keys") == [(1,)]


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


def test_migration_gives_every_turn_its_takes(path: Path, migrations: Path) -> None:
    for script in sorted(migrations_path().glob("000[2-5]_*.sql")):
        (migrations / script.name).write_text(script.read_text(encoding="utf-8"))
    open_and_close(path, migrations)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO turns (id, channel_id, scene, reply, state, take, weights, user_id,"
            " max_chars, temperature, seed, seconds, created_at, message_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 1, 1, 1, 1, 1, 1, ?)",
            [
                (1, 5, 1, "one", "shown", 1, "w", 11),
                (2, 5, 1, "second", "shown", 2, "w", 12),
                (3, 5, 2, "", "deleted", 1, "w", None),
                (4, 5, 3, "", "deleted", 1, "", None),  # starts a scene
                (5, 6, 1, "late", "pending", 1, "w", None),
                (9, 6, 1, "", "deleted", 1, "w", None),
            ],
        )
        connection.executemany(
            "INSERT INTO takes VALUES (2, ?, ?, 1, 'w', 1, 1)", [(1, "first"), (2, "second")]
        )
        totals = connection.execute("SELECT * FROM totals").fetchall()
    open_and_close(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(
            "SELECT id, audience, scene, message_id, take, intent FROM turns ORDER BY id"
        ).fetchall() == [(1, 0, 1, 11, 1, None), (2, 0, 1, 12, 2, None), (5, 0, 1, None, None, 1)]
        assert connection.execute(
            "SELECT turn_id, number, reply FROM takes ORDER BY turn_id, number"
        ).fetchall() == [
            (1, 1, "one"),
            (2, 1, "first"),
            (2, 2, "second"),
            (5, 1, "late"),
        ]
        assert connection.execute(
            "SELECT channel_id, audience, scene, counted FROM places"
        ).fetchall() == [(5, 0, 3, 0), (6, 0, 1, 1)]
        assert connection.execute("SELECT * FROM totals").fetchall() == totals
        connection.execute(
            "INSERT INTO turns (channel_id, scene, user_id, max_chars, temperature, created_at)"
            " VALUES (1, 1, 1, 1, 1, 1)"
        )
        assert connection.execute("SELECT max(id) FROM turns").fetchone() == (10,)


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


def test_file_that_is_held_at_the_end_of_a_migration_is_named(
    path: Path, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.0)
    open_and_close(path, migrations)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")  # a reader keeps a writer from committing
        other.execute("BEGIN")
        other.execute("SELECT * FROM turns").fetchall()
        with pytest.raises(StartupError, match=r"locked\. Another program holds it"):
            open_and_close(path)
        assert pragma(path, "user_version") == 1
    open_and_close(path)


def test_full_disk_at_the_start_is_named(
    path: Path, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_and_close(path, migrations)
    connect = sqlite3.connect

    def full(file: Path, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(file, **options)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(sqlite3, "connect", full)
    with pytest.raises(StartupError, match=r"full\. .*free some space"):
        open_and_close(path)


def test_migration_leaves_no_copy_of_a_text_that_is_deleted_later(
    path: Path, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_and_close(path, migrations)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO turns (reply, state, channel_id, user_id, scene, max_chars, temperature,"
            " seed, weights, seconds, created_at) VALUES (?, 'shown', 1, 1, 1, 1, 1, 1, 'w', 1, 1)",
            [("sekrit" * 300,)] * 9,
        )
    connect = sqlite3.connect

    def unprotected(file: Path, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(file, **options)
        connection.execute("PRAGMA secure_delete = OFF")  # the default of most builds of SQLite
        return connection

    monkeypatch.setattr(sqlite3, "connect", unprotected)

    async def delete() -> None:
        async with open_database(path) as database:
            assert await database.run("DELETE FROM turns") == 9
            await database.erase()

    asyncio.run(delete())
    assert b"sekritsekrit" not in path.read_bytes()


async def test_text_that_a_reader_keeps_in_the_log_at_the_start_is_erased_later(path: Path) -> None:
    path.parent.mkdir()
    async with open_database(path) as first:
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM turns").fetchall()
            await first.run("INSERT INTO guild_settings (guild_id) VALUES (1)")
            async with open_database(path) as database:
                assert database.erasure_owed
                reader.execute("ROLLBACK")
                await database.erase()
                assert not database.erasure_owed


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


def damage_table(path: Path) -> None:
    """Overwrite a page of the settings of servers."""
    data = bytearray(path.read_bytes())
    size = int(str(pragma(path, "page_size")))
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = 'guild_settings'"
        ((root,),) = connection.execute(query).fetchall()
    data[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(data)


def test_damaged_page_is_rejected(path: Path) -> None:
    open_and_close(path)
    damage_table(path)
    assert_rejected(path, "(?:damaged|malformed).* backup")


def test_check_of_a_large_file_ends(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_and_close(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO guild_settings (guild_id) VALUES (?)", ((n,) for n in range(50_000))
        )
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.0)
    with caplog.at_level("INFO"):
        open_and_close(path)
    assert "The check of the database was ended" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="permissions of files")
def test_read_only_file_is_rejected(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_and_close(path)
    connect = sqlite3.connect

    def read_only(file: Path, **options: Any) -> sqlite3.Connection:  # as for anybody but root
        connection: sqlite3.Connection = connect(f"{file.as_uri()}?mode=ro", uri=True, **options)
        return connection

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with pytest.raises(StartupError, match=r"readonly.* is not writable"):
        open_and_close(path)


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    async with open_database(path) as database:
        yield database


async def test_statement_that_fails_rolls_its_transaction_back(database: Database) -> None:
    async def insert_twice() -> None:
        async with database.transaction() as statements:
            for _ in range(2):
                await statements.run("INSERT INTO guild_settings (guild_id) VALUES (1)")

    with pytest.raises(sqlite3.IntegrityError):
        await insert_twice()
    assert await database.fetch("SELECT * FROM guild_settings") == []
    assert await database.run("INSERT INTO guild_settings (guild_id) VALUES (1)") == 1


@pytest.mark.parametrize("steps", range(12))
async def test_cancelled_transaction_is_rolled_back(database: Database, steps: int) -> None:
    async def work() -> None:
        async with database.transaction() as statements:
            await statements.run("INSERT INTO guild_settings (guild_id) VALUES (1)")
            await statements.run("INSERT INTO guild_settings (guild_id) VALUES (2)")

    task = asyncio.create_task(work())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    rows = await database.fetch("SELECT * FROM guild_settings")
    assert len(rows) == (0 if task.cancelled() else 2)
    assert await database.run("DELETE FROM guild_settings") == len(rows)


async def test_locked_database_delays_no_reader_and_gives_up(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(
            database.run("INSERT INTO guild_settings (guild_id) VALUES (1)")
        )
        for _ in range(3):
            assert await database.fetch("SELECT * FROM guild_settings") == []
        assert not writing.done()
        other.execute("ROLLBACK")
        assert await writing == 1
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(module, "BUSY_SECONDS", 0.0)
        for work in (database.run("DELETE FROM guild_settings"), begin(database)):
            with rejected(Reason.MEMORY_BUSY):
                await work
        other.execute("ROLLBACK")
    assert await database.run("DELETE FROM guild_settings") == 1


INSERT = "INSERT INTO guild_settings (guild_id) VALUES (1)"


async def test_reads_do_not_wait_for_a_change_in_the_background(database: Database) -> None:
    finish = threading.Event()
    await database._writer.set_progress_handler(lambda: not finish.wait(60), 1)
    writing = asyncio.create_task(database.run(INSERT, in_background=True))
    for _ in range(3):
        assert await database.fetch("SELECT * FROM guild_settings") == []
    assert not writing.done()
    finish.set()
    assert await writing == 1


async def test_reads_see_what_was_begun_before(database: Database) -> None:
    async def transaction() -> None:
        async with database.transaction() as statements:
            await statements.run(INSERT)
            await statements.run("UPDATE guild_settings SET max_chars = 50")

    for change in (database.run(INSERT), database.change(INSERT), transaction()):
        changing = asyncio.create_task(change)
        await asyncio.sleep(0)  # it begins
        assert len(await database.fetch("SELECT * FROM guild_settings")) == 1
        await changing
        await database.run("DELETE FROM guild_settings")


async def test_reads_do_not_wait_for_a_change_that_fails_or_is_cancelled(
    database: Database,
) -> None:
    with pytest.raises(sqlite3.OperationalError):
        await database.run("INSERT INTO nowhere VALUES (1)")
    changing = asyncio.create_task(database.run(INSERT))
    await asyncio.sleep(0)
    changing.cancel()
    assert await asyncio.wait_for(database.fetch("SELECT 1"), 30) == [(1,)]


async def test_reads_see_a_change_that_was_cancelled_while_it_was_made(database: Database) -> None:
    began, finish = threading.Event(), threading.Event()

    def wait() -> bool:
        began.set()
        return not finish.wait(60)

    await database._writer.set_progress_handler(wait, 1)
    changing = asyncio.create_task(database.run(INSERT))
    await asyncio.to_thread(began.wait)
    changing.cancel()
    await asyncio.wait({changing}, timeout=0)
    reading = asyncio.create_task(database.fetch("SELECT * FROM guild_settings"))
    for _ in range(3):  # a read that did not wait would be over now
        await database._reader.execute_fetchall("SELECT 1")
    finish.set()
    assert len(await reading) == 1
    with pytest.raises(asyncio.CancelledError):
        await changing


async def test_nothing_is_changed_by_what_should_only_read(database: Database) -> None:
    with rejected(Reason.MEMORY_LOST):
        await database.fetch("INSERT INTO guild_settings (guild_id) VALUES (1)")
    assert await database.fetch("SELECT * FROM guild_settings") == []


async def test_log_is_erased_though_reads_go_on(database: Database) -> None:
    async def read() -> None:
        for _ in range(100):
            await database.fetch("SELECT count(*) FROM guild_settings")

    reading = asyncio.create_task(read())
    for number in range(20):
        await database.run("INSERT INTO guild_settings (guild_id) VALUES (?)", (number,))
        await database.erase()
        assert not database.erasure_owed
    await reading


async def test_log_is_erased_after_a_read_in_progress(database: Database) -> None:
    await database.run(
        "INSERT INTO guild_settings (guild_id) WITH RECURSIVE n (i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) SELECT i FROM n"
    )
    calls, begun, finish = itertools.count(), threading.Event(), threading.Event()

    def wait() -> bool:
        if next(calls) < 100:  # it has no snapshot of the file yet
            return False
        begun.set()
        return not finish.wait(60)

    await database._reader.set_progress_handler(wait, 1)
    reading = asyncio.create_task(
        database.fetch("SELECT count(*) FROM guild_settings WHERE channels = ''")
    )
    await asyncio.to_thread(begun.wait, 60)
    erasing = asyncio.create_task(database.erase())
    while not (erasing.done() or database._reading._waiters):  # noqa: ASYNC110 - nothing tells it
        await asyncio.sleep(0.001)
    finish.set()
    assert await reading == [(200,)]
    await erasing
    assert not database.erasure_owed


async def begin(database: Database) -> None:
    async with database.transaction():
        pass


async def test_full_disk_is_named_and_changes_nothing(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ((pages,),) = await database.fetch("PRAGMA page_count")
    await database.change(f"PRAGMA max_page_count = {pages}")
    for _ in range(2):
        with rejected(Reason.MEMORY_FULL):
            async with database.transaction() as statements:
                await statements.run("INSERT INTO guild_settings (guild_id) VALUES (1)")
                await statements.run("UPDATE guild_settings SET channels = hex(zeroblob(99999))")
    assert await database.fetch("SELECT * FROM guild_settings") == []
    assert caplog.text.count("disk is full") == 1


@pytest.mark.parametrize("replace", [True, False])
async def test_deleted_or_replaced_file_is_noticed(
    database: Database,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    replace: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    original = move_away(path, replace=replace)
    for _ in range(2):
        with rejected(Reason.MEMORY_LOST):
            await database.run("DELETE FROM guild_settings")
    assert caplog.text.count("deleted or replaced") == 1
    original.replace(path)
    assert await database.run("DELETE FROM guild_settings") == 0


def move_away(path: Path, *, replace: bool) -> Path:
    """Rename a file, and put a copy in its place if it is to be replaced."""
    original = path.rename(path.with_suffix(".old"))
    if replace:
        path.write_bytes(original.read_bytes())
    return original


def damage(path: Path) -> None:
    """Overwrite all pages but the first."""
    size = int(str(pragma(path, "page_size")))
    with path.open("r+b") as file:
        file.seek(size)
        file.write(b"\xff" * (path.stat().st_size - size))


async def test_deleted_log_is_noticed(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    await database.run("INSERT INTO guild_settings (guild_id) VALUES (1)")
    path.with_name(f"{path.name}-wal").unlink()
    with rejected(Reason.MEMORY_LOST):
        await database.run("DELETE FROM guild_settings")


async def test_deleted_log_of_a_database_that_is_named_by_a_link_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    (tmp_path / "disk").mkdir()
    file, link = tmp_path / "disk" / "bard.sqlite3", tmp_path / "bard.sqlite3"
    link.symlink_to(file)
    async with open_database(link) as database:
        await database.run("INSERT INTO guild_settings (guild_id) VALUES (1)")
        assert (database.size() or 0) > file.stat().st_size
        file.with_name(f"{file.name}-wal").unlink()
        with rejected(Reason.MEMORY_LOST):
            await database.run("DELETE FROM guild_settings")


async def test_damage_while_running_is_named(
    database: Database, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await database.erase()
    damage(path)
    await database.change("PRAGMA shrink_memory")
    with rejected(Reason.MEMORY_LOST):
        await database.fetch("SELECT * FROM turns JOIN takes ON turn_id = id JOIN places")
    assert "malformed" in caplog.text
    assert "backup" in caplog.text
