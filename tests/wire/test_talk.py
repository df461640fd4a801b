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
async def answering(scene: Scene) -> AsyncIterator[Scene]:
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


async def test_reply_to_a_mention_and_its_buttons(answering: Scene) -> None:
    asked = await say(answering, "@Bard O gentle night")
    reply = await reply_to(answering, asked)
    assert "O gentle night" in reply.text
    assert reply.labels == ["Continue", "Reroll", "Edit prompt", "Delete"]
    again = await speech(await answering.press(reply, "Continue", by=answering.ann))
    assert await speech(await answering.press(reply, "Reroll")) is reply
    assert await answering.read() == speeches(reply) + speeches(again)
    await answering.press(reply, "Delete")
    await answering.discord.until(lambda: reply.deleted, "the message is deleted")
    assert await answering.read() == speeches(again)


async def test_direct_message(answering: Scene) -> None:
    at = answering.discord.direct(answering.ben)
    asked = await say(answering, "ROMEO:", at)
    reply = await answering.discord.until(
        lambda: next((m for m in answering.seen(at, by=answering.ben) if m.answers is asked), None),
        "a reply",
    )
    assert await answering.read(at) == speeches(reply)


async def test_message_comes_twice_or_is_edited(answering: Scene) -> None:
    asked = await say(answering, "@Bard ROMEO:")
    await answering.discord.deliver(asked)
    reply = await reply_to(answering, asked)
    await answering.discord.edit_message(asked, "@Bard JULIET:")
    last = await reply_to(answering, await say(answering, "@Bard NURSE:"))  # events come in order
    assert replies_to(answering, asked) == [reply]
    assert await answering.read() == speeches(reply) + speeches(last)


@LOST
async def test_answer_to_the_reply_is_lost(answering: Scene, status: int | None) -> None:
    answering.discord.faults.loses("POST message", status)
    asked = await say(answering, "@Bard ROMEO:")
    reply = await reply_to(answering, asked)
    again = await speech(await answering.press(reply, "Continue"))
    assert replies_to(answering, asked) == [reply]
    assert await answering.read() == speeches(reply) + speeches(again)


async def test_reply_is_refused_after_its_answer_was_lost(answering: Scene) -> None:
    """The library repeats the request by itself, and tells the last answer alone."""
    answering.discord.faults.loses("POST message", 502)
    answering.discord.faults.refuses("POST message", 403, 50013)
    asked = await say(answering, "@Bard ROMEO:")
    reply = await reply_to(answering, asked)
    last = await reply_to(answering, await say(answering, "@Bard JULIET:"))
    assert replies_to(answering, asked) == [reply]
    assert await answering.read() == speeches(reply) + speeches(last)


async def test_status_of_a_reply_that_takes_long_becomes_the_reply(answering: Scene) -> None:
    answering.discord.faults.loses("POST message")  # the status, of which the bot does not know
    for name in ("generating", "gate"):
        (answering.bot.folder / name).unlink(missing_ok=True)
    asked = await say(answering, f"@Bard {GATED_PROMPT}")
    await answering.discord.until(
        lambda: next((m for m in replies_to(answering, asked) if "Stop" in m.labels), None),
        "a status",
    )
    answering.open_gate()
    reply = await reply_to(answering, asked)
    assert replies_to(answering, asked) == [reply]
    assert await answering.read() == speeches(reply)


async def test_stopped_request_leaves_no_turn(answering: Scene) -> None:
    for name in ("generating", "gate"):
        (answering.bot.folder / name).unlink(missing_ok=True)
    asked = await say(answering, f"@Bard {GATED_PROMPT}")
    status = await answering.discord.until(
        lambda: next((m for m in replies_to(answering, asked) if "Stop" in m.labels), None),
        "a status",
    )
    await answering.press(status, "Stop")
    await answering.discord.until(lambda: "stopped" in status.text, "the end of the request")
    assert await answering.read() == []


async def test_reply_that_was_posted_when_the_bot_was_killed(answering: Scene) -> None:
    first = await reply_to(answering, await say(answering, "@Bard ROMEO:"))
    fault = answering.discord.faults.holds("POST message")
    asked = await say(answering, "@Bard JULIET:")
    await answering.discord.struck(fault)
    reply = await reply_to(answering, asked)
    await answering.bot.kill()
    answering.discord.faults.clear()
    await answering.bot.start()
    last = await reply_to(answering, await say(answering, "@Bard NURSE:"))
    assert await answering.read() == [text for m in (first, reply, last) for text in speeches(m)]


async def test_reply_that_was_not_posted_when_the_bot_was_killed(answering: Scene) -> None:
    fault = answering.discord.faults.holds("POST message", When.BEFORE)
    lost = await say(answering, "@Bard ROMEO:")
    await answering.discord.struck(fault)
    await answering.bot.kill()
    answering.discord.faults.clear()
    await answering.bot.start()
    reply = await reply_to(answering, await say(answering, "@Bard JULIET:"))
    assert replies_to(answering, lost) == []
    assert await answering.read() == speeches(reply)


async def test_answer_whose_text_the_bot_does_not_get(answering: Scene) -> None:
    answer = await speech(await answering.ask("ROMEO:"))
    bare = await answering.discord.say(
        "Say on.", by=answering.ben, at=answering.garden, answers=answer
    )
    hint = await answering.discord.until(
        lambda: next(iter(replies_to(answering, bare)), None), "an explanation"
    )
    assert "only if they name me" in hint.text
    again = await answering.discord.say(
        "Say on.", by=answering.ben, at=answering.garden, answers=answer
    )
    named = await answering.discord.say(
        "@Bard Say on.", by=answering.ben, at=answering.garden, answers=answer
    )
    reply = await reply_to(answering, named)
    assert replies_to(answering, again) == []
    posted = await answering.discord.say(
        "JULIET:", by=answering.ben, at=answering.garden, answers=reply
    )
    last = await reply_to(answering, posted)
    assert await answering.read() == [text for m in (answer, reply, last) for text in speeches(m)]


@pytest.mark.parametrize(
    "lacking",
    [Permission.SEND_MESSAGES, Permission.READ_MESSAGE_HISTORY],
    ids=["may not write", "may not read history"],
)
async def test_channel_in_which_the_bot_may_do_less(answering: Scene, lacking: Permission) -> None:
    attic = await answering.discord.channel(answering.guild, "attic", allowed=MEMBER & ~lacking)
    await say(answering, "@Bard ROMEO:", attic)
    last = await reply_to(answering, await say(answering, "@Bard NURSE:"))
    assert await answering.read() == speeches(last)
    if lacking is Permission.READ_MESSAGE_HISTORY:  # a message that is no reply
        shown = await answering.discord.until(
            lambda: next((m for m in answering.seen(attic) if m.embeds), None), "a message"
        )
        assert await answering.read(attic) == speeches(shown)
    else:
        assert [m for m in answering.seen(attic) if m.author is None] == []
        assert await answering.read(attic) == []
