"""Copy the database while it is in use, and check the copy before it gets its name.

A backup has what was stored at its time: words that are deleted later stay in it.
"""

import logging
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from noskgpt import commands
from noskgpt.files import sync

from ..errors import StartupError
from .codes import kind
from .schema import Header, read_header

log = logging.getLogger(__name__)

T = TypeVar("T")

KEPT_BACKUPS = 3
"""Number of backups that the bot makes by itself and keeps."""
KEPT_DAYS = 30
"""Age in days at which those are deleted: members may have deleted words that they contain."""
SIDE_FILES = ("-wal", "-shm", "-journal")
"""Endings of the files that SQLite keeps beside a database."""

_PAGES_PER_STEP = 256
_PAUSE_SECONDS = 0.002
"""Between the steps of a copy, so that it takes neither the disk nor a core from the bot."""
_BUSY_SECONDS = 5.0


def read(path: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    """Call a function with a connection that only reads a database, and return its result.

    The database may be in use. No file is written, locked for long or left beside it. The function
    is called again if a bot started meanwhile.

    Raises:
        OSError: There is no such file, or it cannot be read.
        sqlite3.Error: It is not a database, or it is damaged.
    """
    path.open("rb").close()  # SQLite does not say why it cannot open a file
    path = path.resolve()  # beside a file that a link names, and not beside the link, is its log
    before = _state(path)
    if len(before) == 1:  # no process has it open, so SQLite would create files only to read it
        try:
            result = _read(path, work, "&immutable=1")
        except sqlite3.Error:
            if _state(path) == before:
                raise
        else:
            if _state(path) == before:
                return result
    return _read(path, work, "")


def _read(path: Path, work: Callable[[sqlite3.Connection], T], option: str) -> T:
    address = f"{path.as_uri()}?mode=ro{option}"
    with closing(
        sqlite3.connect(address, uri=True, isolation_level=None, timeout=_BUSY_SECONDS)
    ) as connection:
        connection.execute("BEGIN")  # one state of the database, whatever is written meanwhile
        return work(connection)


def _state(path: Path) -> list[tuple[int, int, int]]:
    """Return the identity, size and time of a database and of the log that it has while in use."""
    state = []
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-journal")):
        with suppress(FileNotFoundError):
            status = file.stat()
            state.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return state


def find_damage(connection: sqlite3.Connection) -> str:
    """Look at every page, index and reference; return the first damage, or an empty text."""
    ((found, *_), *_) = connection.execute("PRAGMA integrity_check(1)").fetchall()
    if found != "ok":
        return " ".join(str(found).split())
    for table, row, *_ in connection.execute("PRAGMA foreign_key_check").fetchall():
        return f"row {row} of {table} refers to a row that is missing"
    return ""


def save_backup(database: Path, target: Path, *, force: bool = False) -> Header:
    """Copy a database that may be in use into a new file, and return what the copy is.

    The file appears when it is complete, checked and on the disk.

    Args:
        database: The database.
        target: The file to write.
        force: Replace a file that exists.

    Raises:
        StartupError: There is no database of the bard, it is damaged, the file exists, or it cannot
            be written. No file was changed.
    """
    if not database.exists():
        raise StartupError(
            f"There is no database at {database} yet: start the bot once, or set BARD_DATABASE "
            "to the path of its database."
        )
    _refuse_target(database, target, force=force)
    try:
        header = read(database, read_header)
    except (OSError, sqlite3.Error) as error:
        raise StartupError(
            f"Cannot read the database {database}: {cause(error)}. {way_out(database)}."
        ) from error
    if not header.ours:
        raise StartupError(
            f"{database} is not a database of this bot: set BARD_DATABASE to its path."
        )
    try:
        with new_file(target) as partial:
            read(database, lambda connection: _copy(connection, partial))
            if damage := finish_copy(partial):
                raise StartupError(
                    f"The database {database} is damaged ({damage}), so no backup was made. "
                    f"{way_out(database)}."
                )
            publish(partial, target, force=force)
    except FileExistsError as error:
        raise _exists(target) from error
    except (OSError, sqlite3.Error) as error:
        raise StartupError(
            f"Cannot write the backup {target}: {cause(error)}. "
            "Choose a file in a folder that can be written and has enough space."
        ) from error
    return header


@contextmanager
def saved_before_migration(
    connection: sqlite3.Connection, database: Path, number: int
) -> Iterator[None]:
    """Copy the database into a file beside it before the block changes its schema.

    After the block, the `KEPT_BACKUPS` newest of these files stay. If it raises, it has changed
    nothing, and the copy is deleted.

    Args:
        connection: Reads the database.
        database: Its path.
        number: The first migration that is pending; part of the name of the copy.

    Raises:
        StartupError: The copy cannot be written, or the database is damaged.
    """
    target = Path(f"{database}.before-{number:04}")
    for leftover in database.parent.glob(f".{target.name}.*.partial"):  # of a process that died
        leftover.unlink()
    start = time.perf_counter()
    try:
        with new_file(target) as partial:
            _require_space(connection, database)
            connection.execute("BEGIN")
            try:
                _copy(connection, partial)
            finally:
                connection.execute("ROLLBACK")
            if damage := finish_copy(partial):
                raise StartupError(
                    f"The database {database} is damaged ({damage}). {way_out(database)}."
                )
            publish(partial, target, force=True)
    except (OSError, sqlite3.Error) as error:
        raise StartupError(
            f"The database {database} has to be migrated, and the backup before that cannot be "
            f"written to {target}: {cause(error)}. Nothing was changed: free some space there, or "
            "let the bot write to that folder, and start the bot again."
        ) from error
    log.info("Saved the database as %s (%.2f s)", target, time.perf_counter() - start)
    try:
        yield
    except BaseException:
        target.unlink()
        raise
    for old in automatic_backups(database)[KEPT_BACKUPS:]:
        old.unlink()


def automatic_backups(database: Path) -> list[Path]:
    """Return the backups that the bot made by itself before migrations, newest first."""
    name = re.compile(re.escape(database.name) + r"\.before-\d{4}")
    with suppress(OSError):
        found = [file for file in database.parent.iterdir() if name.fullmatch(file.name)]
        return sorted(found, key=lambda file: file.stat().st_mtime, reverse=True)
    return []


def delete_old_backups(database: Path, days: float) -> int:
    """Delete the bot's own backups that are older than some days; return how many it were."""
    limit = time.time() - days * 86_400
    old = [file for file in automatic_backups(database) if file.stat().st_mtime < limit]
    for file in old:
        file.unlink(missing_ok=True)
    return len(old)


def newest_backup(database: Path, newest: int | None = None) -> Path | None:
    """Return the newest of the bot's own backups; None without any.

    Args:
        database: The database.
        newest: Only a backup whose schema has this version at most.
    """
    for file in automatic_backups(database):
        with suppress(OSError, sqlite3.Error):
            header = read(file, read_header)
            if header.ours and (newest is None or header.version <= newest):
                return file
    return None


def restoring(backup: Path | None) -> str:
    """Return the command that restores a backup, for a message."""
    package = __name__.partition(".")[0]
    file = str(backup) if backup else "FILE"
    return f"`{commands.command(package, commands.DISTRIBUTION, 'restore', file)}`"


def way_out(database: Path) -> str:
    """Return what the owner of the bot can do about a database that cannot be used."""
    backup = newest_backup(database)
    own = ", such as the newest that the bot made by itself" if backup else ""
    return (
        f"Stop the bot, and either restore a backup{own} ({restoring(backup)}), or move the file "
        "away, with its -wal and -shm files; then start the bot again"
    )


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yield a new, empty file beside another, which only its owner can read.

    It is deleted at the end unless it was published.
    """
    number, name = tempfile.mkstemp(".partial", f".{target.name}.", target.parent)
    os.close(number)
    partial = Path(name)
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _copy(source: sqlite3.Connection, target: Path) -> None:
    """Copy the state of the database that a transaction of `source` reads, in bounded steps."""
    read_header(source)  # from here on the transaction has its state, so the copy does not restart
    os.truncate(target, 0)
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        # A copy that breaks off is deleted, so it needs neither a journal nor the disk's order.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        source.backup(
            copy,
            pages=_PAGES_PER_STEP,
            progress=lambda _status, left, _total: time.sleep(_PAUSE_SECONDS if left else 0),
        )


def copy_backup(source: Path, target: Path) -> None:
    """Copy a backup into an empty file."""
    read(source, lambda connection: _copy(connection, target))


def finish_copy(copy: Path) -> str:
    """Make a copy one file without a write-ahead log, and check it; return its damage if any."""
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        return find_damage(connection)


def publish(partial: Path, target: Path, *, force: bool) -> None:
    """Write a file to the disk and give it its name.

    Raises:
        FileExistsError: There is such a file, and it may not be replaced.
    """
    sync(partial)
    if force:
        partial.replace(target)
    else:
        try:
            target.hardlink_to(partial)  # unlike a rename, it never replaces a file
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if target.exists():
                raise FileExistsError(target) from None
            partial.rename(target)
    sync(target.parent)


def _refuse_target(database: Path, target: Path, *, force: bool) -> None:
    taken = {os.path.realpath(f"{database}{ending}") for ending in ("", *SIDE_FILES, ".lock")}
    taken |= {f"{os.path.realpath(database)}{ending}" for ending in (*SIDE_FILES, ".lock")}
    same = target.exists() and target.samefile(database)
    if same or os.path.realpath(target) in taken:
        raise StartupError(f"{target} is the database itself: choose another file.")
    if os.path.lexists(target) and not (target.is_file() and force):
        if target.exists() and not target.is_file():
            raise StartupError(f"{target} is not a file: choose the path of a new file.")
        raise _exists(target)


def _exists(target: Path) -> StartupError:
    return StartupError(f"{target} exists: choose another file, or replace it with --force.")


def _require_space(connection: sqlite3.Connection, database: Path) -> None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    free = shutil.disk_usage(database.parent).free
    if free < 2 * pages * size:  # the migration itself may need as much again
        raise OSError(
            f"it and the migration need {2 * pages * size / 1e6:.0f} MB, and {free / 1e6:.0f} MB "
            "are free"
        )


def cause(error: Exception) -> str:
    """Return an error of SQLite or of the file system in a few words."""
    if kind(error) == sqlite3.SQLITE_FULL:
        return "the disk is full"
    return str(getattr(error, "strerror", None) or error)
