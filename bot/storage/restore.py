"""Put a backup in the place of the database, which is set aside and not lost."""

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from noskgpt.files import sync

from ..errors import StartupError
from .backup import (
    SIDE_FILES,
    cause,
    copy_backup,
    find_damage,
    finish_copy,
    new_file,
    publish,
    read,
)
from .codes import BUSY, DAMAGED, kind
from .lock import exclusive
from .schema import RUNS_SINCE, Header, newest_version, read_header

_UNIQUE_IDS_SINCE = 6
"""The version of the schema that never reuses the id of a turn."""
_SPARE_IDS = 1_000_000
"""Ids that are left out where the newest one of the replaced database is not known."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup that is the database now."""

    header: Header
    newest: int
    """The version that the next start migrates it to."""
    replaced: Path | None
    """The copy of the database that it replaces; None if there was none."""
    runs: int
    """Number of folders of training runs that the backup does not know; they were renamed."""


def restore_backup(backup: Path, database: Path, runs: Path) -> Restored:
    """Replace a database by a copy of a backup.

    If the process is killed, the database is the old or the new one, and complete.

    Args:
        backup: The backup; it stays as it is.
        database: The database, which no bot may use meanwhile.
        runs: The folder of training runs.

    Raises:
        StartupError: The file is no backup of this bot, is damaged or too new; a bot or another
            program uses the database; or a file cannot be written. The database is unchanged.
    """
    database = Path(os.path.realpath(database))
    newest = newest_version()
    header = _check(backup, newest)
    if database.exists() and backup.samefile(database):
        raise StartupError(f"{backup} is the database itself: choose a backup.")
    with exclusive(database, runs):
        for leftover in database.parent.glob(f".{database.name}.*.partial"):
            leftover.unlink()  # of an attempt that was killed
        try:
            with new_file(database) as partial:
                copy_backup(backup, partial)
                _reserve_ids(partial, database)
                if damage := finish_copy(partial):
                    raise StartupError(f"The copy of {backup} is damaged ({damage}): try again.")
                _adopt_owner(partial, database)
                sync(partial)
                replaced = _set_aside(database)
                publish(partial, database, force=True)
                if replaced is not None:
                    replaced.chmod(0o600)
            renamed = _set_runs_aside(database, runs)
        except (OSError, sqlite3.Error) as error:
            raise StartupError(
                f"Cannot replace the database {database}: {cause(error)}. "
                "Free some space there or let this user write there, and try again."
            ) from error
    return Restored(header, newest, replaced, renamed)


def _check(backup: Path, newest: int) -> Header:
    """Return what a backup is.

    Raises:
        StartupError: It cannot be restored.
    """
    if not backup.is_file():
        raise StartupError(f"There is no file {backup}: choose a backup.")
    try:
        header = read(backup, read_header)
        damage = read(backup, find_damage) if header.ours else ""
        size = read(backup, lambda connection: connection.execute("PRAGMA page_size").fetchone()[0])
        if not damage and backup.stat().st_size % size:
            damage = "it ends within a page"
    except (OSError, sqlite3.Error) as error:
        raise StartupError(f"{backup} cannot be restored: {cause(error)}.") from error
    if not header.ours:
        raise StartupError(f"{backup} is not a backup of this bot: choose another file.")
    if header.version > newest:
        raise StartupError(
            f"{backup} has version {header.version}, newer than this bot's {newest}: "
            "install a newer version of the bot, or choose an older backup."
        )
    if damage:
        raise StartupError(f"{backup} is damaged ({damage}): choose another backup.")
    return header


def _reserve_ids(partial: Path, database: Path) -> None:
    """Let new turns have ids that no turn of the replaced database had.

    Buttons of messages that were sent after the backup contain those.
    """
    with closing(sqlite3.connect(partial)) as connection, connection:
        if read_header(connection).version < _UNIQUE_IDS_SINCE:
            return
        try:
            last = read(database, _last_id) if database.exists() else 0
        except (OSError, sqlite3.Error):
            last = _last_id(connection) + _SPARE_IDS
        connection.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'turns'", (last,)
        )


def _last_id(connection: sqlite3.Connection) -> int:
    rows = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'turns'").fetchall()
    return int(rows[0][0]) if rows else 0


def _set_runs_aside(database: Path, runs: Path) -> int:
    """Rename the folders of runs that a restored database does not know; return their number.

    New runs get the same ids.
    """

    def last_run(connection: sqlite3.Connection) -> int:
        if read_header(connection).version < RUNS_SINCE:
            return 0
        return int(connection.execute("SELECT coalesce(max(id), 0) FROM runs").fetchone()[0])

    last = read(database, last_run)
    unknown = [file for file in runs.iterdir() if file.name.isdecimal() and int(file.name) > last]
    for folder in unknown:
        folder.rename(unused_path(folder))
    return len(unknown)


def _adopt_owner(partial: Path, database: Path) -> None:
    """Let the user of the bot use a database that the administrator restores."""
    if os.name == "posix" and os.geteuid() == 0:
        status = (database if database.exists() else database.parent).stat()
        os.chown(partial, status.st_uid, status.st_gid)


def _set_aside(database: Path) -> Path | None:
    """Keep the database that is to be replaced, and remove its log; return the copy's path.

    Raises:
        StartupError: Another program uses it, or it belongs to one.
    """
    _undo_unfinished(database)
    _fold_log(database)
    left = [ending for ending in ("", *SIDE_FILES) if Path(f"{database}{ending}").exists()]
    if not left:
        return None
    aside = unused_path(database)
    for ending in left:
        _keep(Path(f"{database}{ending}"), Path(f"{aside}{ending}"))
    sync(database.parent)
    # SQLite would apply the log of the old database to the new one. Only a damaged one still has
    # it here: that of a healthy database is part of its file now.
    for ending in left:
        if ending:
            Path(f"{database}{ending}").unlink()
    sync(database.parent)
    return Path(f"{aside}{left[0]}")


def _undo_unfinished(database: Path) -> None:
    """Remove the second names of a database that an attempt which was killed has left."""
    for old in database.parent.glob(f"{database.name}.replaced-*"):
        if database.exists() and old.exists() and old.samefile(database):
            for ending in SIDE_FILES:
                with suppress(FileNotFoundError):
                    Path(f"{old}{ending}").replace(f"{database}{ending}")
            old.unlink()


def _fold_log(database: Path) -> None:
    """Write the log of a database into its file, unless the database is damaged."""
    if not database.exists():
        return
    try:
        with closing(sqlite3.connect(database, isolation_level=None, timeout=1.0)) as connection:
            header = read_header(connection)
            if not (header.empty or header.ours):
                raise StartupError(
                    f"The database {database} belongs to another program: "
                    "set BARD_DATABASE to the path of the bot's database."
                )
            connection.execute("PRAGMA secure_delete = ON")
            # Fails while anybody else has it open.
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        if kind(error) in BUSY:
            raise StartupError(
                f"Another program uses the database {database}: end it, and try again."
            ) from error
        if kind(error) not in DAMAGED:
            raise


def unused_path(original: Path) -> Path:
    """Return a path at which nothing is, for a file or folder that has to make room."""
    name = f"{original}.replaced-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    number, path = 1, Path(name)
    while path.exists():
        number += 1
        path = Path(f"{name}-{number}")
    return path


def _keep(file: Path, aside: Path) -> None:
    """Give a file a second name; copy it where a file cannot have two."""
    with suppress(OSError):
        aside.hardlink_to(file)
        return
    with new_file(aside) as partial:
        shutil.copyfile(file, partial)
        publish(partial, aside, force=True)
