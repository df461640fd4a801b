"""Run the bot as a process of its own."""

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from bot.core.training_child import TrainingChild
from bot.core.training_runner import TrainingRunner
from bot.storage.runs import Run

ROOT = Path(__file__).parents[2]


def run_program(program: str) -> tuple[int, str]:
    """Run a Python program in the checkout; return its exit code and its standard error.

    A program that hangs is killed after a minute, and fails the test.
    """
    done = subprocess.run(  # noqa: S603 - a constant of a test
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


WITH_PLANNED_STEPS = """
from bot.__main__ import main
from tests.bot.process import plan_steps
plan_steps({steps})
main()
"""
"""A program that is the bot, after `plan_steps`."""

GATED = """
import pathlib, time
from noskgpt import Generator
generate = Generator.generate
def gated(self, prompt, *args, cancellation=(), **options):
    if {gated}:
        pathlib.Path("generating").touch()
    while {gated} and not pathlib.Path("gate").exists() and not ({cancellable} and cancellation):
        time.sleep(0.01)
    return generate(self, prompt, *args, cancellation=cancellation or None, **options)
Generator.generate = gated
"""
"""A generation makes the file "generating", and waits for the file "gate".

The first one, at startup, has an empty prompt. It does neither, unless all are to wait.
"""
REPLIES_WAIT = GATED.format(gated="prompt", cancellable=True)
REPLIES_HANG = GATED.format(gated="prompt", cancellable=False)
LOADING_HANGS = GATED.format(gated="True", cancellable=False)


def plan_steps(steps: int) -> Callable[..., Awaitable[TrainingChild]]:
    """Let training runs make a number of steps instead of those that fit into their minutes.

    How many fit depends on the other work of the machine, on which tests should not. Returns the
    method that this replaces.
    """
    spawn = TrainingRunner._spawn

    def limited(
        self: TrainingRunner, run: Run, options: tuple[str, ...], errors: IO[bytes]
    ) -> Awaitable[TrainingChild]:
        if "--minutes" in options:
            at = options.index("--minutes")
            options = (*options[:at], "--steps", f"{steps}", *options[at + 2 :])
        return spawn(self, run, options, errors)

    TrainingRunner._spawn = limited  # type: ignore[method-assign]
    return spawn


@asynccontextmanager
async def bot_process(
    *arguments: str, weights: Path, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start Python with `arguments` in the working directory; kill it at the end if it still runs.

    The working directory is the test's own empty folder: see `conftest.py`.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "BARD_WEIGHTS": str(weights),
            "BARD_WORKERS": "1",
            "BARD_COOLDOWN": "0",
            **environment,
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def clean_end(process: Process) -> str:
    """Wait for a process that ends with exit code 0 and without a traceback; return its log."""
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert "Traceback" not in err.decode()
    assert process.returncode == 0
    return err.decode()


async def created(path: Path) -> None:
    """Wait until a file exists."""
    async with asyncio.timeout(120):
        while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process creates it
            await asyncio.sleep(0.01)
