"""A backup in the place of the database: refused, killed in the middle, and complete."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bot.errors import StartupError
from bot.storage.backup import save_backup
from bot.storage.lock import exclusive
from bot.storage.restore import restore_backup
from bot.storage.schema import APPLICATION_ID
from tests.bot.process import ROOT
from tests.bot.storage.test_backup import NEWEST, names, older, settings_of, write
from tests.bot.storage.test_database import damage, damage_table, open_and_close, pragma

__all__ = ["older"]  # a fixture

KILLED = """
import os, shutil, sys
from pathlib import Path
from bot.storage.restore import restore_backup
folder = Path(sys.argv[1])
os.chdir(folder)
calls = {"os.rename", "os.link", "os.remove", "os.chmod", "os.truncate", "open", "sqlite3.connect"}
step = 0
while True:
    step += 1
    shutil.copytree("before", f"{step}")
    child = os.fork()
    if not child:
        left = step
        def kill(event, _arguments):
            global left
            if event in calls:
                left -= 1
                if not left:
                    os._exit(137)
        sys.addaudithook(kill)
        restore_backup(Path(f"{step}/backup"), Path(f"{step}/bard.sqlite3"), Path(f"{step}/runs"))
        os._exit(0)
    if not os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        break
"""
"""Restores in copies of a folder; each is killed one call of the file system later than the last,
until one is not killed."""


@pytest.fixture
def backup(path: Path, tmp_path: Path) -> Path:
    """A backup with settings of server 1; the database has those of 2 as well."""
    open_and_close(path)
    write(path, 1)
    save_backup(path, tmp_path / "backup")
    write(path, 2)
    return tmp_path / "backup"


def refuse(backup: Path, path: Path, match: str) -> None:
    """Check that a file is refused with one line, and that it changes nothing."""
    before = {file: file.read_bytes() for file in path.parent.glob("b*") if file.is_file()}
    with pytest.raises(StartupError, match=match) as caught:
        restore_backup(backup, path, path.parent / "runs")
    assert "\n" not in str(caught.value)
    after = {file: file.read_bytes() for file in path.parent.glob("b*") if file.is_file()}
    after.pop(Path(f"{path}.lock"), None)
    before.pop(Path(f"{path}.lock"), None)
    assert after == before


def leave_log(path: Path, guild: int) -> None:
    """Write settings, and leave them in the write-ahead log as a bot does that is killed."""
    with closing(sqlite3.connect(path)) as connection:
        with connection:
            connection.execute("INSERT INTO guild_settings (guild_id) VALUES (?)", (guild,))
        files = {file: file.read_bytes() for file in path.parent.glob(f"{path.name}*")}
    for file, content in files.items():
        file.write_bytes(content)
    assert Path(f"{path}-wal").stat().st_size


def test_backup_replaces_the_database_which_is_kept(path: Path, backup: Path) -> None:
    leave_log(path, 3)
    restored = restore_backup(backup, path, path.parent / "runs")
    assert settings_of(path) == [1]
    assert restored.replaced is not None
    assert restored.replaced.stat().st_mode & 0o777 == 0o600
    assert settings_of(restored.replaced) == [1, 2, 3]
    open_and_close(path)
    assert settings_of(path) == [1]
    assert settings_of(backup) == [1]
    kept = restored.replaced.name
    assert names(path.parent) == ["backup", "bard.sqlite3", "bard.sqlite3.lock", kept, "runs"]


@pytest.mark.parametrize("readable", [True, False])
def test_ids_of_turns_after_the_backup_are_not_given_again(
    path: Path,
    backup: Path,
    readable: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    insert = (
        "INSERT INTO turns (channel_id, scene, user_id, max_chars, temperature, created_at)"
        " VALUES (1, 1, 1, 1, 1, 1)"
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(insert, [()] * 9)
    if not readable:
        path.write_bytes(b"no database" * 1000)
    restore_backup(backup, path, path.parent / "runs")
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute("SELECT count(*) FROM turns").fetchone() == (0,)
        connection.execute(insert)
        assert connection.execute("SELECT min(id) FROM turns").fetchone()[0] > 9


def test_folders_of_runs_after_the_backup_are_set_aside(path: Path, backup: Path) -> None:
    runs = path.parent / "runs"
    (runs / "1").mkdir(parents=True)
    (runs / "1" / "weights.pth").write_text("later")
    restored = restore_backup(backup, path, runs)
    assert restored.runs == 1
    (folder,) = runs.glob("1*")
    assert folder.name.startswith("1.replaced-")
    assert (folder / "weights.pth").read_text() == "later"


def test_backup_of_an_older_version_is_migrated_at_the_next_start(
    path: Path, backup: Path, older: Path
) -> None:
    old = backup.with_name("old")
    open_and_close(old, older)
    write(old, 7)
    restored = restore_backup(old, path, path.parent / "runs")
    assert (restored.header.version, restored.newest) == (NEWEST - 1, NEWEST)
    open_and_close(path)
    assert pragma(path, "user_version") == NEWEST
    assert settings_of(path) == [7]


def test_database_of_a_newer_version_can_be_replaced(path: Path, backup: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    restore_backup(backup, path, path.parent / "runs")
    open_and_close(path)
    assert settings_of(path) == [1]


def test_backup_comes_to_a_place_without_a_database(path: Path, backup: Path) -> None:
    target = path.parent / "new" / "other.sqlite3"
    assert restore_backup(backup, target, path.parent / "runs").replaced is None
    assert settings_of(target) == [1]


@pytest.mark.parametrize("content", ["pages", "header"])
def test_damaged_database_is_kept_with_its_log(path: Path, backup: Path, content: str) -> None:
    leave_log(path, 3)
    log = Path(f"{path}-wal").read_bytes()
    if content == "pages":
        damage(path)
    else:
        path.write_bytes(b"no database" * 1000)
    restored = restore_backup(backup, path, path.parent / "runs")
    assert settings_of(path) == [1]
    assert restored.replaced is not None
    if content == "header":
        assert restored.replaced.read_bytes() == b"no database" * 1000
        assert Path(f"{restored.replaced}-wal").read_bytes() == log
    open_and_close(path)
    assert settings_of(path) == [1]


def test_what_is_no_backup_is_refused(path: Path, backup: Path) -> None:
    refuse(path.with_name("none"), path, "There is no file")
    refuse(path.parent, path, "There is no file")
    refuse(path, path, "the database itself")
    other = backup.with_name("b-other")
    other.write_bytes(b"To be, or not to be, that is the question. " * 100)
    refuse(other, path, "cannot be restored: file is not a database")
    other.write_bytes(b"")
    refuse(other, path, "not a backup of this bot")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE accounts (id)")
    refuse(other, path, "not a backup of this bot")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {NEWEST + 1}")
    refuse(other, path, "newer than this bot's")


def test_damaged_or_truncated_backup_is_refused(path: Path, backup: Path) -> None:
    whole = backup.read_bytes()
    for spoil in (damage_table, damage):
        backup.write_bytes(whole)
        spoil(backup)
        refuse(backup, path, "damaged|malformed")
    for size in (200, 4096, len(whole) // 2, len(whole) - 1):
        backup.write_bytes(whole[:size])
        refuse(backup, path, "damaged|malformed|not a database|not a backup|I/O")


def test_database_in_use_is_refused(path: Path, backup: Path) -> None:
    with exclusive(path, path.parent / "runs"):
        refuse(backup, path, "in use by another bot")
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM guild_settings").fetchall()
        with pytest.raises(StartupError, match="Another program uses"):
            restore_backup(backup, path, path.parent / "runs")
    assert settings_of(path) == [1, 2]


def test_database_of_another_program_is_not_replaced(path: Path, backup: Path) -> None:
    other = path.with_name("b-other")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE accounts (id)")
    refuse(backup, other, "belongs to another program")


@pytest.mark.usefixtures("backup")
def test_kill_at_each_step_leaves_the_old_or_the_new_database(path: Path, tmp_path: Path) -> None:
    leave_log(path, 3)
    folder = tmp_path / "kills"
    (folder / "before").mkdir(parents=True)
    for file in tmp_path.glob("b*"):
        shutil.copy(file, folder / "before")
    subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-c", KILLED, folder], check=True, env={"PYTHONPATH": str(ROOT)}
    )
    outcomes = []
    steps = len(list(folder.iterdir())) - 1
    assert steps > 20
    for copy in (folder / f"{step}" for step in range(1, steps + 1)):
        then = shutil.copytree(copy, copy / "then")
        open_and_close(copy / "bard.sqlite3")
        outcomes.append(settings_of(copy / "bard.sqlite3"))
        # Another attempt ends well, and keeps the database that it replaces.
        restored = restore_backup(then / "backup", then / "bard.sqlite3", path.parent / "runs")
        assert settings_of(then / "bard.sqlite3") == [1]
        assert restored.replaced is not None
        assert settings_of(restored.replaced) == outcomes[-1]
        assert not list(then.glob(".*"))
    assert outcomes == sorted(outcomes, key=len, reverse=True)
    assert {tuple(outcome) for outcome in outcomes} == {(1, 2, 3), (1,)}
