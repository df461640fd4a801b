"""Measure the delay of the event loop beside 16 generations.

Run `python -m benchmarks.event_loop`. A coroutine wakes up every millisecond while the bot's
`Inference` with default settings generates 16 replies of 4,000 characters, then shorter ones with
PyTorch's decoder. The last line is JSON, in milliseconds.
"""

import asyncio
import json
import statistics
import time
from typing import Any

import noskgpt
from bot.config import load_settings
from bot.core.inference import Inference

REPLIES, CHARACTERS = 16, 4000
TICK = 0.001


async def tick_delays(work: asyncio.Future[Any]) -> list[float]:
    """Return the delay of each tick in milliseconds until `work` is done."""
    delays = []
    while not work.done():
        start = time.perf_counter()
        await asyncio.sleep(TICK)
        delays.append((time.perf_counter() - start - TICK) * 1000)
    await work
    return delays


async def measure(*, fast: bool, characters: int) -> dict[str, float]:
    """Return the median, 99th percentile and maximum delay, and the characters per second."""
    inference = Inference(None, load_settings().workers)
    await inference.load()
    if not fast:
        inference._model = noskgpt.load(fast=False)
    started = time.perf_counter()
    work = asyncio.gather(
        *(
            inference.generate("ROMEO:\n", max_chars=characters, temperature=0.8, seed=seed)
            for seed in range(REPLIES)
        )
    )
    delays = sorted(await tick_delays(work))
    seconds = time.perf_counter() - started
    await inference.close()
    return {
        "median": statistics.median(delays),
        "p99": delays[int(len(delays) * 0.99)],
        "maximum": delays[-1],
        "characters_per_second": REPLIES * characters / seconds,
    }


async def main() -> None:
    """Measure an idle loop, the compiled decoder and PyTorch's; print the results."""
    idle = sorted(await tick_delays(asyncio.ensure_future(asyncio.sleep(2, []))))
    report = {
        "idle": {"median": statistics.median(idle), "p99": idle[int(len(idle) * 0.99)]},
        "compiled": await measure(fast=True, characters=CHARACTERS),
        "PyTorch": await measure(fast=False, characters=CHARACTERS // 8),
    }
    for name, figures in report.items():
        print(f"{name:9}", "  ".join(f"{k} {v:,.2f}" for k, v in figures.items()))
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(main())
