"""Sort SQLite's errors by what they mean for the bot."""

import sqlite3

BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
"""Another process holds the file."""
DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""The content of the file is not that of a database."""
UNUSABLE = DAMAGED | frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
"""The file is damaged, is no database, or cannot be opened or written."""


def kind(error: BaseException) -> int:
    """Return SQLite's code of an error, without its extended part; 0 if it has none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
