"""The schema: whose database a file is, its version, and the migrations to the newest one."""

import logging
import re
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from ..config import PACKAGE_FOLDER
from ..errors import StartupError
from .codes import BUSY, UNUSABLE, kind

log = logging.getLogger(__name__)

APPLICATION_ID = 0x42415244
"""`PRAGMA application_id` of the bard's databases: "BARD" in ASCII."""
RUNS_SINCE = 4
"""The version of the schema that has training runs and promotions."""
VOICES_SINCE = 14
"""The version of the schema that has voices."""


@dataclass(frozen=True, slots=True)
class Header:
    """The owner and the version of a database."""

    owner: int
    """Its application id."""
    version: int
    """The number of the last migration; 0 before the first."""
    tables: int

    @property
    def empty(self) -> bool:
        """Whether it has no content yet."""
        return not (self.version or self.tables)

    @property
    def ours(self) -> bool:
        """Whether it is a database of the bard that has content."""
        return not self.empty and self.owner == APPLICATION_ID


def read_header(connection: sqlite3.Connection) -> Header:
    """Return the owner and the version of a database."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return Header(int(owner), int(version), int(tables))


def migrations_path() -> Path:
    """Return the folder of the migrations: inside the package if installed, else beside it."""
    installed = PACKAGE_FOLDER / "migrations"
    return installed if installed.is_dir() else PACKAGE_FOLDER.parent / "migrations"


def read_scripts(folder: Path) -> dict[str, str]:
    """Return the migrations by file name, in order; the n-th leads to version n.

    Raises:
        StartupError: Their numbers have a gap.
    """
    files = sorted(folder.glob("*.sql"))
    numbers = [re.match(r"\d{4}(?=_)", file.name) for file in files]
    if not files or [n and int(n[0]) for n in numbers] != list(range(1, len(files) + 1)):
        raise StartupError(
            f"The migrations in {folder} are not numbered 0001, 0002 and so on without a gap: "
            "reinstall the bot."
        )
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def newest_version() -> int:
    """Return the version of the schema that this code works with."""
    return len(read_scripts(migrations_path()))


def migrate(connection: sqlite3.Connection, scripts: dict[str, str], version: int) -> None:
    """Run the pending migrations in one transaction, together with the version they lead to.

    Raises:
        StartupError: One of them failed; nothing was changed.
    """
    times = [time.perf_counter()]
    connection.create_function("bard_migrated", 0, lambda: times.append(time.perf_counter()))
    pending = list(scripts.items())[version:]
    steps = [
        f"{script}\n;PRAGMA user_version = {number};SELECT bard_migrated();"
        for number, (_, script) in enumerate(pending, start=version + 1)
    ]
    try:
        # Also without pending migrations: a file that cannot be written is noticed now.
        # executescript() opens no transaction of its own, so the script contains one.
        last = f"PRAGMA user_version = {len(scripts)};"
        connection.executescript(f"BEGIN IMMEDIATE;\n{''.join(steps)}{last}\nCOMMIT;")
    except sqlite3.Error as error:
        if not connection.in_transaction:  # BEGIN itself failed
            raise
        (reached,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute("ROLLBACK")
        if kind(error) in UNUSABLE | BUSY | {sqlite3.SQLITE_FULL}:
            raise
        name = list(scripts)[reached]
        raise StartupError(
            f"Migration {name} failed ({error}) and changed nothing: "
            "reinstall the bot, or report this."
        ) from error
    if version:
        for (name, script), start, end in zip(pending, times, times[1:], strict=False):
            log.info("Migration %s: %s (%.2f s)", name[:4], _header(script), end - start)
    elif pending:
        log.info("Created the database, version %d", len(scripts))


def _header(script: str) -> str:
    """Return a migration's own description of its change, from its first line."""
    return script.partition("\n")[0].lstrip("- ").partition(": ")[2].rstrip(". ")
