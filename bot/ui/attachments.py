"""Split an export into files that Discord accepts."""

from collections.abc import Iterable

FILE_LIMIT = 10 * 2**20
"""Largest file in bytes, for servers and people without a boost."""


def files_of(
    records: Iterable[str],
    *,
    opening: str = "",
    between: str = "",
    closing: str = "",
    limit: int = FILE_LIMIT,
) -> list[bytes]:
    """Join records, in order, to the fewest UTF-8 files that hold them.

    Args:
        records: The texts. One that exceeds the limit has a file to itself.
        opening: The start of each file.
        between: The separator of records.
        closing: The end of each file.
        limit: Largest file in bytes.
    """
    files: list[list[str]] = [[]]
    capacity = free = limit - len(f"{opening}{closing}".encode()) + len(between.encode())
    for record in records:
        size = len(f"{between}{record}".encode())
        if files[-1] and size > free:
            files.append([])
            free = capacity
        files[-1].append(record)
        free -= size
    return [f"{opening}{between.join(texts)}{closing}".encode() for texts in files]
