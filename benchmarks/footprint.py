"""Measure the memory, the start and the idle load of the bot process, beside those of an older one.

Run `python -m benchmarks.footprint`, on Linux, about ten minutes; `--replies 500` takes two. The
real process runs against the loopback Discord of `tests/wire/`, once with the sources of this tree
and once with those of a commit, in a temporary worktree: the last one whose process imported
PyTorch. A machine that does other work starts more slowly, which the processor seconds show less.
The last line is JSON; the exit code is 1 if this tree misses a goal.

- Connected: from the start of the process to its session with Discord, which delivers commands from
  then on; the shortest of a few starts. The machine code of the decoder is in the cache.
- Ready: to the line *Ready* in the log. The library has waited two seconds then for servers that
  Discord might still report, while the bot answers.
- First reply: from the command to the message with the reply, after that start.
- Idle: resident memory some seconds after *Ready*, and the processor time of a quiet period.
- Growth: of resident memory from the hundredth reply to the last.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from noskgpt.resources import weights_path
from tests.wire.process import ROOT, BotProcess
from tests.wire.server import Discord

if TYPE_CHECKING:
    from tests.wire.people import Value
    from tests.wire.state import Person, Place

BEFORE = "85ac31d"
GOALS = {
    "connected_seconds": 1.5,
    "first_reply_seconds": 0.2,
    "idle_megabytes": 170.0,
    "idle_load_percent": 0.5,
    "growth_percent": 2.0,
}
STARTS = 3
SETTLE_SECONDS = 3.0
"""Time after which a process that has become ready is idle."""
IDLE_SECONDS = 20.0
WARM_REPLIES = 100
"""Replies after which growth is measured: caches fill until then."""
COMPILE = (
    *("-m", "noskgpt", "--prompt", "ROMEO:", "--max-chars", "2"),
    *("--real-words", "--cast", "--echo"),
)

Figures = dict[str, float]


def megabytes(pid: int, field: str) -> float:
    """Return a size in /proc/PID/status in units of 2**20 bytes."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kilobytes) / 1024


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user and system


@dataclass(frozen=True)
class Asked:
    """How long a request took, from the command, in seconds of the wall clock."""

    acknowledged: float
    replied: float


class Town:
    """A server in which one bot is, and a member who asks."""

    def __init__(self, discord: Discord, bot: BotProcess) -> None:
        self.discord = discord
        self.bot = bot
        self.place: Place | None = None
        self.person: Person = discord.person("Miranda")

    @property
    def pid(self) -> int:
        """The id of the bot's process."""
        assert self.bot.pid is not None, "the bot does not run"
        return self.bot.pid

    async def start(self) -> Figures:
        """Start the bot; return the wall-clock and the processor seconds until it was ready."""
        self.bot.lines.clear()
        started = time.monotonic()
        await self.bot.start()
        connected = time.monotonic() - started
        await self.bot.logged("Ready as")
        seconds = time.monotonic() - started
        return {
            "connected_seconds": connected,
            "ready_seconds": seconds,
            "ready_processor_seconds": processor_seconds(self.pid),
        }

    async def ask(self, **options: "Value") -> Asked:
        """Let the member ask; return how long the acknowledgement and the reply took."""
        if self.place is None:
            guild = await self.discord.guild("The Globe")
            self.place = await self.discord.channel(guild, "yard")
        started = time.perf_counter()
        asked = await self.discord.slash(
            "bard", by=self.person, at=self.place, prompt="ROMEO:", **options
        )
        await asked.acknowledged()
        acknowledged = time.perf_counter() - started
        await asked.until(lambda: any(message.embeds for message in asked.messages()), "a reply")
        return Asked(acknowledged, time.perf_counter() - started)

    async def reply(self) -> float:
        """Let the member ask; return the seconds until the reply is shown."""
        return (await self.ask(max_chars=60)).replied

    async def idle(self) -> Figures:
        """Return what the bot uses while nothing happens."""
        await asyncio.sleep(SETTLE_SECONDS)
        before = processor_seconds(self.pid)
        await asyncio.sleep(IDLE_SECONDS)
        used = processor_seconds(self.pid) - before
        return {
            "idle_megabytes": megabytes(self.pid, "VmRSS"),
            "idle_load_percent": 100 * used / IDLE_SECONDS,
        }

    async def growth(self, replies: int) -> Figures:
        """Return how the memory grows over a number of replies."""
        for _ in range(min(WARM_REPLIES, replies // 2)):
            await self.reply()
        before = megabytes(self.pid, "VmRSS")
        for _ in range(replies - min(WARM_REPLIES, replies // 2)):
            await self.reply()
        after = megabytes(self.pid, "VmRSS")
        return {
            "replies": float(replies),
            "after_replies_megabytes": after,
            "growth_percent": 100 * (after - before) / before,
            "peak_megabytes": megabytes(self.pid, "VmHWM"),
        }


def compile_decoder(tree: Path) -> None:
    """Fill the cache of machine code; the first process would otherwise compile for 20 seconds."""
    subprocess.run(
        [sys.executable, *COMPILE],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)},
        check=True,
        stdout=subprocess.DEVNULL,
    )


async def measure(tree: Path, replies: int) -> Figures:
    """Return the figures of the bot with the sources in a folder."""
    sources = {"PYTHONPATH": str(tree)}
    with tempfile.TemporaryDirectory() as folder:
        async with Discord().running() as discord:
            bot = BotProcess(discord, Path(folder), weights_path(), **sources)
            town = Town(discord, bot)
            try:
                starts, firsts = [], []
                for _ in range(STARTS):
                    if bot.running:
                        await bot.stop()
                    starts.append(await town.start())
                    firsts.append(await town.reply())
                await bot.stop()
                await town.start()  # idle before any reply
                figures = {name: min(start[name] for start in starts) for name in starts[0]}
                figures["first_reply_seconds"] = min(firsts)
                figures |= await town.idle()
                figures |= await town.growth(replies)
                await bot.stop()
            finally:
                await bot.close()
    return figures


@contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """Check a commit out into a temporary folder."""

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True)  # noqa: S607 - the one that is installed

    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--detach", str(tree), revision)
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def main() -> int:
    """Measure both trees, print the figures, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replies", type=int, default=10_000)
    parser.add_argument("--before", metavar="COMMIT", default=BEFORE, help="`none` for no other")
    options = parser.parse_args()
    results: dict[str, Figures] = {}
    if options.before != "none":
        with worktree(options.before) as tree:
            compile_decoder(tree)
            results[f"before ({options.before})"] = asyncio.run(measure(tree, options.replies))
    compile_decoder(ROOT)
    now = results["now"] = asyncio.run(measure(ROOT, options.replies))
    print(f"{'':26}{'goal':>8}" + "".join(f"{name:>20}" for name in results))
    for name in now:
        goal = f"{GOALS[name]:g}" if name in GOALS else ""
        values = "".join(f"{figures[name]:>20.2f}" for figures in results.values())
        print(f"{name:26}{goal:>8}{values}")
    missed = [name for name, goal in GOALS.items() if now[name] > goal]
    print(json.dumps({"goals": GOALS, "missed": missed, **results}))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
