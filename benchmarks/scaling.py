"""Measure what a server, a message and a reply cost a process of the bot.

Run `python -m benchmarks.scaling`, about three minutes; Linux only. The real process runs against
the double of Discord in `tests/wire/`. Costs are the process's own seconds of CPU, so that other
work on the machine changes little. The last line is JSON; docs/scaling.md is computed from it.

- Replies: people ask one after another, in a channel each, at the default length.
- Messages: members write in servers, of which Discord tells the bot without the text.
- Servers: the bot joins thousands, with the channels and roles of a common one.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from noskgpt.resources import weights_path
from tests.wire.gateway import Intent
from tests.wire.people import Exchange
from tests.wire.process import BotProcess
from tests.wire.server import ROUTES, Discord
from tests.wire.state import Guild, Json, Kind, Place

CHANNELS, ROLES = 30, 20
"""Of each server that fills the cache."""
ASKING = 4
"""People who ask at the same time, so that the worker always has something to do."""
_TICKS = os.sysconf("SC_CLK_TCK")


class BusyDiscord(Discord):
    """A double whose servers have as many channels and roles as common ones."""

    def _guild(self, guild: Guild) -> Json:
        payload = super()._guild(guild)
        first = int(guild.id) * 100
        everyone = payload["roles"][0]
        payload["roles"] += [
            {**everyone, "id": f"{first + number}", "name": f"Role {number}"}
            for number in range(ROLES)
        ]
        payload["channels"] += [
            Place(f"{first + ROLES + number}", Kind.TEXT, f"channel-{number}", guild).channel()
            | {"topic": f"About the subject of channel {number}"}
            for number in range(CHANNELS)
        ]
        return payload


class Meter:
    """Reads the memory and the CPU time of a process."""

    def __init__(self, bot: BotProcess) -> None:
        assert bot.pid is not None
        self._folder = Path(f"/proc/{bot.pid}")

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used."""
        return _cpu(self._folder)

    def event_loop(self) -> float:
        """Return those of its first thread, which runs the event loop."""
        return _cpu(self._folder / "task" / self._folder.name)

    def resident(self) -> int:
        """Return its resident memory in KiB."""
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError("no VmRSS")


def _cpu(folder: Path) -> float:
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Discord, BotProcess, Place]]:
    """Run the bot in one server, with the channel that is returned."""
    async with BusyDiscord().running() as discord:
        place = await discord.channel(await discord.guild("The Globe"), "garden")
        with tempfile.TemporaryDirectory() as folder:
            bot = BotProcess(discord, Path(folder), weights_path(), BARD_QUEUE="100")
            try:
                await bot.start()
                await bot.logged("Ready as")
                await answered(discord, place)
                yield discord, bot, place
            finally:
                await bot.close()


async def answered(discord: Discord, place: Place) -> None:
    """Wait until the bot has read every event so far."""
    await (await discord.slash("bard-about", at=place)).says("")


async def server_costs(
    discord: Discord, bot: BotProcess, place: Place, count: int
) -> dict[str, float]:
    """Let the bot join servers; return what one of them costs, and the memory before."""
    meter = Meter(bot)
    empty = meter.resident()

    async def join(number: int) -> tuple[float, int]:
        for _ in range(number):
            await discord.guild("A common server")
        await answered(discord, place)
        return meter.cpu(), meter.resident()

    # The first half fills memory that the start of the process has left free.
    cpu, resident = await join(count // 2)
    last_cpu, last_resident = await join(count - count // 2)
    joined = count - count // 2
    return {
        "resident_mib": empty / 1024,
        "resident_mib_with_servers": last_resident / 1024,
        "servers": count,
        "kib_per_server": (last_resident - resident) / joined,
        "cpu_milliseconds_per_server": (last_cpu - cpu) / joined * 1000,
    }


async def message_seconds(discord: Discord, bot: BotProcess, place: Place, count: int) -> float:
    """Return the CPU seconds that a message of a member costs."""
    assert place.guild is not None
    member = discord.person("Member")
    message = discord.post(member, place, "")
    data = message.json(discord.base) | {
        "guild_id": place.guild.id,
        "member": place.guild.member(member),
    }
    meter = Meter(bot)
    begin = meter.cpu()
    for _ in range(count):
        await discord.gateway.send("MESSAGE_CREATE", data, Intent.GUILD_MESSAGES)
    await answered(discord, place)
    return (meter.cpu() - begin) / count


async def reply_costs(discord: Discord, bot: BotProcess, seconds: float) -> dict[str, float]:
    """Return the CPU seconds of a reply, and the replies in a second."""
    guild = await discord.guild("The Swan")
    end = time.perf_counter() + seconds
    lengths: list[int] = []

    async def ask(number: int) -> None:
        person = discord.person(f"Asker {number}")
        place = await discord.channel(guild, f"yard-{number}")
        while time.perf_counter() < end:
            asked = await discord.slash("bard", by=person, at=place, prompt="ROMEO: And then?")
            lengths.append(len(await speech(asked)))

    meter, sent = Meter(bot), len(discord.requests)
    cpu, loop, begin = meter.cpu(), meter.event_loop(), time.perf_counter()
    await asyncio.gather(*(ask(number) for number in range(ASKING)))
    counted = sum(not ROUTES[request.route].public for request in discord.requests[sent:])
    return {
        "replies": len(lengths),
        "characters_per_reply": sum(lengths) / len(lengths),
        "cpu_seconds_per_reply": (meter.cpu() - cpu) / len(lengths),
        "event_loop_seconds_per_reply": (meter.event_loop() - loop) / len(lengths),
        "requests_in_global_limit": counted / len(lengths),
        "replies_per_second_here": len(lengths) / (time.perf_counter() - begin),
    }


async def speech(asked: Exchange) -> str:
    """Wait for a reply; return its text."""

    def shown() -> str | None:
        embeds = [embed for message in asked.messages() for embed in message.embeds]
        return next((str(embed["description"]) for embed in embeds), None)

    return await asked.until(shown, "a reply")


async def measure(servers: int, messages: int, seconds: float) -> dict[str, float]:
    """Return all figures."""
    async with running() as (discord, bot, place):
        replies = await reply_costs(discord, bot, seconds)
        message = await message_seconds(discord, bot, place, messages)
        filled = await server_costs(discord, bot, place, servers)
    return {
        **replies,
        "replies_per_core_and_second": 1 / replies["cpu_seconds_per_reply"],
        "cpu_microseconds_per_message": message * 1e6,
        "messages_per_core_and_second": 1 / message,
        **filled,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=2500, help="servers in the cache")
    parser.add_argument("--messages", type=int, default=20_000, help="messages of members")
    parser.add_argument("--seconds", type=float, default=45.0, help="time for replies")
    options = parser.parse_args()
    figures = asyncio.run(measure(options.servers, options.messages, options.seconds))
    for name, figure in figures.items():
        print(f"{name:32} {figure:12,.3f}")
    load = os.getloadavg()[0]
    print(json.dumps({name: round(figure, 4) for name, figure in figures.items()} | {"load": load}))


if __name__ == "__main__":
    main()
