"""Fixtures: the double, and the bot as a process that the tests of a session share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.bot.process import GATED, created
from tests.wire.people import Exchange
from tests.wire.process import BotProcess
from tests.wire.server import Discord
from tests.wire.state import MODERATOR, Guild, Message, Person, Place
from tests.wire.town import speeches

GATED_PROMPT = "GATEKEEPER:"
"""The reply to this prompt waits for `Scene.open_gate`, or for a stop."""
FIRST = f"""
import bot.ui.interactions, bot.ui.run_message, bot.ui.training_messages
from tests.bot.process import plan_steps
plan_steps(4)
bot.ui.interactions.PAUSES = (0.1, 0.2, 0.4)
bot.ui.run_message.ANSWER_SECONDS = 3.0
bot.ui.training_messages.FIRST_PAUSE_SECONDS = 0.5
{GATED.format(gated=f"prompt.rstrip().endswith({GATED_PROMPT!r})", cancellable=True)}
"""
"""Shorter runs, waits and pauses than the bot has by itself, and the gate."""


@dataclass
class Scene:
    """A server with two members, for one test of a running bot."""

    discord: Discord
    bot: BotProcess
    guild: Guild
    garden: Place
    ann: Person
    """Moderates the server."""
    ben: Person

    async def ask(
        self, prompt: str, *, by: Person | None = None, at: Place | None = None
    ) -> Exchange:
        """Let somebody, Ben if not given, ask for a reply, in the garden if not given.

        It is long enough that no two are the same by chance.
        """
        return await self.discord.slash(
            "bard", by=by or self.ben, at=at or self.garden, prompt=prompt, max_chars=60
        )

    async def ask_at_the_gate(self, **where: Any) -> Exchange:
        """Let somebody ask for a reply that waits for `open_gate`, until it is generated."""
        for name in ("generating", "gate"):
            (self.bot.folder / name).unlink(missing_ok=True)
        asked = await self.ask(GATED_PROMPT, **where)
        await created(self.bot.folder / "generating")
        return asked

    def open_gate(self) -> None:
        """Let the reply that waits be generated."""
        (self.bot.folder / "gate").touch()

    async def press(self, message: Message, label: str, *, by: Person | None = None) -> Exchange:
        """Let somebody, Ben if not given, press a button."""
        return await self.discord.press(message, label, by=by or self.ben)

    def seen(self, at: Place | None = None, *, by: Person | None = None) -> list[Message]:
        """Return what somebody sees, Ann in the garden if not given."""
        return self.discord.seen(at or self.garden, by or self.ann)

    async def first_response_was_answered(self, asked: Exchange) -> None:
        """Wait until Discord has taken or refused the first response to an interaction."""

        def answered() -> bool:
            sent = self.discord.sent("POST callback", asked.token)
            return any(request.status is not None for request in sent)

        await self.discord.until(answered, "an answer to the first response")

    async def read(self, at: Place | None = None, *, by: Person | None = None) -> list[str]:
        """Return the speeches of the scene as `/scene show` has them; none if there is no scene."""
        asked = await self.discord.slash("scene show", by=by or self.ben, at=at or self.garden)
        message = await asked.private()
        return speeches(message)


async def speech(asked: Exchange) -> Message:
    """Wait for a reply of the bard.

    Raises:
        AssertionError: There is a refusal or an apology instead.
    """

    def answered() -> Message | None:
        messages = asked.messages()
        spoken = [message for message in messages if message.embeds]
        # While a request waits, it can be stopped; what cannot be is a refusal.
        refused = [message for message in messages if "Stop" not in message.labels]
        return next(iter(spoken or refused), None)

    message = await asked.until(answered, "a reply")
    assert message.embeds, f"a refusal: {message.text}"
    return message


@asynccontextmanager
async def new_scene(discord: Discord, bot: BotProcess) -> AsyncIterator[Scene]:
    """Make a server for a test; at its end no rule was broken, and every fault has happened."""
    if not bot.running:  # the test before has ended it
        await bot.start()
    guild = await discord.guild("The Globe")
    garden = await discord.channel(guild, "garden")
    ann, ben = discord.person("Ann"), discord.person("Ben")
    guild.permissions[ann.id] = MODERATOR
    try:
        yield Scene(discord, bot, guild, garden, ann, ben)
        assert not discord.violations
        assert not discord.faults.pending()
    finally:
        (bot.folder / "gate").touch()
        discord.violations.clear()
        discord.faults.clear()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_bot(
    weights: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Discord, BotProcess]]:
    """The bot that the tests of a session share, against a double of its own."""
    async with Discord().running() as discord:
        bot = BotProcess(
            discord,
            tmp_path_factory.mktemp("bot"),
            weights,
            first=FIRST,
            BARD_CORPUS=str(corpus),
        )
        try:
            await bot.start()
            assert not discord.violations
            yield discord, bot
        finally:
            await bot.close()


@pytest_asyncio.fixture(loop_scope="session")
async def scene(shared_bot: tuple[Discord, BotProcess]) -> AsyncIterator[Scene]:
    """A new server of the shared bot."""
    async with new_scene(*shared_bot) as scene:
        yield scene
