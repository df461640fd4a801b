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
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import discord as library
import torch

from benchmarks import growth
from bot.core.transcript import shows_same
from bot.ui.embeds import reply_text
from noskgpt import lexicon
from noskgpt.checkpoint import Checkpoint, save
from noskgpt.model import GPT, ModelConfig
from noskgpt.tokenizer import VOCABULARY
from tests.wire.process import BotProcess
from tests.wire.server import Discord
from tests.wire.state import MODERATOR, Guild, Message, Person, Place

if TYPE_CHECKING:
    from collections.abc import Callable

ACKNOWLEDGE_SECONDS = 3.0
PEOPLE, CHANNELS, LOAD = 6, 3, 50
ROUTES = ("POST callback", "PATCH @original", "DELETE @original", "POST followup")
QUIET_SECONDS = 6.0
"""Time without a request after which the bot has given up its attempts, or has succeeded."""


@dataclass
class Report:
    """What happened, and what should not have."""

    kills: int = 0
    faults: int = 0
    answered: int = 0
    checked: int = 0
    broken: list[str] = field(default_factory=list)


class Town:
    """A server whose members use one bot, and the checks of what it has stored."""

    def __init__(self, discord: Discord, bot: BotProcess, seed: int, report: Report) -> None:
        self.discord = discord
        self.bot = bot
        self.random = random.Random(seed)  # noqa: S311 - the same in each run
        self.report = report
        self.people: list[Person] = []
        self.places: list[Place] = []

    async def build(self) -> None:
        """Make the server, its channels and its members."""
        guild: Guild = await self.discord.guild("The Globe")
        self.places = [await self.discord.channel(guild, f"yard-{n}") for n in range(CHANNELS)]
        self.people = [self.discord.person(f"Member {n}") for n in range(LOAD)]
        guild.permissions[self.people[0].id] = MODERATOR

    async def act(self) -> None:
        """Let one member do something, and wait until the bot has answered."""
        person = self.random.choice(self.people[:PEOPLE])
        place = self.random.choice(self.places)
        replies = [message for message in self.replies(place) if not message.loading]
        if not replies or self.random.random() < 0.5:
            prompt = self.random.choice(("ROMEO:", "What is love?", "FIRST LORD:"))
            options: dict[str, Any] = {"prompt": prompt, "max_chars": 60}
            asked = await self.discord.slash("bard", by=person, at=place, **options)
        else:
            message = self.random.choice(replies)
            label = self.random.choice([label for label in message.labels if label != "Stop"])
            asked = await self.discord.press(message, label, by=person)
        await asked.acknowledged()
        self.report.answered += 1

    def replies(self, place: Place) -> list[Message]:
        """Return the messages of a place that show a reply."""
        seen = self.discord.seen(place, self.people[0])
        return [message for message in seen if message.embeds and "Continue" in message.labels]

    async def play(self, actions: int) -> None:
        """Let members act, some of them at once; what breaks is not their affair."""
        running = [asyncio.create_task(self._repeat(actions // 3)) for _ in range(3)]
        await asyncio.wait(running)
        for task in running:
            task.exception()

    async def _repeat(self, actions: int) -> None:
        for _ in range(actions):
            try:
                await self.act()
            except (AssertionError, LookupError, OSError):
                # The process was killed, or the button has gone meanwhile.
                await asyncio.sleep(0)

    async def check(self) -> None:
        """Compare what members see with what is stored, place by place."""
        for place in self.places:
            # A request settles what was left open in its channel.
            await self._settle(place)
        stored = {
            str(message_id): reply
            for message_id, reply in self.bot.rows(
                "SELECT message_id, reply FROM turns JOIN takes ON turn_id = id AND number = take"
            )
        }
        shown = {m.id: m for place in self.places for m in self.replies(place)}
        for message_id, message in shown.items():
            text = reply_text([library.Embed.from_dict(embed) for embed in message.embeds])
            if message_id not in stored:
                self.report.broken.append(f"a reply that is shown is not stored: {text[:60]!r}")
            elif not shows_same(text, stored[message_id]):
                self.report.broken.append(f"another take is stored than shown: {text[:60]!r}")
        for message_id in stored.keys() - shown.keys():
            self.report.broken.append(f"a reply is stored that is not shown: {message_id}")
        self.report.checked += len(shown)
        self.report.broken += self.discord.violations
        self.discord.violations.clear()

    async def _settle(self, place: Place) -> None:
        asked = await self.discord.slash(
            "bard", by=self.people[0], at=place, prompt="HAMLET:", max_chars=20
        )
        await asked.until(lambda: next((m for m in asked.messages() if m.embeds), None), "a reply")
        # The scene is read after that reply was recorded.
        shown = await self.discord.slash("scene show", by=self.people[0], at=place)
        await shown.private()


async def kills(town: Town, until: float) -> None:
    """Kill the process at random moments until a time."""
    while time.monotonic() < until:
        playing = asyncio.create_task(town.play(town.random.randrange(6, 30)))
        await wait_for_requests(town, town.random.randrange(1, 40), playing)
        await town.bot.kill()
        playing.cancel()
        await asyncio.wait({playing})
        await town.bot.start()
        town.report.kills += 1
        await town.check()


async def faults(town: Town, until: float) -> None:
    """Let random requests of the bot go wrong until a time."""
    kinds: list[Callable[..., object]] = [
        town.discord.faults.fails,
        town.discord.faults.loses,
        town.discord.faults.drops,
        town.discord.faults.limits,
    ]
    while time.monotonic() < until:
        for _ in range(town.random.randrange(1, 4)):
            town.random.choice(kinds)(town.random.choice(ROUTES))
            town.report.faults += 1
        await town.play(9)
        await settle(town)
        town.discord.faults.clear()
        await town.check()


async def settle(town: Town) -> None:
    """Wait until the bot sends no more requests."""
    while True:
        count = len(town.discord.requests)
        await asyncio.sleep(QUIET_SECONDS)
        if len(town.discord.requests) == count:
            return


async def wait_for_requests(town: Town, count: int, playing: asyncio.Task[None]) -> None:
    """Wait until the bot has sent a number of requests, or everything has been answered."""
    last = len(town.discord.requests) + count
    playing.add_done_callback(lambda _: town.discord.changes.notify())
    await town.discord.until(
        lambda: len(town.discord.requests) >= last or playing.done() or None, "requests"
    )


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
            await asked.until(asked.messages, "an answer")

    await asyncio.gather(*(ask(person) for person in town.people))
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
        Checkpoint(config=config, vocabulary=VOCABULARY, weights=model.state_dict(), lexicon=words),
        path,
    )
    return path


async def soak(minutes: float, seed: int, turns: int) -> tuple[dict[str, Any], bool]:
    """Run every part; return the report, and whether every promise was kept."""
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with Discord().running() as discord:
            bot = BotProcess(discord, folder, small_weights(folder / "small.pth"))
            town = Town(discord, bot, seed, report)
            try:
                await bot.start()
                await town.build()
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
