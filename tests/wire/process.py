"""Run the real bot as a process of its own against the double."""

import asyncio
import os
import signal
import sqlite3
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.wire.server import Discord

ROOT = Path(__file__).parents[2]

PROGRAM = """
import contextlib, discord, yarl
from bot.__main__ import main
discord.http.Route.BASE = "{base}"
discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL("{gateway}")
with contextlib.suppress(ImportError):  # older trees, with which benchmarks compare, lack it
    from bot import connection
    connection.IDENTIFY_SECONDS = {identify}
{first}
main()
"""
"""The bot, with the addresses of the double in discord.py, and its time between new sessions."""


class BotProcess:
    """The bot: started, killed and started again on the same files.

    Attributes:
        lines: What it has logged since its first start.
        folder: Its working directory.
        database: Its database.
        runs: Its folder of training runs.
        weights: The weights that it is configured with.

    Args:
        discord: The double.
        folder: Its working directory, with the database and the runs.
        weights: The weights that it loads.
        first: Python that it runs first, for what discord.py cannot be told otherwise.
        settings: Environment variables.
    """

    def __init__(
        self, discord: Discord, folder: Path, weights: Path, *, first: str = "", **settings: str
    ) -> None:
        self.lines: list[str] = []
        self.database = folder / "bard.sqlite3"
        self.runs = folder / "runs"
        self.weights = weights
        self._discord = discord
        self.folder = folder
        self._program = PROGRAM.format(
            base=discord.base,
            gateway=discord.gateway.url,
            identify=1.05 * discord.gateway.identify_seconds,
            first=first,
        )
        own = {
            "PYTHONPATH": str(ROOT),
            "DISCORD_TOKEN": discord.token,
            "BARD_WEIGHTS": str(weights),
            "BARD_DATABASE": str(self.database),
            "BARD_RUNS_DIR": str(self.runs),
            "BARD_WORKERS": "1",
            "BARD_COOLDOWN": "0",
            "XDG_DATA_HOME": str(folder / "data"),
        }
        others = {key: value for key, value in os.environ.items() if not key.startswith("BARD_")}
        self._environment = {**others, **own, **settings}
        self._process: Process | None = None
        self._watching: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start it, and wait until it is connected."""
        assert not self.running, "it runs already"
        await asyncio.gather(*self._watching)
        gateway = self._discord.gateway
        identified = gateway.identified
        self._discord.changes.lost = None
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            self._program,
            env=self._environment,
            cwd=self.folder,
            stdout=DEVNULL,
            stderr=PIPE,
        )
        self._watching = [
            asyncio.create_task(self._collect(self._process)),
            asyncio.create_task(self._watch(self._process)),
        ]
        await gateway.has_identified(identified + 1)

    async def kill(self) -> None:
        """Kill it, as a power cut does."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ask it to end, as `docker stop` does; return its exit code when it has."""
        return await self._end(signal.SIGTERM)

    async def restart(self) -> None:
        """Kill it and start it again on the same files."""
        await self.kill()
        await self.start()

    async def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        assert process is not None, "it does not run"
        if process.returncode is None:
            process.send_signal(number)
        code = await process.wait()
        await asyncio.gather(*self._watching)
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal that does not end it."""
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)

    async def close(self) -> None:
        """Kill it if it still runs."""
        if self._process is not None:
            await self.kill()

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Run a command of the program beside it; return its exit code and what it prints."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            self._program,
            *arguments,
            env=self._environment,
            cwd=self.folder,
            stdout=PIPE,
            stderr=STDOUT,
        )
        printed, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, " ".join(printed.decode().split())

    async def _collect(self, process: Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self.lines.append(line.decode().rstrip())
            self._discord.changes.notify()

    async def _watch(self, process: Process) -> None:
        """Let nobody wait for a bot that has ended by itself."""
        code = await process.wait()
        if self._process is process:
            self._discord.changes.lost = "\n".join([f"the bot ended with {code}", *self.lines[-5:]])
            self._discord.changes.notify()

    async def logged(self, text: str) -> str:
        """Wait for a line of its log with a text; return the line."""
        return await self._discord.changes.until(
            lambda: next((line for line in self.lines if text in line), None), f"the line {text!r}"
        )

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None else None

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Read its database, also while it runs."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()
