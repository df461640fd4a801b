"""Run the bot as a process of its own."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


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
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
