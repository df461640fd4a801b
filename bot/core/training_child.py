"""Start `noskgpt train` as a child process at low priority, read its lines, and stop it.

The child saves a checkpoint and ends when its standard input ends, so it does not outlive a bot
that exits or is killed.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from typing import IO

NICENESS = 19
"""Niceness of the child process; see `man 7 sched`."""
STOPPED = 128 + signal.SIGTERM
"""Exit code of a child that was told to stop."""
_LINE_LIMIT = 2**20
"""Longest event in bytes."""
_JOIN_GROUP = "import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Python code that runs a command in a process group of its own. asyncio has an argument for
that, which uvloop, the event loop of some hosts, rejects."""


class TrainingChild:
    """Control a child process whose standard input and output are pipes."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None  # noqa: S101 - a pipe
        assert process.stdout is not None  # noqa: S101 - a pipe
        self._process = process
        self._input, self._output = process.stdin, process.stdout

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative number of the signal that ended it; None if it runs."""
        return self._process.returncode

    async def read_line(self) -> bytes:
        """Return the next line of the output; empty bytes at its end.

        Raises:
            ValueError: The line is too long; it is skipped.
        """
        return await self._output.readline()

    async def wait(self) -> int:
        """Wait for the end; return the exit code."""
        return await self._process.wait()

    def stop(self) -> None:
        """Tell the process to save a checkpoint and end. A second call would kill it."""
        self.close_input()
        if os.name == "posix":  # elsewhere the first would
            self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once."""
        if os.name == "posix":
            self._send(signal.SIGKILL)
        else:
            with suppress(ProcessLookupError):
                self._process.kill()

    def _send(self, number: int) -> None:
        # Not by asyncio's process: that looks first whether the child has ended, and if it has in
        # this moment, its exit code is lost.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def close_input(self) -> None:
        """Close the standard input, at which the process ends if it still runs."""
        self._input.close()


def thread_count() -> int:
    """Return the number of threads of a child; one core is left to the bot."""
    return max(1, (os.cpu_count() or 1) - 1)


async def start_child(
    arguments: tuple[str, ...], *, threads: int, errors: IO[bytes]
) -> TrainingChild:
    """Start a child process.

    Args:
        arguments: Those of `noskgpt train`, besides the ones that every child has.
        threads: The number of threads of its libraries.
        errors: The file of its standard error.

    Raises:
        OSError: It cannot be started.
    """
    # Ctrl-C at the terminal is for the bot alone. A process group and not a session: where
    # Linux groups sessions (man 7 sched, autogroup), niceness counts within one.
    grouped = (sys.executable, "-I", "-S", "-c", _JOIN_GROUP) if os.name == "posix" else ()
    command = [
        *(*grouped, sys.executable, "-P", "-m", "noskgpt"),
        *("train", "--json", "--until-stdin-ends", *arguments),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    environment.pop("DISCORD_TOKEN", None)
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=PIPE, stdout=PIPE, stderr=errors, limit=_LINE_LIMIT
    )
    _lower_priority(process.pid)
    return TrainingChild(process)


def _lower_priority(pid: int) -> None:
    """Lower a child's priority while it has one thread, from which later ones inherit it."""
    # A sandbox may forbid it, and Windows has no such call; replies are then slower.
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, pid, NICENESS)
