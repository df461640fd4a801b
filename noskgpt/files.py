"""Open files that may be anything, such as a pipe or far too large; replace files safely."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path, limit: int) -> BinaryIO:
    """Open a regular file of at most `limit` bytes for reading.

    Raises:
        OSError: There is no such file, it cannot be opened, is not a regular file, or is larger.
    """
    try:
        status = path.stat()  # before `open`, which waits for the writer of a pipe
    except ValueError as error:  # the path contains a null character
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from error
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    if status.st_size > limit:
        raise OSError(errno.EFBIG, too_large(limit))
    return path.open("rb")


def read_regular(path: Path, limit: int) -> bytes:
    """Return the contents of a regular file of at most `limit` bytes.

    Raises:
        OSError: As `open_regular`.
    """
    with open_regular(path, limit) as file:
        # Some files in /proc have no size and no end.
        contents = file.read(limit + 1)
    if len(contents) > limit:
        raise OSError(errno.EFBIG, too_large(limit))
    return contents


def too_large(limit: int) -> str:
    """Return the reason why a file of more than `limit` bytes is refused."""
    return f"Larger than {limit // 1_000_000} MB"


@contextmanager
def replacing(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Yield a new file that replaces `path` after the block, at once and on the disk.

    If the block raises, or the system ends, `path` is unchanged.

    Args:
        path: The file. Its folder exists.
        mode: The permissions of the new file.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Write a file, or the names in a folder, to the disk.

    Raises:
        OSError: That failed.
    """
    if os.name != "posix" and path.is_dir():  # other systems cannot open a folder
        return
    number = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
