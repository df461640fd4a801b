"""Keep the bot process under fire, and check that what was shown is what is stored.

Run `make soak`, about half an hour; `python -m benchmarks.soak --help` lists the options. The seed
decides what people do and when something breaks; nothing outside of this machine is asked. The
last line is JSON; the exit code is 1 if a promise was broken. `tests/wire/` and the tests of the
services have a short form of each part.

- Kills: people ask and press buttons, and the process is killed at a random request of theirs.
  After the restart, every channel has to contain in the database what its members see.
- Faults: the same, while random requests of the bot fail, are dropped, or lose their answers.
- Load: 50 members ask at once; the slowest acknowledgement has to be far below Discord's 3 s.
- Million: `benchmarks.growth`.
"""

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import growth
from noskgpt import lexicon
from noskgpt.checkpoint import Checkpoint, save
from noskgpt.config import ModelConfig
from noskgpt.model import GPT
from noskgpt.tokenizer import VOCABULARY
from tests.wire.changes import LONG_PATIENCE_SECONDS
from tests.wire.people import Exchange
from tests.wire.process import BotProcess
from tests.wire.server import Discord
from tests.wire.state import Person
from tests.wire.town import Town

ACKNOWLEDGE_SECONDS = 3.0
PEOPLE, CHANNELS, LOAD = 6, 3, 50


async def kills(town: Town, until: float) -> None:
    """Kill the process at random moments until a time."""
    while time.monotonic() < until:
        await town.kill_the_bot()


async def faults(town: Town, until: float) -> None:
    """Let random requests of the bot go wrong until a time."""
    while time.monotonic() < until:
        await town.let_requests_fail()


def answered(asked: Exchange) -> bool:
    """Return whether a request has an answer, and not only the status of one that waits."""
    return any("Stop" not in message.labels for message in asked.messages())


async def load(town: Town, until: float) -> dict[str, float]:
    """Let 50 members ask at once, again and again; return how soon they were acknowledged."""
    durations: list[float] = []

    async def ask(person: Person) -> None:
        while time.monotonic() < until:
            place = town.random.choice(town.places)
            started = time.monotonic()
            asked = await town.discord.slash(
                "bard", by=person, at=place, prompt="ROMEO:", max_chars=200
            )
            await asked.acknowledged()
            durations.append(time.monotonic() - started)
            await asked.until(partial(answered, asked), "an answer", LONG_PATIENCE_SECONDS)

    # The double remembers every request, so that a collection of garbage stops it for seconds.
    gc.disable()
    await asyncio.gather(*(ask(person) for person in town.people))
    gc.enable()
    durations.sort()
    slowest = durations[-1]
    if slowest > ACKNOWLEDGE_SECONDS:
        town.report.broken.append(f"an acknowledgement took {slowest:.1f} s")
    await town.check()
    return {
        "requests": len(durations),
        "acknowledged_p99_ms": round(durations[int(len(durations) * 0.99)] * 1000, 1),
        "acknowledged_maximum_ms": round(slowest * 1000, 1),
    }


def small_weights(path: Path) -> Path:
    """Write weights of a real, small, untrained model."""
    torch.manual_seed(1)
    words = lexicon.build(VOCABULARY, lexicon.words("But soft, what light through yonder window?"))
    config = ModelConfig(n_layer=1, n_head=2, n_embd=16)
    model = GPT(config)
    model.round_to_bfloat16()
    save(
        Checkpoint(config=config, vocabulary=VOCABULARY, weights=model.arrays(), lexicon=words),
        path,
    )
    return path


async def soak(minutes: float, seed: int, turns: int) -> tuple[dict[str, Any], bool]:
    """Run every part; return the report, and whether every promise was kept."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with Discord().running() as discord:
            bot = BotProcess(discord, folder, small_weights(folder / "small.pth"))
            town = Town(discord, bot, seed, people=LOAD, active=PEOPLE)
            report = town.report
            try:
                await bot.start()
                await town.build(CHANNELS)
                await kills(town, time.monotonic() + 0.5 * minutes * 60)
                await faults(town, time.monotonic() + 0.3 * minutes * 60)
                found = await load(town, time.monotonic() + 0.1 * minutes * 60)
                code = await bot.stop()
                if code:
                    report.broken.append(f"the bot ended with {code}")
                if traces := [line for line in bot.lines if "Traceback" in line]:
                    report.broken.append(f"{len(traces)} tracebacks in the log")
            finally:
                await bot.close()
    million, kept = await growth.measure(turns)
    result = {
        "seed": seed,
        "kills": report.kills,
        "faults": report.faults,
        "actions": report.answered,
        "checked": report.checked,
        "load": found,
        "million": million,
        "broken": sorted(set(report.broken))[:20],
    }
    return result, kept and not report.broken


def main() -> int:
    """Run the parts, print the report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=28.0, help="duration without the last part"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--turns", type=int, default=growth.MANY, help="turns of the last part")
    options = parser.parse_args()
    result, kept = asyncio.run(soak(options.minutes, options.seed, options.turns))
    print(json.dumps(result))
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
