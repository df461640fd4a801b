"""The bot is killed between two steps: after a restart its scenes are what was shown."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from bot.ui.queue_status import OVER
from tests.wire.conftest import Scene, new_scene, speech
from tests.wire.faults import When
from tests.wire.process import BotProcess
from tests.wire.server import Discord
from tests.wire.state import MANAGER, Json, Message, Person, Place
from tests.wire.town import speeches

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
        waiting: Here a request waited, and its status said so.
        deleted: Here a message was deleted, and the answer did not arrive.
        undeleted: Here the words of a message were deleted, and the message was not.
        reply: The reply that arrived.
        placeholder: The message that only said that the bot is thinking.
        status: The message with the status.
        take: The message with the other take.
        left_over: The message whose words were deleted.
    """

    scene: Scene
    unanswered: Talk
    answered: Talk
    rerolled: Talk
    deleted: Talk
    undeleted: Talk
    waiting: Talk
    reply: Message
    take: Message
    left_over: Message
    placeholder: Message
    status: Message

    async def read(self, talk: Talk) -> list[str]:
        """Return the speeches of the scene of a conversation."""
        return await self.scene.read(talk.at, by=talk.person)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def aftermath(shared_bot: tuple[Discord, BotProcess]) -> AsyncIterator[Aftermath]:
    """Interrupt conversations, kill the bot, and start it again."""
    discord, bot = shared_bot
    async with new_scene(discord, bot) as scene:
        people = [
            discord.person(name, installed=True)
            for name in ("Cai", "Dot", "Eve", "Fay", "Gil", "Hal")
        ]
        # Between people, where the bot is not told that a message was deleted.
        talks = [Talk(person, discord.between(person, scene.ann)) for person in people]
        unanswered, answered, rerolled, deleted, undeleted, waiting = talks
        take, gone, left_over = [
            await speech(await scene.ask("ROMEO:", by=talk.person, at=talk.at))
            for talk in (rerolled, deleted, undeleted)
        ]

        fault = discord.faults.holds("PATCH @original", When.BEFORE)
        lost = await scene.ask("ROMEO:", by=unanswered.person, at=unanswered.at)
        await discord.struck(fault)
        placeholder = lost.interaction.response
        assert placeholder is not None
        assert placeholder.loading
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
        fault = discord.faults.holds("DELETE @original", When.BEFORE)
        await scene.press(left_over, "Delete", by=undeleted.person)
        await discord.struck(fault)

        asked = await scene.ask_at_the_gate(by=waiting.person, at=waiting.at)
        status = await asked.until(
            lambda: next((m for m in asked.messages() if "Stop" in m.labels), None), "a status"
        )

        discord.team = team_of(scene)
        await bot.kill()
        discord.faults.clear()
        await bot.start()
        discord.team = None  # what the bot has learnt at its start
        yield Aftermath(
            scene,
            unanswered,
            answered,
            rerolled,
            deleted,
            undeleted,
            waiting,
            reply,
            take,
            left_over,
            placeholder,
            status,
        )


def team_of(scene: Scene) -> Json:
    """Return a team of the owner, with Ann as an admin and Ben as somebody who was invited."""
    invited, accepted = 1, 2
    members = [
        (scene.discord.owner, accepted, ""),
        (scene.ann, accepted, "admin"),
        (scene.ben, invited, "admin"),
    ]
    return {
        "id": "100",
        "name": "The Globe",
        "icon": None,
        "owner_user_id": scene.discord.owner.id,
        "members": [
            {"membership_state": state, "role": role, "user": person.user()}
            for person, state, role in members
        ],
    }


async def test_placeholder_of_an_unshown_reply_explains_itself_at_the_start(
    aftermath: Aftermath,
) -> None:
    message = aftermath.placeholder
    await aftermath.scene.discord.until(lambda: message.text == OVER, "an explanation")
    assert message.labels == []


async def test_status_of_a_lost_request_explains_itself_when_it_is_pressed(
    aftermath: Aftermath,
) -> None:
    status = aftermath.status
    pressed = await aftermath.scene.press(status, "Stop", by=aftermath.scene.ann)
    await pressed.says(OVER)
    assert status.labels == []


async def test_members_of_a_team_own_the_bot_and_those_who_were_invited_do_not(
    aftermath: Aftermath,
) -> None:
    scene = aftermath.scene
    for owner in (scene.discord.owner, scene.ann):
        asked = await scene.discord.slash("train status", by=owner, at=scene.garden)
        assert "only for the owner" not in (await asked.private()).text
    refused = await scene.discord.slash("train status", by=scene.ben, at=scene.garden)
    await refused.private("only for the owner")


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


async def test_message_whose_words_were_deleted_is_deleted_by_the_next_press(
    aftermath: Aftermath,
) -> None:
    scene, talk, message = aftermath.scene, aftermath.undeleted, aftermath.left_over
    assert await aftermath.read(talk) == []
    # There is no moderator in a conversation of two, and Ann did not ask.
    await (await scene.press(message, "Delete", by=scene.ann)).private("has left my memory")
    await scene.press(message, "Delete", by=talk.person)
    await scene.discord.until(lambda: message.deleted, "the message is deleted")


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
