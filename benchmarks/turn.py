"""Compare the cost of a `/bard` turn, without its generation, with that in an older commit.

Run `python -m benchmarks.turn`, on Linux, about three minutes. Two bot processes run against
loopback Discords of `tests/wire/`: one with the sources of this tree, one with those of a commit,
in a temporary worktree: the last one before the bard answered mentions, had voices and let people
play parts. In turn, each gets a few commands for one character, which begin a scene each time, with
the same seed. Other work of the machine slows both down, so each figure of this tree is divided by
that of the older one of the same moment.

- Acknowledgement: from the command to the first response, on the wall clock.
- Reply: from the command to the message with the reply, on the wall clock.
- Processor: what all threads of the process use for a turn.

The last line is JSON: medians over the rounds, the medians of the ratios, and the intervals in
which those lie with a probability of 95 %. The exit code is 1 if such an interval is above 1.05.
"""

import argparse
import asyncio
import contextlib
import json
import math
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from benchmarks.footprint import Town, compile_decoder, worktree
from noskgpt.resources import weights_path
from tests.wire.process import ROOT, BotProcess
from tests.wire.server import Discord

BEFORE = "9760727"
BOUND = 1.05
ROUNDS = 40
TURNS = 8
"""Turns of each process in a round."""
WARM_TURNS = 30
FIGURES = ("acknowledgement_ms", "reply_ms", "processor_ms")


def processor_ms(pid: int) -> float:
    """Return the processor time that the threads of a process have used."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text(encoding="utf-8").split()[0]) for task in tasks) / 1e6


@contextlib.asynccontextmanager
async def town(tree: Path, folder: Path) -> AsyncIterator[Town]:
    """Run the bot with the sources in a folder, in a server of its own."""
    async with Discord().running() as discord:
        bot = BotProcess(discord, folder, weights_path(), PYTHONPATH=str(tree))
        running = Town(discord, bot)
        try:
            await running.start()
            await play(running, WARM_TURNS)
            yield running
            await bot.stop()
        finally:
            await bot.close()


async def play(running: Town, turns: int) -> tuple[float, ...]:
    """Play turns; return the figures of a turn, in the order of `FIGURES`."""
    before = processor_ms(running.pid)
    asked = [await running.ask(max_chars=1, seed=7, fresh=True) for _ in range(turns)]
    used = processor_ms(running.pid) - before
    return (
        1000 * statistics.median(turn.acknowledged for turn in asked),
        1000 * statistics.median(turn.replied for turn in asked),
        used / turns,
    )


async def measure(older: Path, rounds: int) -> tuple[list[tuple[float, ...]], ...]:
    """Return the figures of each round, of this tree and of the older one."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        async with town(ROOT, Path(one)) as now, town(older, Path(other)) as before:
            figures: tuple[list[tuple[float, ...]], ...] = ([], [])
            for number in range(rounds):
                # Neither is always the first: what the machine does else may have a rhythm.
                pair = ((now, figures[0]), (before, figures[1]))
                for running, found in pair if number % 2 else pair[::-1]:
                    found.append(await play(running, TURNS))
            return figures


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return an interval in which the median of what is measured lies with 95 % probability.

    By the ranks of the values, whatever their distribution: as many of them lie below the median as
    coins of that number show heads.
    """
    ordered = sorted(values)
    rank = max(0, math.floor((len(ordered) - 1.96 * math.sqrt(len(ordered))) / 2))
    return ordered[rank], ordered[-1 - rank]


def main() -> int:
    """Measure both trees, print the figures, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--before", metavar="COMMIT", default=BEFORE)
    options = parser.parse_args()
    with worktree(options.before) as tree:
        compile_decoder(tree)
        compile_decoder(ROOT)
        now, before = asyncio.run(measure(tree, options.rounds))
    report = {}
    print(f"{'':20}{'before':>9}{'now':>9}{'ratio':>9}   95 %")
    for index, name in enumerate(FIGURES):
        pairs = [(new[index], old[index]) for new, old in zip(now, before, strict=True)]
        ratios = [new / old for new, old in pairs]
        low, high = interval(ratios)
        report[name] = {
            "before": statistics.median(old for _, old in pairs),
            "now": statistics.median(new for new, _ in pairs),
            "ratio": statistics.median(ratios),
            "low": low,
            "high": high,
        }
        of = report[name]
        print(
            f"{name:20}{of['before']:>9.2f}{of['now']:>9.2f}{of['ratio']:>9.3f}"
            f"   {low:.3f} to {high:.3f}"
        )
    slower = [name for name, of in report.items() if of["low"] > BOUND]
    print(json.dumps({"before": options.before, "bound": BOUND, "slower": slower, **report}))
    return int(bool(slower))


if __name__ == "__main__":
    sys.exit(main())
