"""What people take away with them, in files of a size that Discord takes."""

from collections.abc import Iterable

FILE_LIMIT = 10 * 2**20
"""Bytes of one file, for servers and people without any boost."""


def files_of(
    records: Iterable[str],
    *,
    opening: str = "",
    between: str = "",
    closing: str = "",
    limit: int = FILE_LIMIT,
) -> list[bytes]:
    """Return texts joined to as few UTF-8 files as hold them in order, each whole in itself.

    Args:
        records: The texts. One that is too long alone has a file to itself.
        opening: What each file begins with.
        between: What stands between two texts of a file.
        closing: What each file ends with.
        limit: Bytes of a file.
    """
    files: list[list[str]] = [[]]
    room = free = limit - len(f"{opening}{closing}".encode()) + len(between.encode())
    for record in records:
        size = len(f"{between}{record}".encode())
        if files[-1] and size > free:
            files.append([])
            free = room
        files[-1].append(record)
        free -= size
    return [f"{opening}{between.join(texts)}{closing}".encode() for texts in files]
