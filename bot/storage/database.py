"""Open the SQLite file: check whose it is, and migrate its schema."""

import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiosqlite

from ..concurrency import Threads
from ..config import PACKAGE_FOLDER
from ..errors import StartupError

APPLICATION_ID = 0x42415244
"""`PRAGMA application_id` of the bard's databases: "BARD" in ASCII."""


def migrations_path() -> Path:
    """Return the folder of the migrations: inside the package if installed, else beside it."""
    installed = PACKAGE_FOLDER / "migrations"
    return installed if installed.is_dir() else PACKAGE_FOLDER.parent / "migrations"


@asynccontextmanager
async def open_database(
    path: Path, migrations: Path | None = None
) -> AsyncIterator[aiosqlite.Connection]:
    """Create or migrate the database at `path`, and yield a connection in autocommit mode.

    Args:
        path: The file; its folder is created.
        migrations: The folder of numbered SQL files; None selects the package's own.

    Raises:
        StartupError: The file is not a database, belongs to another program, is newer than this
            code, or a migration failed. The file is then unchanged.
    """
    threads = Threads(1, "noskgpt_bard-migrations")
    connection: aiosqlite.Connection | None = None
    try:
        await threads.run(_migrate, path, migrations or migrations_path())
        connection = await aiosqlite.connect(path, isolation_level=None)
        await connection.execute("PRAGMA foreign_keys = ON")
        # Deleted content is overwritten; without this it stays readable in the file.
        await connection.execute("PRAGMA secure_delete = ON")
    except (sqlite3.Error, OSError) as error:
        if connection is not None:
            await connection.close()
        raise StartupError(
            f"Cannot use the database {path}: {error}. "
            "Move the file away, or set BARD_DATABASE to another path."
        ) from error
    finally:
        await threads.close()
    try:
        yield connection
    finally:
        await connection.close()


def _migrate(path: Path, migrations: Path) -> None:
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
    """Return the schema version of the bard's own database; 0 for an empty one."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version > newest:
        raise StartupError(
            f"The database {path} has version {version}, newer than this bot's {newest}: "
            "install a newer version of the bot, or set BARD_DATABASE to another path."
        )
    if (version or tables) and owner != APPLICATION_ID:
        raise StartupError(
            f"The database {path} belongs to another program: set BARD_DATABASE to another path."
        )
    return int(version)


def _apply(connection: sqlite3.Connection, scripts: dict[str, str], version: int) -> None:
    for number, (name, script) in enumerate(scripts.items(), start=1):
        if number <= version:
            continue
        # executescript() opens no transaction of its own, so the script contains one.
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
