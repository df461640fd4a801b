"""The bot is killed between two steps: after a restart its scenes are what was shown."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.wire.conftest import Scene, new_scene, speech, speeches
from tests.wire.faults import When
from tests.wire.process import BotProcess
from tests.wire.server import Discord
from tests.wire.state import MANAGER, Message, Person, Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class Talk:
    """A conversation of one person with the bot."""

    person: Person
    at: Place


@dataclass
class Aftermath:
    """Conversations of which each was interrupted somewhere else, after the restart.

    Attributes:
        scene: The restarted bot.
        unanswered: Here a request was acknowledged, and its reply did not arrive.
        answered: Here a reply arrived, and the answer to that did not.
        rerolled: Here another take arrived, and the answer did not.
        deleted: Here a message was deleted, and the answer did not arrive.
        reply: The reply that arrived.
        take: The message with the other take.
    """

    scene: Scene
    unanswered: Talk
    answered: Talk
    rerolled: Talk
    deleted: Talk
    reply: Message
    take: Message

    async def read(self, talk: Talk) -> list[str]:
        """Return the speeches of the scene of a conversation."""
        return await self.scene.read(talk.at, by=talk.person)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def aftermath(shared_bot: tuple[Discord, BotProcess]) -> AsyncIterator[Aftermath]:
    """Interrupt conversations, kill the bot, and start it again."""
    discord, bot = shared_bot
    async with new_scene(discord, bot) as scene:
        people = [discord.person(name, installed=True) for name in ("Cai", "Dot", "Eve", "Fay")]
        # Between people, where the bot is not told that a message was deleted.
        talks = [Talk(person, discord.between(person, scene.ann)) for person in people]
        unanswered, answered, rerolled, deleted = talks
        take, gone = [
            await speech(await scene.ask("ROMEO:", by=talk.person, at=talk.at))
            for talk in (rerolled, deleted)
        ]

        fault = discord.faults.holds("PATCH @original", When.BEFORE)
        await scene.ask("ROMEO:", by=unanswered.person, at=unanswered.at)
        await discord.struck(fault)
        fault = discord.faults.holds("PATCH @original")
        asked = await scene.ask("ROMEO:", by=answered.person, at=answered.at)
        await discord.struck(fault)
        reply = await speech(asked)
        fault = discord.faults.holds("PATCH @original")
        await scene.press(take, "Reroll", by=rerolled.person)
        await discord.struck(fault)
        fault = discord.faults.holds("DELETE @original")
        await scene.press(gone, "Delete", by=deleted.person)
        await discord.struck(fault)

        await bot.kill()
        discord.faults.clear()
        await bot.start()
        yield Aftermath(scene, unanswered, answered, rerolled, deleted, reply, take)


async def test_commands_are_not_registered_again(aftermath: Aftermath) -> None:
    assert len(aftermath.scene.discord.sent("PUT commands")) == 1


async def test_reply_that_was_not_shown(aftermath: Aftermath) -> None:
    talk = aftermath.unanswered
    assert await aftermath.read(talk) == []
    reply = await speech(await aftermath.scene.ask("JULIET:", by=talk.person, at=talk.at))
    assert await aftermath.read(talk) == speeches(reply)


async def test_reply_that_was_shown(aftermath: Aftermath) -> None:
    talk, reply = aftermath.answered, aftermath.reply
    pressed = await aftermath.scene.press(reply, "Continue", by=talk.person)
    again = await speech(pressed)
    assert await aftermath.read(talk) == speeches(reply) + speeches(again)
    assert aftermath.scene.seen(talk.at) == [reply, again]


async def test_take_that_was_shown(aftermath: Aftermath) -> None:
    take = aftermath.take
    assert "Take 2 of 2" in take.text
    assert await aftermath.read(aftermath.rerolled) == speeches(take)


async def test_message_that_was_deleted(aftermath: Aftermath) -> None:
    assert await aftermath.read(aftermath.deleted) == []


async def test_form_that_was_open(scene: Scene) -> None:
    scene.guild.permissions[scene.ann.id] = MANAGER
    shown = await scene.discord.slash("bard-settings", by=scene.ann, at=scene.garden)
    settings = await shown.private()
    violations = list(scene.discord.violations)
    scene.discord.violations.clear()
    assert not violations
    opened = await scene.press(settings, "Length, cooldown, temperature", by=scene.ann)
    await opened.form()
    await scene.bot.restart()
    sent = await scene.discord.submit(opened, {"Longest reply": "50"})
    assert "Longest reply: 50" in (await sent.reply()).text
