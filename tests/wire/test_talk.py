"""Messages that mention the bot, over the wire: one reply each, and scenes that members see."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.wire.conftest import GATED_PROMPT, Scene, speech
from tests.wire.faults import When
from tests.wire.state import MANAGER, MEMBER, MODERATOR, Message, Permission, Place
from tests.wire.town import speeches

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOST = pytest.mark.parametrize("status", [502, None], ids=["502", "dropped"])
"""An answer is lost to an error of the proxy, or to a dropped connection."""


@pytest_asyncio.fixture(loop_scope="session")
async def heard(scene: Scene) -> AsyncIterator[Scene]:
    """A server in which the bard answers when it is mentioned."""
    scene.guild.permissions[scene.ann.id] = MANAGER
    shown = await scene.discord.slash("bard-settings", by=scene.ann, at=scene.garden)
    form = await shown.private("Answer when mentioned: no")
    chosen = await scene.discord.choose(form, "bard:settings:mentions", ["yes"], by=scene.ann)
    assert "Answer when mentioned: yes" in (await chosen.reply()).text
    scene.guild.permissions[scene.ann.id] = MODERATOR
    yield scene


def replies_to(scene: Scene, asked: Message, at: Place | None = None) -> list[Message]:
    """Return what the bot has sent in reply to a message."""
    return [message for message in scene.seen(at) if message.answers is asked]


async def reply_to(scene: Scene, asked: Message, at: Place | None = None) -> Message:
    """Wait for the reply of the bard to a message."""
    return await scene.discord.until(
        lambda: next((m for m in replies_to(scene, asked, at) if m.embeds), None), "a reply"
    )


async def say(scene: Scene, content: str, at: Place | None = None) -> Message:
    """Let Ben post a message, in the garden if not given."""
    return await scene.discord.say(content, by=scene.ben, at=at or scene.garden)


async def test_reply_to_a_mention_and_its_buttons(heard: Scene) -> None:
    asked = await say(heard, "@Bard O gentle night")
    reply = await reply_to(heard, asked)
    assert "O gentle night" in reply.text
    assert reply.labels == ["Continue", "Reroll", "Delete"]
    again = await speech(await heard.press(reply, "Continue", by=heard.ann))
    assert await speech(await heard.press(reply, "Reroll")) is reply
    assert await heard.read() == speeches(reply) + speeches(again)
    await heard.press(reply, "Delete")
    await heard.discord.until(lambda: reply.deleted, "the message is deleted")
    assert await heard.read() == speeches(again)


async def test_direct_message(heard: Scene) -> None:
    at = heard.discord.direct(heard.ben)
    asked = await say(heard, "ROMEO:", at)
    reply = await heard.discord.until(
        lambda: next((m for m in heard.seen(at, by=heard.ben) if m.answers is asked), None),
        "a reply",
    )
    assert await heard.read(at) == speeches(reply)


async def test_message_comes_twice_or_is_edited(heard: Scene) -> None:
    asked = await say(heard, "@Bard ROMEO:")
    await heard.discord.deliver(asked)
    reply = await reply_to(heard, asked)
    await heard.discord.edit_message(asked, "@Bard JULIET:")
    last = await reply_to(heard, await say(heard, "@Bard NURSE:"))  # events come in order
    assert replies_to(heard, asked) == [reply]
    assert await heard.read() == speeches(reply) + speeches(last)


@LOST
async def test_answer_to_the_reply_is_lost(heard: Scene, status: int | None) -> None:
    heard.discord.faults.loses("POST message", status)
    asked = await say(heard, "@Bard ROMEO:")
    reply = await reply_to(heard, asked)
    again = await speech(await heard.press(reply, "Continue"))
    assert replies_to(heard, asked) == [reply]
    assert await heard.read() == speeches(reply) + speeches(again)


async def test_status_of_a_reply_that_takes_long_becomes_the_reply(heard: Scene) -> None:
    heard.discord.faults.loses("POST message")  # the status, of which the bot does not know
    for name in ("generating", "gate"):
        (heard.bot.folder / name).unlink(missing_ok=True)
    asked = await say(heard, f"@Bard {GATED_PROMPT}")
    await heard.discord.until(
        lambda: next((m for m in replies_to(heard, asked) if "Stop" in m.labels), None), "a status"
    )
    heard.open_gate()
    reply = await reply_to(heard, asked)
    assert replies_to(heard, asked) == [reply]
    assert await heard.read() == speeches(reply)


async def test_stopped_request_leaves_no_turn(heard: Scene) -> None:
    for name in ("generating", "gate"):
        (heard.bot.folder / name).unlink(missing_ok=True)
    asked = await say(heard, f"@Bard {GATED_PROMPT}")
    status = await heard.discord.until(
        lambda: next((m for m in replies_to(heard, asked) if "Stop" in m.labels), None), "a status"
    )
    await heard.press(status, "Stop")
    await heard.discord.until(lambda: "stopped" in status.text, "the end of the request")
    assert await heard.read() == []


async def test_reply_that_was_posted_when_the_bot_was_killed(heard: Scene) -> None:
    first = await reply_to(heard, await say(heard, "@Bard ROMEO:"))
    fault = heard.discord.faults.holds("POST message")
    asked = await say(heard, "@Bard JULIET:")
    await heard.discord.struck(fault)
    reply = await reply_to(heard, asked)
    await heard.bot.kill()
    heard.discord.faults.clear()
    await heard.bot.start()
    last = await reply_to(heard, await say(heard, "@Bard NURSE:"))
    assert await heard.read() == [text for m in (first, reply, last) for text in speeches(m)]


async def test_reply_that_was_not_posted_when_the_bot_was_killed(heard: Scene) -> None:
    fault = heard.discord.faults.holds("POST message", When.BEFORE)
    lost = await say(heard, "@Bard ROMEO:")
    await heard.discord.struck(fault)
    await heard.bot.kill()
    heard.discord.faults.clear()
    await heard.bot.start()
    reply = await reply_to(heard, await say(heard, "@Bard JULIET:"))
    assert replies_to(heard, lost) == []
    assert await heard.read() == speeches(reply)


async def test_answer_whose_text_the_bot_does_not_get(heard: Scene) -> None:
    answer = await speech(await heard.ask("ROMEO:"))
    bare = await heard.discord.say("Say on.", by=heard.ben, at=heard.garden, answers=answer)
    hint = await heard.discord.until(
        lambda: next(iter(replies_to(heard, bare)), None), "an explanation"
    )
    assert "only if they name me" in hint.text
    again = await heard.discord.say("Say on.", by=heard.ben, at=heard.garden, answers=answer)
    named = await heard.discord.say("@Bard Say on.", by=heard.ben, at=heard.garden, answers=answer)
    reply = await reply_to(heard, named)
    assert replies_to(heard, again) == []
    posted = await heard.discord.say("JULIET:", by=heard.ben, at=heard.garden, answers=reply)
    last = await reply_to(heard, posted)
    assert await heard.read() == [text for m in (answer, reply, last) for text in speeches(m)]


@pytest.mark.parametrize(
    "lacking",
    [Permission.SEND_MESSAGES, Permission.READ_MESSAGE_HISTORY],
    ids=["may not write", "may not read history"],
)
async def test_channel_in_which_the_bot_may_do_less(heard: Scene, lacking: Permission) -> None:
    attic = await heard.discord.channel(heard.guild, "attic", allowed=MEMBER & ~lacking)
    await say(heard, "@Bard ROMEO:", attic)
    last = await reply_to(heard, await say(heard, "@Bard NURSE:"))
    assert await heard.read() == speeches(last)
    if lacking is Permission.READ_MESSAGE_HISTORY:  # a message that is no reply
        shown = await heard.discord.until(
            lambda: next((m for m in heard.seen(attic) if m.embeds), None), "a message"
        )
        assert await heard.read(attic) == speeches(shown)
    else:
        assert [m for m in heard.seen(attic) if m.author is None] == []
        assert await heard.read(attic) == []
