"""How late the event loop is beside 16 generations: `python -m benchmarks.event_loop`.

A coroutine asks to be woken every millisecond while the bot's own `Inference`, as it is
configured by default, writes 16 replies of 4,000 characters; then the same with PyTorch's
decoder. Ends in one line of JSON, in milliseconds.
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


async def lags(work: asyncio.Future[Any]) -> list[float]:
    """Return how many milliseconds late each tick was until `work` was done."""
    found = []
    while not work.done():
        asked = time.perf_counter()
        await asyncio.sleep(TICK)
        found.append((time.perf_counter() - asked - TICK) * 1000)
    await work
    return found


async def measure(*, fast: bool, characters: int) -> dict[str, float]:
    """Return the median, 99th percentile and largest lag, and the seconds it all took."""
    generation = Inference(None, load_settings().workers)
    await generation.load()
    if not fast:
        generation._model = noskgpt.load(fast=False)
    started = time.perf_counter()
    work = asyncio.gather(
        *(
            generation.generate("ROMEO:\n", max_chars=characters, temperature=0.8, seed=seed)
            for seed in range(REPLIES)
        )
    )
    found = sorted(await lags(work))
    seconds = time.perf_counter() - started
    await generation.close()
    return {
        "median": statistics.median(found),
        "p99": found[int(len(found) * 0.99)],
        "maximum": found[-1],
        "characters_per_second": REPLIES * characters / seconds,
    }


async def main() -> None:
    """Measure idle, compiled and PyTorch's decoding and print them."""
    idle = sorted(await lags(asyncio.ensure_future(asyncio.sleep(2, []))))
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
