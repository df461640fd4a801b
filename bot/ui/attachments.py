"""Divide an export into files that Discord accepts."""

FILE_LIMIT = 10 * 2**20
"""Largest file in bytes, for servers and people without a boost."""


class Attachments:
    """Join records, in order, to the fewest UTF-8 files that hold them, one file at a time.

    Args:
        name: The name of the file; several have their number in it.
        opening: The start of each file.
        between: The separator of records.
        closing: The end of each file.
        limit: Largest file in bytes. A record that exceeds it has a file to itself.
    """

    def __init__(
        self,
        name: str,
        *,
        opening: str = "",
        between: str = "",
        closing: str = "",
        limit: int = FILE_LIMIT,
    ) -> None:
        self._name = name
        self._opening = opening.encode()
        self._between = between.encode()
        self._closing = closing.encode()
        self._limit = limit
        self._number = 0
        self._data = bytearray()

    def add(self, record: str) -> tuple[str, bytes] | None:
        """Add a record; return the name and content of the file before it, if that is full."""
        data = record.encode()
        size = len(self._data) + len(self._between) + len(data) + len(self._closing)
        full = None
        if self._data and size > self._limit:
            self._number += 1
            full = self._close(numbered=True)
        self._data += self._between if self._data else self._opening
        self._data += data
        return full

    def last(self) -> tuple[str, bytes] | None:
        """Return the name and content of the last file; None if there are no records."""
        if not self._data:
            return None
        self._number += 1
        return self._close(numbered=self._number > 1)

    def _close(self, *, numbered: bool) -> tuple[str, bytes]:
        data = bytes(self._data + self._closing)
        self._data.clear()
        stem, _, suffix = self._name.partition(".")
        return f"{stem}-{self._number}.{suffix}" if numbered else self._name, data
