"""Answer the question whether the bot is alive, on a socket beside its database; and ask it."""

import asyncio
import http.client
import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from ..config import Settings
from .health import Health

log = logging.getLogger(__name__)

ASK_SECONDS = 8.0
"""Time after which a bot that gives no answer counts as hanging."""
_ANSWER_LIMIT = 64 * 1024
_PATH_LIMIT = 100
"""Length in bytes below which every platform takes the path of a socket."""
_SUPPORTED = hasattr(socket, "AF_UNIX") and sys.platform != "win32"
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here
"""The address to ask where the server listens on all."""


class NoAnswerError(Exception):
    """Nobody can be asked, or nobody answers; the message is a phrase."""


def socket_path(database: Path) -> Path:
    """Return the path of the socket of the bot that uses a database."""
    return Path(f"{os.path.realpath(database)}.sock")


@asynccontextmanager
async def answering(database: Path, health: Health) -> AsyncIterator[None]:
    """Answer on the socket while the context lasts. The caller holds the lock of the database.

    Where there can be no socket, a warning says so.
    """
    path = socket_path(database)
    try:
        listening = _listen(path) if _SUPPORTED else None
    except OSError as error:
        log.warning(
            "No socket at %s (%s): `check --alive` needs BARD_HTTP_PORT",
            path,
            error.strerror or error,
        )
        listening = None
    if listening is None:
        yield
        return
    identity = path.stat().st_ino

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(json.dumps(await health.obstacles()).encode())
            with suppress(ConnectionError):  # the one that asked may have gone
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, sock=listening)
    try:
        yield
    finally:
        server.close()
        # Unless the next bot has put its own there.
        with suppress(OSError):
            if path.stat().st_ino == identity:
                path.unlink()


def _listen(path: Path) -> socket.socket:
    """Return a socket at a path that only the bot's own user can connect to."""
    # What is there was left by a bot that was killed: this one holds the lock.
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as name:
            listening.bind(name)
        path.chmod(0o600)  # nobody can connect before `listen`
        listening.listen()
        listening.settimeout(0)  # for asyncio
    except BaseException:
        listening.close()
        raise
    return listening


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield a name of a path that is short enough for a socket, if the platform has one."""
    if len(os.fsencode(path)) <= _PATH_LIMIT or sys.platform != "linux":
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def check_alive(settings: Settings) -> tuple[bool, str]:
    """Ask the running bot; return whether it is well, and one line about it.

    Args:
        settings: Those of the bot: its database, or its port, tells where to ask.
    """
    path = socket_path(settings.database_path)
    try:
        if _SUPPORTED and (path.exists() or not settings.http_port):
            obstacles = _ask_socket(path)
        else:
            obstacles = _ask_http(settings)
    except NoAnswerError as error:
        obstacles = [str(error)]
    if obstacles:
        return False, f"Not alive: {', '.join(obstacles)}"
    return True, "Alive: Discord is connected, the event loop and the workers answer"


def _ask_socket(path: Path) -> list[str]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(ASK_SECONDS)
        try:
            with _short(path) as name:
                asking.connect(name)
            answer = b""
            while len(answer) < _ANSWER_LIMIT and (part := asking.recv(4096)):
                answer += part
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoAnswerError(
                f"no bot runs on {path.with_suffix('')}, or it is still loading or a rehearsal"
            ) from error
        except TimeoutError as error:
            raise NoAnswerError("the event loop does not answer") from error
        except OSError as error:
            raise NoAnswerError(f"cannot ask at {path}: {error.strerror or error}") from error
    try:
        return [str(item) for item in json.loads(answer)]
    except ValueError as error:
        raise NoAnswerError("the bot ended before it answered") from error


def _ask_http(settings: Settings) -> list[str]:
    if not settings.http_port:
        raise NoAnswerError("on this platform `check --alive` needs BARD_HTTP_PORT")
    host = _ANYWHERE.get(settings.http_host, settings.http_host)
    connection = http.client.HTTPConnection(host, settings.http_port, timeout=ASK_SECONDS)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        text = response.read(_ANSWER_LIMIT).decode(errors="replace")
    except TimeoutError as error:
        raise NoAnswerError("the event loop does not answer") from error
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(f"no bot answers on port {settings.http_port} of {host}") from error
    finally:
        connection.close()
    return [] if response.status == http.client.OK else text.split("\n")
