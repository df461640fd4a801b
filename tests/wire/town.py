"""Let members of a server do anything, while the bot is killed and requests fail, and check.

`benchmarks/soak.py` does so for half an hour, `test_town.py` for some seconds.
"""

import asyncio
import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import discord as library

from bot.core.transcript import shows_same
from bot.ui.embeds import reply_text
from tests.wire.process import BotProcess
from tests.wire.server import Discord
from tests.wire.state import MODERATOR, Message, Person, Place

if TYPE_CHECKING:
    from collections.abc import Callable

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


@dataclass(frozen=True)
class Stored:
    """A reply in the database."""

    reply: str
    audience: int
    number: int
    takes: int


class Town:
    """Places whose people use one bot, and the checks of what it has stored.

    Args:
        discord: The double.
        bot: The bot.
        seed: Decides what people do and when something breaks.
        people: The number of people.
        active: The number of those who act.
        quiet_seconds: See `QUIET_SECONDS`.
    """

    def __init__(
        self,
        discord: Discord,
        bot: BotProcess,
        seed: int,
        *,
        people: int,
        active: int,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        self.discord = discord
        self.bot = bot
        self.random = random.Random(seed)  # noqa: S311 - the same in each run
        self.report = Report()
        self.people: list[Person] = [
            discord.person(f"Member {number}", installed=True) for number in range(people)
        ]
        self.places: list[Place] = []
        self._active = self.people[:active]
        # Ids of the messages of which somebody has pressed Delete.
        self._deleting: set[str] = set()
        self._quiet_seconds = quiet_seconds

    async def build(self, channels: int) -> None:
        """Make a server with channels, and one where the bot may answer only in private."""
        guild = await self.discord.guild("The Globe")
        foreign = await self.discord.guild("Elsewhere", installed=False, public=False)
        self.places = [
            *[await self.discord.channel(guild, f"yard-{n}") for n in range(channels)],
            await self.discord.channel(foreign, "attic"),
        ]
        guild.permissions[self.people[0].id] = MODERATOR

    async def act(self) -> None:
        """Let one member do something, and wait until the bot has acknowledged it."""
        person = self.random.choice(self._active)
        place = self.random.choice(self.places)
        replies = [message for message in self.replies(place) if message.seen_by(person)]
        if not replies or self.random.random() < 0.5:
            prompt = self.random.choice(("ROMEO:", "What is love?", "FIRST LORD:"))
            options: dict[str, Any] = {"prompt": prompt, "max_chars": 60}
            asked = await self.discord.slash("bard", by=person, at=place, **options)
        else:
            message = self.random.choice(replies)
            label = self.random.choice([label for label in message.labels if label != "Stop"])
            if label == "Delete":
                self._deleting.add(message.id)
            asked = await self.discord.press(message, label, by=person)
        await asked.acknowledged()
        if asked.interaction.opened is not None:
            prompt = self.random.choice(("TYBALT:", "What is in a name?"))
            sent = await self.discord.submit(asked, {"Prompt": prompt})
            await sent.acknowledged()
        self.report.answered += 1

    def replies(self, place: Place) -> list[Message]:
        """Return the messages of a place that show a reply, the private ones included."""
        messages = self.discord.world.messages_in(place)
        return [m for m in messages if m.embeds and "Continue" in m.labels and not m.loading]

    async def play(self, actions: int) -> None:
        """Let members act, some of them at once; what breaks is not their affair."""
        running = [asyncio.create_task(self._repeat(actions // 3)) for _ in range(3)]
        try:
            await asyncio.wait(running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _repeat(self, actions: int) -> None:
        for _ in range(actions):
            try:
                await self.act()
            except (AssertionError, LookupError, OSError):
                # The process was killed, or the button has gone meanwhile.
                await asyncio.sleep(0)

    async def kill_the_bot(self) -> None:
        """Kill the bot at a random request while members act, start it again, and check."""
        playing = asyncio.create_task(self.play(self.random.randrange(6, 30)))
        await self._wait_for_requests(self.random.randrange(1, 40), playing)
        await self.bot.kill()
        playing.cancel()
        await asyncio.wait({playing})
        await self.bot.start()
        self.report.kills += 1
        await self.check()

    async def let_requests_fail(self) -> None:
        """Let some random requests of the bot go wrong while members act, then check."""
        faults = self.discord.faults
        kinds: list[Callable[..., object]]
        kinds = [faults.fails, faults.loses, faults.drops, faults.limits]
        for _ in range(self.random.randrange(1, 4)):
            self.random.choice(kinds)(self.random.choice(ROUTES))
            self.report.faults += 1
        await self.play(9)
        await self._be_quiet()
        faults.clear()
        await self.check()

    async def _wait_for_requests(self, count: int, playing: asyncio.Task[None]) -> None:
        """Wait until the bot has sent a number of requests, or everything has been answered."""
        last = len(self.discord.requests) + count
        playing.add_done_callback(lambda _: self.discord.changes.notify())
        await self.discord.until(
            lambda: len(self.discord.requests) >= last or playing.done() or None, "requests"
        )

    async def _be_quiet(self) -> None:
        """Wait until the bot sends no more requests."""
        while True:
            count = len(self.discord.requests)
            await asyncio.sleep(self._quiet_seconds)
            if len(self.discord.requests) == count:
                return

    async def check(self) -> None:
        """Compare what members see with what is stored, place by place."""
        broken = self.report.broken
        for place in self.places:
            # A request settles what was left open in its channel.
            page = await self._settle(place)
            seen = {speech for message in self.replies(place) for speech in speeches(message)}
            broken += [f"a speech that nobody sees: {text!r}" for text in page if text not in seen]
        await self._delete_again()
        stored = self._stored()
        shown = {message.id: message for place in self.places for message in self.replies(place)}
        for message_id, message in shown.items():
            broken += _differences(message, stored.get(message_id, []))
        for message_id in stored.keys() - shown.keys():
            broken.append(f"a reply is stored that is not shown: {message_id}")
        self.report.checked += len(shown)
        broken += self.discord.violations
        self.discord.violations.clear()

    async def _settle(self, place: Place) -> list[str]:
        """Ask for a reply; return the speeches of the scene's last page."""
        asked = await self.discord.slash(
            "bard", by=self.people[0], at=place, prompt="HAMLET:", max_chars=20
        )
        await asked.until(lambda: next((m for m in asked.messages() if m.embeds), None), "a reply")
        # The scene is read after that reply was recorded.
        shown = await self.discord.slash("scene show", by=self.people[0], at=place)
        return speeches(await shown.private())

    async def _delete_again(self) -> None:
        """Press Delete again where it was cut short between the words and their message."""
        stored = self._stored()
        for place in self.places:
            for message in self.replies(place):
                if message.id in self._deleting and message.id not in stored:
                    await self._press_delete(message)
        self._deleting.clear()

    async def _press_delete(self, message: Message) -> None:
        """Let the person whose message it is, or a moderator, delete a reply; it has to go."""
        person = message.only_for or self.people[0]
        asked = await self.discord.press(message, "Delete", by=person)
        try:
            await asked.until(lambda: message.deleted or None, "a deletion")
        except AssertionError:
            self.report.broken.append(f"a reply cannot be deleted: {message.text[:60]!r}")

    def _stored(self) -> dict[str, list[Stored]]:
        """Return the replies that the database has as shown, by the message that shows them."""
        channels = ", ".join(place.id for place in self.places)
        stored: dict[str, list[Stored]] = {}
        for message_id, *values in self.bot.rows(
            "SELECT message_id, reply, audience, take,"  # noqa: S608 - ids of the double
            " (SELECT count(*) FROM takes AS others WHERE others.turn_id = id)"
            f" FROM turns JOIN takes ON turn_id = id AND number = take"
            f" WHERE channel_id IN ({channels})"
        ):
            stored.setdefault(str(message_id), []).append(Stored(*values))
        return stored


def speeches(message: Message) -> list[str]:
    """Return the replies that a message shows."""
    return [embed["description"] for embed in message.embeds]


def _differences(message: Message, stored: list[Stored]) -> list[str]:
    """Return the differences between a message and the rows of its reply."""
    text = reply_text([library.Embed.from_dict(embed) for embed in message.embeds])
    if len(stored) != 1:
        return [f"a reply that is shown has {len(stored)} rows: {text[:60]!r}"]
    (row,) = stored
    differences = []
    if not shows_same(text, row.reply):
        differences.append(f"another take is stored than shown: {text[:60]!r}")
    if row.audience != int(message.only_for.id if message.only_for else 0):
        differences.append(f"a scene is read by others than see its reply: {text[:60]!r}")
    if take := re.search(r"Take (\d+) of (\d+)", message.text):
        number, takes = int(take[1]), int(take[2])
        if row.number != number or row.takes < takes:
            differences.append(f"{take[0]} is stored as {row.number} of {row.takes}")
    return differences
