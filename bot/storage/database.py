"""Opening the SQLite file: what it must be, and how it is brought up to date."""

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import aiosqlite

from ..errors import StartupError

APPLICATION_ID = 0x42415244
"""`PRAGMA application_id` of the bard's databases: "BARD" in ASCII."""

_PACKAGE = Path(__file__).resolve().parent.parent


def migrations_path() -> Path:
    """Return the folder of the migrations: inside the package in a wheel, else beside it."""
    in_wheel = _PACKAGE / "migrations"
    return in_wheel if in_wheel.is_dir() else _PACKAGE.parent / "migrations"


async def open_database(path: Path, migrations: Path | None = None) -> aiosqlite.Connection:
    """Open the database at `path`, made or migrated as needed, in WAL and autocommit mode.

    Args:
        path: The file; its folder is created.
        migrations: The folder of numbered SQL files; None is the bot's own.

    Raises:
        StartupError: The file is not a database, is another program's, is newer than this
            code, or a migration failed. The file is then as it was.
    """
    try:
        await asyncio.to_thread(_bring_up_to_date, path, migrations or migrations_path())
        connection = await aiosqlite.connect(path, isolation_level=None)
        await connection.execute("PRAGMA foreign_keys = ON")
        # What is deleted is overwritten: without this its words stay readable in the file.
        await connection.execute("PRAGMA secure_delete = ON")
    except (sqlite3.Error, OSError) as error:
        raise StartupError(
            f"Cannot use the database {path}: {error}. "
            "Move the file away, or name another one in BARD_DATABASE."
        ) from error
    return connection


def _bring_up_to_date(path: Path, migrations: Path) -> None:
    scripts = _read_scripts(migrations)
    version = 0
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        if path.exists():
            # Not read-only: such a connection would leave its -wal and -shm files behind.
            uri = f"{path.resolve().as_uri()}?mode=rw"
            with closing(sqlite3.connect(uri, uri=True)) as original:
                version = _check(original, path, newest=len(scripts))
                if version < len(scripts):
                    original.backup(copy)
        # On a copy first, so that a migration which fails leaves the file untouched.
        _apply(copy, scripts, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        _apply(connection, scripts, version)


def _read_scripts(folder: Path) -> dict[str, str]:
    """Return the migrations by file name, in order; the n-th leads to version n."""
    files = sorted(folder.glob("*.sql"))
    numbers = [re.match(r"\d{4}(?=_)", file.name) for file in files]
    if not files or [n and int(n[0]) for n in numbers] != list(range(1, len(files) + 1)):
        raise StartupError(
            f"The migrations in {folder} are not numbered 0001, 0002 and so on without a gap: "
            "reinstall the bot."
        )
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def _check(connection: sqlite3.Connection, path: Path, newest: int) -> int:
    """Return the schema version of a database that is ours; 0 for an empty one."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version > newest:
        raise StartupError(
            f"The database {path} has version {version}, newer than this bot's {newest}: "
            "update the bot, or name another file in BARD_DATABASE."
        )
    if (version or tables) and owner != APPLICATION_ID:
        raise StartupError(
            f"The database {path} belongs to another program: name another file in BARD_DATABASE."
        )
    return int(version)


def _apply(connection: sqlite3.Connection, scripts: dict[str, str], version: int) -> None:
    for number, (name, script) in enumerate(scripts.items(), start=1):
        if number <= version:
            continue
        # executescript() opens no transaction of its own, so the script carries it.
        transaction = f"BEGIN IMMEDIATE;\n{script}\n;PRAGMA user_version = {number};\nCOMMIT;"
        try:
            connection.executescript(transaction)
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise StartupError(
                f"Migration {name} failed ({error}) and changed nothing: "
                "reinstall the bot, or report this."
            ) from error
