"""Open files that may be anything: a folder, a pipe, a device without an end, or far too large."""

import errno
import os
import stat
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
