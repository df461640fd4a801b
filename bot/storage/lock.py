"""Lock the files of one bot for as long as its process lives, so that no second one uses them."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import StartupError

log = logging.getLogger(__name__)

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""Errors of a file system that has no locks."""


@contextmanager
def exclusive(database: Path, runs: Path) -> Iterator[None]:
    """Hold a database and a folder of training runs while the context lasts.

    The operating system holds the locks and releases them with the process, however it ends. A
    child process does not inherit them.

    Raises:
        StartupError: Another bot holds one of them, or its folder cannot be written. Nothing but
            the folders and the empty lock files was created then.
    """
    # A file has one lock, also if two bots name it by different paths.
    database, runs = Path(os.path.realpath(database)), Path(os.path.realpath(runs))
    with ExitStack() as stack:
        for name, variable, path, lock in (
            ("database", "BARD_DATABASE", database, lock_path(database)),
            ("folder of training runs", "BARD_RUNS_DIR", runs, runs / ".lock"),
        ):
            stack.enter_context(_hold_or_refuse(name, variable, path, lock))
        yield


def lock_path(database: Path) -> Path:
    """Return the path of a database's lock file."""
    return Path(f"{os.path.realpath(database)}.lock")


def is_held(database: Path) -> bool | None:
    """Return whether a bot holds a database, without taking the lock for even a moment.

    A bot that started in that moment would be refused. Only Linux tells; elsewhere it is None.
    """
    try:
        number = lock_path(database).stat().st_ino
    except FileNotFoundError:
        return False
    try:
        locks = Path("/proc/locks").read_text(encoding="utf-8")
    except OSError:
        return None
    # Some file systems report another device there than in `stat`.
    held = {line.split()[5].rpartition(":")[2] for line in locks.splitlines() if " FLOCK " in line}
    return f"{number}" in held


@contextmanager
def _hold_or_refuse(name: str, variable: str, path: Path, lock: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(_hold(lock))
        except Timeout as error:
            raise StartupError(
                f"The {name} {path} is in use by another bot: "
                f"stop that bot, or set {variable} to another path."
            ) from error
        except OSError as error:
            raise StartupError(
                f"Cannot use the {name} {path}: {error.strerror or error} ({lock}). "
                f"Let the bot write there, or set {variable} to another path."
            ) from error
        yield


@contextmanager
def _hold(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    # The fallback of the library is a file that outlives a process that is killed. Not local to a
    # thread: the one that closes the bot need not be the one that opened it.
    held = FileLock(lock, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        held.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("Cannot lock %s (%s): do not let a second bot use it", lock, error.strerror)
    try:
        yield
    finally:
        held.release()
