"""Write the log to stderr: readable lines on a terminal, JSON lines elsewhere."""

import asyncio
import json
import logging
import os
import queue
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

import discord

from ..client import EXTENSION
from ..config import Settings
from ..ui.interactions import NETWORK_ERRORS, brief
from .redaction import Redactor, values_in

LEVELS_OF = (EXTENSION, "noskgpt", "discord")
"""The loggers that log below INFO if `BARD_LOG_LEVEL` says so."""
LATE = (
    "Something keeps the bot from answering in time: the machine is busy with other work, or its "
    "network is slow. If this appears often, lower BARD_WORKERS below the number of cores, end "
    "other work on this machine, or use a faster one. Discord drops the connection after a minute; "
    "the bot then connects again. (Explained once.)"
)
"""What the library's warnings of a late heartbeat mean."""

_TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_GATEWAY = "discord.gateway"
_SIGNS_OF_DELAY = ("Can't keep up", "heartbeat blocked")
_OUTAGES = (
    *NETWORK_ERRORS,
    asyncio.TimeoutError,
    discord.HTTPException,
    discord.GatewayNotFound,
    discord.ConnectionClosed,
)
"""Errors of an outage, of which the library logs the traceback at each attempt."""


FLUSH_SECONDS = 1.0
"""Time that the last lines have at the end of the process."""
_WAITING_LINES = 10_000


class LineWriter(logging.Handler):
    """Write records to a stream in a thread, so that nobody waits for a stream that is not read.

    That may be a terminal that is paused, or a pipe whose reader hangs. Records that come while
    `_WAITING_LINES` wait are dropped.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        # Unlike other queues, an object that logs when it is collected may interrupt its use. An
        # event is set when the lines before it are written.
        self._lines: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        threading.Thread(target=self._write_lines, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record, and leave the rest to the thread."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - as the handlers of the standard library do
            self.handleError(record)
            return
        if self._lines.qsize() < _WAITING_LINES:
            self._lines.put(f"{line}\n")

    def flush(self) -> None:
        """Wait until every line is written, for `FLUSH_SECONDS` at most."""
        written = threading.Event()
        self._lines.put(written)
        written.wait(FLUSH_SECONDS)

    def _write_lines(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            with suppress(OSError, ValueError):  # closed, and there is no other place to say so
                self._write(line)

    def _write(self, line: str) -> None:
        if os.name != "posix" or not hasattr(self._stream, "buffer"):
            self._stream.write(line)
            self._stream.flush()
            return
        # Past the stream, whose lock the end of the interpreter could not get from this thread.
        data = line.encode(self._stream.encoding, "backslashreplace")
        while data:
            data = data[os.write(self._stream.fileno(), data) :]


class Explain(logging.Filter):
    """Add an explanation to the first warning of a late heartbeat."""

    def __init__(self) -> None:
        super().__init__()
        self._explained = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Accept every record."""
        late = record.name == _GATEWAY and any(sign in str(record.msg) for sign in _SIGNS_OF_DELAY)
        if late and not self._explained:
            self._explained = True
            record.explanation = LATE
        return True


class TextFormatter(logging.Formatter):
    """Format a record as lines for people, without tokens and contents."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__(_TEXT)
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines."""
        error = record.exc_info[1] if record.exc_info else None
        record = _without_noise(self._redactor.record(record))
        if explanation := getattr(record, "explanation", None):
            record.msg, record.args = f"{record.getMessage()} {explanation}", ()
        return self._redactor.text(super().format(record), *values_in(error))


class JsonFormatter(logging.Formatter):
    """Format a record as a line of JSON, without tokens and contents."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; docs/observability.md lists its fields."""
        error = record.exc_info[1] if record.exc_info else None
        written = tuple(values_in(error))
        record = _without_noise(self._redactor.record(record))
        time = datetime.fromtimestamp(record.created, UTC)
        fields = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "error_id": getattr(record, "error_id", None),
            "explanation": getattr(record, "explanation", None),
            "traceback": self.formatException(record.exc_info) if record.exc_info else None,
            "stack": record.stack_info,
        }
        shown = {
            name: self._redactor.text(value, *written)
            for name, value in fields.items()
            if value is not None
        }
        return json.dumps(shown, ensure_ascii=False)


def _without_noise(record: logging.LogRecord) -> logging.LogRecord:
    """Shorten the traceback of an outage, which the library repeats, to what happened."""
    error = record.exc_info[1] if record.exc_info else None
    library = record.name.split(".")[0] == "discord"
    if library and isinstance(error, _OUTAGES):
        record.msg, record.args = f"{record.getMessage()}: {brief(error)}", ()
        record.exc_info = record.exc_text = None
    return record


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Log to a stream; below INFO only the bot, the model and Discord's library.

    Args:
        settings: The level, the format, and the token, which is never logged.
        stream: None selects stderr.
    """
    stream = stream or sys.stderr
    readable = settings.log_format == "text" or (settings.log_format == "auto" and stream.isatty())
    token = settings.token.get_secret_value() if settings.token else ""
    redactor = Redactor(token)
    handler = LineWriter(stream)
    handler.setFormatter(TextFormatter(redactor) if readable else JsonFormatter(redactor))
    handler.addFilter(Explain())
    level = logging.getLevelNamesMapping()[settings.log_level]
    logging.basicConfig(level=max(level, logging.INFO), handlers=[handler])
    for name in LEVELS_OF:
        logging.getLogger(name).setLevel(level)
    # The bot sends text only, so it needs no voice libraries.
    discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False
