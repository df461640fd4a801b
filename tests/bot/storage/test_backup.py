"""Copies of the database: while it is written, before a migration, checked, and nowhere else."""

import asyncio
import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from bot.errors import StartupError
from bot.storage import backup as module
from bot.storage.backup import automatic_backups, delete_old_backups, read, save_backup
from bot.storage.database import open_database
from bot.storage.schema import migrations_path, newest_version, read_header
from tests.bot.storage.test_database import damage_table, open_and_close, pragma

NEWEST = newest_version()
FULL = SimpleNamespace(free=0)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "saved.sqlite3"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder with all migrations but the last."""
    folder = tmp_path / "older"
    folder.mkdir()
    for script in sorted(migrations_path().glob("*.sql"))[:-1]:
        shutil.copy(script, folder)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def settings_of(path: Path) -> list[int]:
    """Return the servers that have settings in a database."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT guild_id FROM guild_settings ORDER BY guild_id")
        return [row[0] for row in rows]


def write(path: Path, *guilds: int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO guild_settings (guild_id) VALUES (?)", ((guild,) for guild in guilds)
        )


def refuse(path: Path, target: Path, match: str, *, force: bool = False) -> None:
    """Check that a backup is refused with one line, and that it changes no file."""
    folders = {path.parent, target.parent}
    before = {file: file.read_bytes() for folder in folders for file in folder.glob("*.*")}
    with pytest.raises(StartupError, match=match) as caught:
        save_backup(path, target, force=force)
    assert "\n" not in str(caught.value)
    assert {f: f.read_bytes() for folder in folders for f in folder.glob("*.*")} == before


def test_backup_is_one_checked_file_that_its_owner_alone_reads(path: Path, target: Path) -> None:
    open_and_close(path)
    write(path, 1)
    header = save_backup(path, target)
    assert (header.version, header.ours) == (NEWEST, True)
    assert names(target.parent) == ["saved.sqlite3"]
    assert target.stat().st_mode & 0o777 == 0o600
    assert settings_of(target) == [1]
    assert names(target.parent) == ["saved.sqlite3"]


def test_reading_leaves_no_file_beside_a_database_that_nobody_uses(path: Path) -> None:
    open_and_close(path)
    assert read(path, read_header).version == NEWEST
    assert names(path.parent) == ["bard.sqlite3"]


async def test_database_named_by_a_link_is_saved_with_its_log(tmp_path: Path, target: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "bard.sqlite3"
    link.symlink_to(tmp_path / "disk" / "bard.sqlite3")  # beside which SQLite puts the log
    async with open_database(link) as database:
        await database.run("INSERT INTO guild_settings (guild_id) VALUES (1)")
        save_backup(link, target)
    assert settings_of(target) == [1]


def test_database_that_is_opened_while_it_is_read_is_read_again(path: Path) -> None:
    open_and_close(path)
    seen = []

    def look(connection: sqlite3.Connection) -> int:
        seen.append(connection.execute("SELECT count(*) FROM guild_settings").fetchall()[0][0])
        if len(seen) == 1:
            write(path, 1)
        return int(seen[-1])

    assert read(path, look) == 1
    assert len(seen) == 2


def test_backup_is_one_state_of_a_database_that_is_written_all_the_time(
    path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGES_PER_STEP", 1)
    written = threading.Event()
    stop = threading.Event()

    def write_on() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            number = 0
            while not stop.is_set():
                number += 1
                connection.execute("BEGIN")
                for guild in (-number, number):
                    connection.execute("INSERT INTO guild_settings (guild_id) VALUES (?)", (guild,))
                connection.execute("COMMIT")
                written.set()

    async def work() -> None:
        async with open_database(path):
            thread = threading.Thread(target=write_on)
            thread.start()
            try:
                await asyncio.to_thread(written.wait)
                await asyncio.to_thread(save_backup, path, target)
            finally:
                stop.set()
                await asyncio.to_thread(thread.join)

    asyncio.run(work())
    saved, all_of_them = settings_of(target), settings_of(path)
    assert sum(saved) == 0
    assert 0 < len(saved) < len(all_of_them)


def test_backup_holds_no_deleted_words(path: Path, target: Path) -> None:
    async def work() -> None:
        async with open_database(path) as database:
            await database.run(
                "INSERT INTO guild_settings (guild_id, channels) VALUES (1, 'sekrit')"
            )
            await database.run("DELETE FROM guild_settings")
            save_backup(path, target)

    asyncio.run(work())
    assert b"sekrit" not in target.read_bytes()


@pytest.mark.parametrize("name", ["bard.sqlite3", "bard.sqlite3-wal", "bard.sqlite3.lock", "link"])
def test_database_itself_is_no_target(path: Path, name: str) -> None:
    open_and_close(path)
    path.with_name("link").symlink_to(path)
    refuse(path, path.with_name(name), "the database itself", force=True)


def test_file_that_exists_is_replaced_by_force_alone(path: Path, target: Path) -> None:
    open_and_close(path)
    target.write_text("mine")
    refuse(path, target, "exists: .*--force")
    save_backup(path, target, force=True)
    assert settings_of(target) == []
    refuse(path, target.parent, "is not a file", force=True)


def test_file_that_appears_meanwhile_is_kept(
    path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_and_close(path)
    finish = module.finish_copy

    def appear(copy: Path) -> str:
        target.write_text("mine")
        return finish(copy)

    monkeypatch.setattr(module, "finish_copy", appear)
    with pytest.raises(StartupError, match="exists"):
        save_backup(path, target)
    assert target.read_text() == "mine"
    assert names(target.parent) == ["saved.sqlite3"]


def test_backup_without_a_database_is_refused(path: Path, target: Path) -> None:
    refuse(path, target, "no database")
    path.write_bytes(b"To be, or not to be, that is the question. " * 100)
    refuse(path, target, "Cannot read the database")
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE accounts (id)")
    refuse(path, target, "not a database of this bot")


def test_damaged_database_is_not_saved(path: Path, target: Path) -> None:
    open_and_close(path)
    damage_table(path)
    refuse(path, target, r"is damaged .* no backup was made")


def test_folder_that_is_missing_is_named(path: Path, target: Path) -> None:
    open_and_close(path)
    missing = target.parent / "none" / "saved"
    with pytest.raises(StartupError, match=r"Cannot write the backup .*none/saved: No such file"):
        save_backup(path, missing)


def test_disk_that_is_full_leaves_no_part_of_a_backup(
    path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_and_close(path)
    limit_pages(monkeypatch)
    refuse(path, target, "the disk is full")


def limit_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SQLite find no space for a copy."""
    connect = sqlite3.connect

    def full(file: Path | str, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(file, **options)  # type: ignore[call-overload]
        if str(file).endswith(".partial"):
            connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(sqlite3, "connect", full)


def test_migration_saves_the_database_before(
    path: Path, older: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_and_close(path, older)
    write(path, 1)
    with caplog.at_level("INFO"):
        open_and_close(path)
    saved = Path(f"{path}.before-{NEWEST:04}")
    assert automatic_backups(path) == [saved]
    assert pragma(saved, "user_version") == NEWEST - 1
    assert pragma(path, "user_version") == NEWEST
    assert settings_of(saved) == [1]
    assert saved.stat().st_mode & 0o777 == 0o600
    lines = [message for message in caplog.messages if message.startswith("Migration ")]
    (script,) = migrations_path().glob(f"{NEWEST:04}_*.sql")
    change = script.read_text().partition(": ")[2].partition("\n")[0].rstrip(".")
    (line,) = lines
    assert line.startswith(f"Migration {NEWEST:04}: {change} (")
    caplog.clear()
    with caplog.at_level("INFO"):
        open_and_close(path)
    assert not caplog.messages


def test_new_database_is_not_saved(path: Path) -> None:
    open_and_close(path)
    assert names(path.parent) == ["bard.sqlite3"]


def test_last_three_backups_before_migrations_stay(path: Path, older: Path) -> None:
    open_and_close(path, older)
    old = [Path(f"{path}.before-{number:04}") for number in (1, 2, 3)]
    for age, file in enumerate(reversed(old), start=1):
        shutil.copy(path, file)
        os.utime(file, (file.stat().st_mtime - age * 100,) * 2)
    open_and_close(path)
    newest = Path(f"{path}.before-{NEWEST:04}")
    assert automatic_backups(path) == [newest, old[2], old[1]]
    os.utime(old[1], (0, 0))
    assert delete_old_backups(path, 30) == 1
    assert automatic_backups(path) == [newest, old[2]]


@pytest.mark.parametrize("early", [True, False])
def test_disk_too_full_for_the_backup_prevents_the_migration(
    path: Path,
    older: Path,
    monkeypatch: pytest.MonkeyPatch,
    early: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    open_and_close(path, older)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        if early:
            patch.setattr(shutil, "disk_usage", lambda _path: FULL)
        else:
            limit_pages(patch)
        with pytest.raises(StartupError, match=r"backup .*cannot be written.* free some space"):
            open_and_close(path)
    assert path.read_bytes() == before
    assert [name for name in names(path.parent) if "bard" in name] == ["bard.sqlite3"]
    open_and_close(path)
    assert pragma(path, "user_version") == NEWEST


def test_messages_name_the_newest_backup_of_the_bot(path: Path, older: Path) -> None:
    open_and_close(path, older)
    open_and_close(path)
    saved = f"{path}.before-{NEWEST:04}"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    with pytest.raises(StartupError, match=f"newer than this bot's.*restore {saved}`"):
        open_and_close(path)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StartupError, match=f"not a database.*restore {saved}`"):
        open_and_close(path)
