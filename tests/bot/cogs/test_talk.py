"""Messages that mention the bot, and direct messages: replies, scenes, rejections, silence."""

from typing import Any

import discord
import pytest

from bot.errors import Reason
from bot.ui.notices import CLOSING_SECONDS, NOTICE_SECONDS, PERIOD_SECONDS
from bot.ui.responses import HOW_TO_TALK, MAY_NOT_SHOW, MENTION_ME, REJECTIONS, WORDS_ALONE
from tests.bot.conftest import Stage, message_of


async def listen(stage: Stage) -> None:
    """Let the bard answer when it is mentioned in the server."""
    await stage.bard.guild_settings.change(stage.guild.id, answer_mentions=True)


def at_bard(stage: Stage, text: str = "") -> str:
    """Return a text that begins with a mention of the bot."""
    assert stage.bot.user is not None
    return f"{stage.bot.user.mention} {text}".strip()


def own(stage: Stage, channel: Any = None) -> list[discord.Message]:
    """Return the bot's messages in a channel, the garden if not given."""
    assert stage.bot.user is not None
    history = (channel or stage.garden).history()
    return [message for message in history if message.author.id == stage.bot.user.id]


def prompts(stage: Stage) -> list[str]:
    """Return the last words of the contexts so far: the leads of the prompts."""
    return [context.split("\n\n")[-1] for context in stage.contexts]


def how_to_talk(stage: Stage) -> str:
    assert stage.bot.user is not None
    return HOW_TO_TALK.format(name=stage.bot.user.display_name)


def mention_me(stage: Stage) -> str:
    assert stage.bot.user is not None
    return MENTION_ME.format(me=stage.bot.user.mention, name=stage.bot.user.display_name)


async def test_mention_plays_a_turn_in_reply(stage: Stage) -> None:
    await listen(stage)
    asked = await stage.ben.send(stage.garden, at_bard(stage, "O gentle night"))

    (reply,) = own(stage)
    (turn,) = await stage.turns(stage.garden.id)
    assert (turn.prompt, turn.user_id, turn.message_id) == (
        "O gentle night",
        stage.ben.id,
        reply.id,
    )
    assert reply.embeds[0].author.name == "ben asks the bard"
    assert reply.reference is not None
    assert reply.reference.message_id == asked.id
    (post,) = [r for r in stage.env.http_requests if r.path.endswith("/messages")]
    assert post.json is not None
    assert post.json["allowed_mentions"] == {"parse": []}
    assert post.json["enforce_nonce"]
    assert any(r.path.endswith("/typing") for r in stage.env.http_requests)

    await stage.ann.click(reply, label="Continue")
    await stage.ben.click(reply, label="Reroll")
    assert [turn.takes for turn in await stage.turns(stage.garden.id)] == [2, 1]
    await stage.ben.delete(asked)
    await stage.ben.click(reply, label="Delete")
    assert len(await stage.turns(stage.garden.id)) == 1
    assert not stage.env.errors


async def test_silence_in_a_server_until_its_managers_want_answers(stage: Stage) -> None:
    await stage.ben.send(stage.garden, at_bard(stage, "O gentle night"))
    assert own(stage) == []

    shown = message_of(await stage.ann.slash(stage.garden, "bard-settings"))
    assert "Answer when mentioned: no" in shown.content
    await stage.ann.select(shown, ["yes"], custom_id="bard:settings:mentions")
    assert "Answer when mentioned: yes" in shown.content
    await stage.restart()
    await stage.ben.send(stage.garden, at_bard(stage, "O gentle night"))
    assert len(own(stage)) == 1
    await stage.ann.select(shown, ["no"], custom_id="bard:settings:mentions")
    await stage.ben.send(stage.garden, at_bard(stage, "O gentle night"))
    assert len(own(stage)) == 1


async def test_direct_messages_need_no_mention(stage: Stage) -> None:
    await stage.ann.send_dm("ROMEO:")
    await stage.ann.send_dm(at_bard(stage, "JULIET:"))
    assert prompts(stage) == ["ROMEO:\n", "JULIET:\n"]
    assert len(own(stage, stage.ann.user.dm_channel)) == 2


@pytest.mark.settings(answer_direct_messages=False)
async def test_host_can_keep_its_direct_messages_to_itself(stage: Stage) -> None:
    await stage.ann.send_dm("ROMEO:")
    assert stage.contexts == []
    assert own(stage, stage.ann.user.dm_channel) == []


async def test_what_is_no_mention_and_who_is_no_member(stage: Stage) -> None:
    await listen(stage)
    role = stage.guild.create_role("Bard")
    mention = at_bard(stage, "speak")
    for text in ("@everyone speak", f"<@&{role.id}> speak", f"{stage.ben.mention} speak", "speak"):
        await stage.ann.send(stage.garden, text)
    hook = stage.guild.create_webhook(stage.garden, "Town crier")
    await hook.send(mention)
    channel = stage.env.bot.get_channel(stage.garden.id)
    assert isinstance(channel, discord.TextChannel)
    await channel.send(mention)
    silent = await stage.ben.send(stage.garden, "speak")
    await stage.ben.edit(silent, mention)
    assert stage.contexts == []


async def test_words_of_a_message(stage: Stage) -> None:
    await listen(stage)
    assert stage.bot.user is not None
    me, other = stage.bot.user.id, stage.ben
    long = "word " * 300 + "end"
    for text, prompt in (
        (f"<@{me}>, O gentle night", "O gentle night"),
        (f"  <@!{me}> ROMEO:", "ROMEO:\n"),
        (f"O gentle <@{me}> night", "O gentle night"),
        (f"O gentle night, <@{me}>!", "O gentle night!"),
        (f"O gentle night <@{me}>", "O gentle night"),
        (f"<@{me}> <@{me}> night", "night"),
        (f"<@{me}> tell {other.mention} and <#{stage.tavern.id}>", "tell ben and tavern"),
        (f"<@{me}> {long}", None),
    ):
        await stage.ann.send(stage.garden, text)
        await stage.bard.scenes.end((await stage.turns(stage.garden.id))[-1].place)
        if prompt is not None:  # the model's alphabet has neither @ nor #
            assert stage.contexts[-1] == prompt
    scene = await stage.scene(stage.garden.id) - 1
    (turn,) = await stage.turns(stage.garden.id, scene)
    assert turn.prompt is not None
    assert len(turn.prompt) <= 1000
    assert turn.prompt.endswith("word end")


async def test_mention_without_words_continues_the_scene_if_there_is_one(stage: Stage) -> None:
    await listen(stage)
    await stage.ben.send(stage.garden, at_bard(stage))
    (help_,) = own(stage)
    assert help_.content == how_to_talk(stage)
    await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    await stage.ben.send(stage.garden, at_bard(stage))
    turns = await stage.turns(stage.garden.id)
    assert [turn.prompt for turn in turns] == ["ROMEO:", None]


async def test_file_without_words(stage: Stage) -> None:
    conversation = stage.ann.user.dm_channel
    files = stage.env.backend.store_attachments(conversation.id, [("a.txt", b"x")])
    await stage.ann.send_dm("", attachments=files)
    await listen(stage)
    await stage.ben.send(stage.garden, at_bard(stage), attachments=[("a.txt", b"x")])
    assert own(stage)[-1].content == WORDS_ALONE
    assert own(stage, conversation)[-1].content == WORDS_ALONE
    assert stage.contexts == []


async def test_reply_goes_on_from_the_scene_of_its_message(stage: Stage) -> None:
    await listen(stage)
    old = message_of(await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20))
    await stage.ben.slash(stage.garden, "bard", prompt="HAMLET:", max_chars=20, fresh=True)

    await stage.ann.send(stage.garden, at_bard(stage, "JULIET:"), reply_to=old)
    assert stage.contexts[-1].startswith("ROMEO:")
    assert stage.contexts[-1].endswith("\n\nJULIET:\n")
    await stage.ann.send(stage.garden, "NURSE:", reply_to=own(stage)[-1])  # it notifies the bot
    assert stage.contexts[-1].startswith("ROMEO:")
    assert "JULIET" in stage.contexts[-1]
    # The scene that is played now is still the other one.
    await stage.ann.send(stage.garden, at_bard(stage, "OPHELIA:"))
    assert stage.contexts[-1].startswith("HAMLET:")
    assert [turn.prompt for turn in await stage.turns(stage.garden.id)] == ["HAMLET:", "OPHELIA:"]

    await stage.forget(stage.ben.id)
    await stage.ben.send(stage.garden, at_bard(stage, "MERCUTIO:"), reply_to=old)
    assert own(stage)[-1].content == REJECTIONS[Reason.TURN_FORGOTTEN]


async def test_bare_reply_to_an_answer_is_told_what_to_do_once(stage: Stage) -> None:
    await listen(stage)
    answer = message_of(await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=9))
    for _ in range(2):
        await stage.ben.send(stage.garden, "Say on.", reply_to=answer)
        await stage.env.advance_time(PERIOD_SECONDS + 1)
    assert [m.content for m in own(stage)[1:]] == [mention_me(stage)]
    assert len(stage.contexts) == 1


@pytest.mark.settings(cooldown=30)
async def test_rejection_is_told_once_a_minute_and_taken_back(stage: Stage) -> None:
    await listen(stage)
    await stage.env.advance_time(1)
    await stage.ben.send(stage.garden, at_bard(stage, "ROMEO:"))
    for _ in range(2):
        await stage.ben.send(stage.garden, at_bard(stage, "ROMEO:"))
    _, notice = own(stage)
    assert "again in 30 s" in notice.content
    await stage.env.advance_time(NOTICE_SECONDS + 1)
    assert len(own(stage)) == 1
    await stage.env.advance_time(PERIOD_SECONDS)
    for _ in range(2):
        await stage.ben.send(stage.garden, at_bard(stage, "ROMEO:"))
    assert len(own(stage)) == 3
    assert not stage.env.errors


async def test_message_that_comes_during_the_shutdown_is_told(stage: Stage) -> None:
    await listen(stage)
    stage.bard.queue.close()
    stage.bard.closing = True
    await stage.ben.send(stage.garden, at_bard(stage, "ROMEO:"))
    sent = [r.json for r in stage.env.http_requests if r.path.endswith("/messages")]
    assert [body and body["content"] for body in sent] == [REJECTIONS[Reason.CLOSING]]
    await stage.env.advance_time(CLOSING_SECONDS + 1)
    assert own(stage) == []


async def test_forbidden_place_or_person_is_met_with_silence_in_a_server(stage: Stage) -> None:
    await listen(stage)
    await stage.bard.guild_settings.change(stage.guild.id, channels=frozenset({stage.tavern.id}))
    await stage.ben.send(stage.garden, at_bard(stage, "ROMEO:"))
    await stage.ben.send(stage.garden, at_bard(stage), attachments=[("a.txt", b"x")])
    assert own(stage) == []
    await stage.bard.shared_blocks.block(stage.ben.id)
    await stage.ben.send(stage.tavern, at_bard(stage, "ROMEO:"))
    assert own(stage, stage.tavern) == []
    await stage.ben.send_dm("ROMEO:")
    (told,) = own(stage, stage.ben.user.dm_channel)
    assert told.content == REJECTIONS[Reason.BLOCKED]
    assert stage.contexts == []


async def test_reply_that_discord_refuses_is_explained_and_not_kept(stage: Stage) -> None:
    await listen(stage)
    stage.env.inject_error("POST", f"/channels/{stage.garden.id}/messages", status=403, code=50013)
    await stage.ben.send(stage.garden, at_bard(stage, "ROMEO:"))
    (told,) = own(stage)
    assert told.content == MAY_NOT_SHOW
    assert await stage.turns(stage.garden.id) == []
    assert not stage.env.errors


async def test_channel_in_which_the_bot_may_not_write_costs_nothing(stage: Stage) -> None:
    await listen(stage)
    assert stage.bot.user is not None
    nothing = discord.PermissionOverwrite(send_messages=False)
    attic = stage.guild.create_text_channel("attic", overwrites={stage.bot.user: nothing})
    await stage.ben.send(attic, at_bard(stage, "ROMEO:"))
    assert own(stage, attic) == []
    assert stage.contexts == []


async def test_command_of_the_host_is_left_to_it(stage: Stage) -> None:
    await listen(stage)

    @stage.bot.command(name="quote")
    async def quote(_context: Any) -> None:
        """Do nothing."""

    stage.bot.command_prefix = "!"
    await stage.ann.send_dm("!quote")
    assert stage.contexts == []
    await stage.ann.send_dm("!other")
    assert len(stage.contexts) == 1
