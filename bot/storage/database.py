"""Open the SQLite file: check and migrate it, run statements, and erase what was deleted.

Statements that only read have a connection of their own, so that they do not wait for the pieces of
a long deletion. A statement that another process delays does not delay the others: SQLite waits for
a moment only, and the next attempt is made after the statements that arrived meanwhile.
"""

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from ..concurrency import Threads
from ..errors import Reason, RejectedError, StartupError
from .backup import newest_backup, restoring, saved_before_migration, way_out
from .codes import BUSY, UNUSABLE, kind
from .schema import migrate, migrations_path, read_header, read_scripts

log = logging.getLogger(__name__)

T = TypeVar("T")
Row = tuple[Any, ...]
Parameters = Sequence[object] | Mapping[str, object]

BUSY_SECONDS = 5.0
"""Time after which a statement gives up that another process delays."""
CHECK_SECONDS = 2.0
"""Time after which the check of the file at startup ends."""
_ATTEMPT_SECONDS = 0.02
"""Time that SQLite itself waits for another process; other statements wait with it."""
_WRITER_CACHE, _READER_CACHE = 512, 256
"""Most KiB of the file that a connection keeps in memory; the system's cache has the rest."""
_LOOK_SECONDS = 1.0
"""Time between looks at the identity of the file."""

_NOT_WRITABLE = frozenset({sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY})


class Statements:
    """Run statements. Each call fetches all of its rows, so that no cursor outlives it.

    An open cursor would keep deleted text from being erased.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Run a statement and return its rows."""
        return list(await self._connection.execute_fetchall(sql, parameters))  # type: ignore[arg-type]

    async def run(self, sql: str, parameters: Parameters = ()) -> int:
        """Run a statement and return the number of rows that it changed."""
        async with self._connection.execute(sql, parameters) as cursor:
            return cursor.rowcount


class Database:
    """Run statements and transactions on the bard's file: changes one after another, and so reads.

    A read sees every change that was begun before it, but those in the background, and those that
    another process delays.
    Every method raises `RejectedError` if the file cannot be used: MEMORY_BUSY if another process
    has held it for `BUSY_SECONDS`, MEMORY_FULL if its disk is full, and MEMORY_LOST if it was
    damaged, replaced or made unwritable.

    Attributes:
        erasure_owed: Whether deleted text is still in the write-ahead log.
    """

    def __init__(
        self,
        writer: aiosqlite.Connection,
        reader: aiosqlite.Connection,
        path: Path,
        *,
        erasure_owed: bool = False,
    ) -> None:
        self.erasure_owed = erasure_owed
        self._writer, self._changes = writer, Statements(writer)
        self._reader, self._reads = reader, Statements(reader)
        self._path = path
        self._identity = _identity(path)
        self._looked_at = time.perf_counter()
        self._writing = asyncio.Lock()
        self._reading = asyncio.Lock()
        # Of changes that reads wait for; each is done when the change is, or another process
        # delays it.
        self._begun: set[asyncio.Future[None]] = set()
        self._problem = ""

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Run a statement that only reads, and return its rows."""
        if self._begun:
            await asyncio.wait(self._begun)
        return await self._attempt(self._reading, lambda: self._reads.fetch(sql, parameters))

    async def run(
        self, sql: str, parameters: Parameters = (), *, in_background: bool = False
    ) -> int:
        """Run a statement in a transaction of its own; return the number of changed rows.

        Args:
            sql: The statement.
            parameters: Its parameters.
            in_background: Whether reads that begin later need neither see it nor wait for it.
        """

        def work() -> Awaitable[int]:
            return self._changes.run(sql, parameters)

        if in_background:
            return await self._attempt(self._writing, work)
        return await self._change(work)

    async def change(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Run a statement in a transaction of its own; return the rows of its RETURNING clause."""
        return await self._change(lambda: self._changes.fetch(sql, parameters))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Statements]:
        """Run the statements of the block together, or none of them if it raises."""
        with self._begin_change() as begun:
            await self._attempt(self._writing, self._begin, begun, keep_lock=True)
            try:
                with self._translate():
                    try:
                        yield self._changes
                        await self._writer.execute_fetchall("COMMIT")
                    except BaseException:
                        await self._roll_back()
                        raise
            finally:
                self._writing.release()

    def size(self) -> int | None:
        """Return the bytes of the file and its write-ahead log; None if there is no file.

        Callable in any thread.
        """
        sizes = []
        for file in _files(self._path):
            with suppress(OSError):
                sizes.append(os.stat(file).st_size)  # noqa: PTH116 - as in `_identity`
        return sum(sizes) if sizes else None

    async def erase(self) -> None:
        """Truncate the write-ahead log, which still contains the text of deleted rows.

        While a reader in another process prevents that, it is owed: call this again later.
        """
        self.erasure_owed = True
        blocked = await self._truncate_log()
        if blocked:  # perhaps by a read in progress
            async with self._reading:
                blocked = await self._truncate_log()
        self.erasure_owed = blocked

    async def _truncate_log(self) -> bool:
        """Truncate the write-ahead log while reads go on; return whether one prevented that."""
        ((blocked, *_),) = await self._attempt(
            self._writing, lambda: self._changes.fetch("PRAGMA wal_checkpoint(TRUNCATE)")
        )
        return bool(blocked)

    async def _change(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a change that later reads wait for."""
        with self._begin_change() as begun:
            try:
                return await self._attempt(self._writing, work, begun)
            except asyncio.CancelledError:
                # The statement takes effect nevertheless, which later reads wait for.
                await self._writer.execute_fetchall("SELECT 1")
                raise

    @contextmanager
    def _begin_change(self) -> Iterator[asyncio.Future[None]]:
        """Let later reads wait for the block, or until the yielded future is done."""
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        begun.add_done_callback(self._begun.discard)
        self._begun.add(begun)
        try:
            yield begun
        finally:
            _finish(begun)

    async def _begin(self) -> None:
        try:
            await self._writer.execute_fetchall("BEGIN IMMEDIATE")
        except BaseException:
            # If the task was cancelled, the statement takes effect nevertheless.
            await self._roll_back()
            raise

    async def _roll_back(self) -> None:
        # There may be no transaction: SQLite ends it itself after an error such as a full disk.
        with suppress(sqlite3.OperationalError):
            await self._writer.execute_fetchall("ROLLBACK")

    async def _attempt(
        self,
        lock: asyncio.Lock,
        work: Callable[[], Awaitable[T]],
        begun: asyncio.Future[None] | None = None,
        *,
        keep_lock: bool = False,
    ) -> T:
        """Run `work` under the lock; while another process delays it, let others in between.

        Args:
            lock: The lock of its connection.
            work: What to run.
            begun: A future to set when another process delays it.
            keep_lock: Whether the lock stays held if `work` succeeds.
        """
        end = time.perf_counter() + BUSY_SECONDS
        while True:
            await lock.acquire()
            try:
                self._look_at_file()
                with self._translate():
                    result = await work()
            except BaseException as error:
                lock.release()
                busy = isinstance(error, RejectedError) and error.reason is Reason.MEMORY_BUSY
                if not busy or time.perf_counter() > end:
                    raise
                if begun is not None:
                    _finish(begun)
            else:
                if not keep_lock:
                    lock.release()
                return result
            await asyncio.sleep(0)

    @contextmanager
    def _translate(self) -> Iterator[None]:
        """Turn errors that members may meet into rejections."""
        try:
            yield
        except sqlite3.Error as error:
            code = kind(error)
            if code in BUSY:
                raise RejectedError(Reason.MEMORY_BUSY) from error
            if code == sqlite3.SQLITE_FULL:
                self._report("its disk is full. Free some space")
                raise RejectedError(Reason.MEMORY_FULL) from error
            if code in UNUSABLE:
                self._report(f"{error}. {way_out(self._path)}")
                raise RejectedError(Reason.MEMORY_LOST) from error
            raise

    def _look_at_file(self) -> None:
        """Notice that the file was deleted or replaced: SQLite would go on with the old one."""
        now = time.perf_counter()
        if self._problem or now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            if _identity(self._path) != self._identity:
                self._report(
                    "it, or its -wal file, was deleted or replaced while the bot was running. "
                    f"{way_out(self._path)}"
                )
                raise RejectedError(Reason.MEMORY_LOST)

    def _report(self, problem: str) -> None:
        """Log a problem, unless it was the last one too."""
        if problem != self._problem:
            self._problem = problem
            log.error("Cannot use the database %s: %s", self._path, problem)


def _finish(begun: asyncio.Future[None]) -> None:
    if not begun.done():
        begun.set_result(None)


def _files(path: Path) -> tuple[Path, str]:
    """Return the paths of a database, which may be a link, and of its write-ahead log."""
    return path, f"{os.path.realpath(path)}-wal"


def _identity(path: Path) -> list[tuple[int, int]]:
    """Return the device and number of a database and of its write-ahead log, if they exist."""
    identities = []
    for file in _files(path):
        with suppress(OSError):
            status = os.stat(file)  # noqa: PTH116 - the same as Path.stat, and quicker
            identities.append((status.st_dev, status.st_ino))
    return identities


def unusable(path: Path, error: BaseException) -> StartupError:
    """Return the error of a start that ends because the database cannot be used.

    Args:
        path: The database.
        error: SQLite's error, or the rejection that followed from it.
    """
    cause = error.__cause__ or error if isinstance(error, RejectedError) else error
    return StartupError(
        f"Cannot use the database {path}: {cause}. {_advice(cause, path)}, or set "
        "BARD_DATABASE to another path."
    )


def _advice(error: BaseException, path: Path) -> str:
    """Return what the owner of the bot can do about a database that cannot be opened."""
    code = kind(error)
    if code in BUSY:
        return "Another program holds it: end that program, and start the bot again"
    if code == sqlite3.SQLITE_FULL:
        return "Free some space on its disk, and start the bot again"
    if code in _NOT_WRITABLE or not os.access(path.parent, os.W_OK):
        return "The file or its folder is not writable: let the user that runs the bot write there"
    return way_out(path)


@asynccontextmanager
async def open_database(path: Path, migrations: Path | None = None) -> AsyncIterator[Database]:
    """Create or migrate the database at `path`, and yield it.

    Args:
        path: The file; its folder is created.
        migrations: The folder of numbered SQL files; None selects the package's own.

    Raises:
        StartupError: The file is not a database, is damaged or read-only, belongs to another
            program, is newer than this code, or a migration failed. It is then unchanged.
    """
    threads = Threads(1, "noskgpt_bard-migrations")
    async with AsyncExitStack() as stack:
        try:
            await threads.run(_prepare, path, migrations or migrations_path())
            writer, reader = [
                await stack.enter_async_context(
                    aiosqlite.connect(path, isolation_level=None, timeout=_ATTEMPT_SECONDS)
                )
                for _ in range(2)
            ]
            await writer.execute_fetchall("PRAGMA foreign_keys = ON")
            # Deleted content is overwritten; without this it stays readable in the file.
            await writer.execute_fetchall("PRAGMA secure_delete = ON")
            # The log may contain text that was deleted before the last process was killed.
            checkpoint = await writer.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
            ((blocked, *_),) = checkpoint
            await reader.execute_fetchall("PRAGMA query_only = ON")
            for connection, kilobytes in ((writer, _WRITER_CACHE), (reader, _READER_CACHE)):
                await connection.execute_fetchall(f"PRAGMA cache_size = -{kilobytes}")
        except (sqlite3.Error, OSError) as error:
            raise unusable(path, error) from error
        finally:
            await threads.close()
        yield Database(writer, reader, path, erasure_owed=bool(blocked))


def _prepare(path: Path, migrations: Path) -> None:
    """Check the file and bring its schema up to date; create it if there is none."""
    scripts = read_scripts(migrations)
    created = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(
            sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
        ) as connection:
            # The pages that a migration leaves behind contain text, which may be deleted later.
            connection.execute("PRAGMA secure_delete = ON")
            version = _check_owner(connection, path, newest=len(scripts))
            _check_pages(connection, path)
            with ExitStack() as stack:
                if 0 < version < len(scripts):
                    stack.enter_context(saved_before_migration(connection, path, version + 1))
                migrate(connection, scripts, version)
            connection.execute("PRAGMA journal_mode = WAL")
    except BaseException:
        if created:
            path.unlink(missing_ok=True)
        raise


def _check_owner(connection: sqlite3.Connection, path: Path, newest: int) -> int:
    """Return the schema version of the bard's own database; 0 for an empty one."""
    header = read_header(connection)
    if header.version > newest:
        backup = newest_backup(path, newest)
        restore = f" restore the backup from before the update ({restoring(backup)}),"
        raise StartupError(
            f"The database {path} has version {header.version}, newer than this bot's {newest}: "
            f"install a newer version of the bot,{restore if backup else ''} or set "
            "BARD_DATABASE to another path."
        )
    if not (header.empty or header.ours):
        raise StartupError(
            f"The database {path} belongs to another program: set BARD_DATABASE to another path."
        )
    return header.version


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    """Look for damage, in small tables first, for `CHECK_SECONDS` at most.

    Raises:
        StartupError: A page is damaged.
    """
    end = time.perf_counter() + CHECK_SECONDS
    tables = [
        name
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table'"
            " ORDER BY name IN ('turns', 'takes'), name"
        ).fetchall()
    ]
    connection.set_progress_handler(lambda: time.perf_counter() > end, 10_000)
    try:
        for table in tables:
            ((found, *_), *_) = connection.execute(f'PRAGMA quick_check("{table}")').fetchall()
            if found != "ok":
                raise StartupError(
                    f"The database {path} is damaged ({' '.join(str(found).split())}). "
                    f"{way_out(path)}, or set BARD_DATABASE to another path."
                )
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        log.info("The check of the database was ended after %g s", CHECK_SECONDS)
    finally:
        connection.set_progress_handler(None, 0)
