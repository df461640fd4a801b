"""`/bard` and its context menu: replies, scenes, odd prompts, limits and errors."""

import logging
import re
import sqlite3

import discord
import pytest
import simcord

from bot import Settings, StartupError, create_bot
from bot.cogs.bard import MENU
from bot.errors import Reason
from bot.ui.embeds import LEFT_OUT
from bot.ui.forms import PROMPT_FIELD
from bot.ui.responses import NOT_ALLOWED, REJECTIONS
from tests.bot.conftest import Stage, content_of, message_of, reply_length, text_of

ODD_PROMPTS = [
    " ",
    "😀🎭",
    "@everyone <@1> <@&2> <#3> <t:0> <:a:1>",
    "```py\nprint()\n``` `x` \\",
    "**bold** __under__ ~~gone~~ ||hidden|| [link](http://example.org)",
    "# Head\n> quote\n- item\n1. one\n-# small",
    "\u202egnirts desrever\u202c \u05e9\u05dc\u05d5\u05dd",
    "a\u200bb\u200d\ufeff",
    "\x00\x07\x1b[31m",
    "line one\r\nline two\u2028line three",
    "“Curly” — naïve façade…",
    "1234567890",
    "'; DROP TABLE turns; --",
    "\ud800",
    "*" * 1000,
    "word " * 200,
]


async def test_reply_and_its_footer(stage: Stage) -> None:
    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=50)

    assert result.acknowledged
    assert not result.ephemeral
    assert "ann asks the bard\nROMEO:" in text_of(result)
    assert re.search(r"^\d+ characters · [0-9.]+ s$", text_of(result), re.MULTILINE)
    (turn,) = await stage.turns(stage.garden.id, 1)
    assert 0 < reply_length(result) == len(turn.reply) <= 50
    assert stage.contexts == ["ROMEO:\n"]


async def test_acknowledges_before_it_replies(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=5)
    requests = [request.path for request in stage.env.http_requests]
    (acknowledged,) = (n for n, path in enumerate(requests) if path.endswith("/callback"))
    (replied,) = (n for n, path in enumerate(requests) if path.endswith("/@original"))
    assert acknowledged < replied
    assert stage.env.http_requests[acknowledged].json == {"type": 5}


async def test_row_of_a_turn(stage: Stage, settings: Settings) -> None:
    result = await stage.ann.slash(
        stage.garden, "bard", prompt="ROMEO:", max_chars=30, temperature=1.5, seed=7
    )
    assert result.response is not None
    with sqlite3.connect(settings.database_path) as connection:
        connection.row_factory = sqlite3.Row
        (row,) = map(dict, connection.execute("SELECT * FROM turns"))
        (take,) = map(dict, connection.execute("SELECT * FROM takes"))
    connection.close()
    assert take.pop("seconds") > 0
    assert take.pop("created_at") == row.pop("created_at") > 1_700_000_000
    assert 0 < len(take.pop("reply")) <= 30
    weights = stage.bard.inference.model.name
    assert take.pop("prompt") is None
    assert take == {"turn_id": 1, "number": 1, "seed": 7, "weights": weights, "voice": 0}
    assert row == {
        "id": 1,
        "guild_id": stage.guild.id,
        "channel_id": stage.garden.id,
        "audience": 0,
        "user_id": stage.ann.id,
        "scene": 1,
        "prompt": "ROMEO:",
        "max_chars": 30,
        "temperature": 1.5,
        "message_id": result.response.id,
        "take": 1,
        "intent": None,
        "token": None,
    }


async def test_same_seed_same_reply(stage: Stage) -> None:
    replies = [
        await stage.ann.slash(
            stage.garden, "bard", prompt="ROMEO:", max_chars=60, seed=3, fresh=True
        )
        for _ in range(2)
    ]
    first, second = (reply.response.embeds[0].description for reply in replies if reply.response)
    assert first == second


async def test_next_context_has_the_reply_as_it_was_shown(stage: Stage) -> None:
    completion = "O, she doth teach the torches to burn bright.\n\nJULIET:\nWhat m"
    stage.bard.inference.model.generate = lambda *_, **__: completion  # type: ignore[method-assign]
    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=60)
    assert "bright." in text_of(result)
    assert "JULIET" not in text_of(result)

    del stage.bard.inference.model.generate
    stage.record_contexts()
    await stage.ann.slash(stage.garden, "scene continue")
    assert stage.contexts == ["ROMEO:\nO, she doth teach the torches to burn bright.\n\n"]


async def test_second_prompt_continues_the_first(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=40)
    (turn,) = await stage.turns(stage.garden.id, 1)
    await stage.ben.slash(stage.garden, "bard", prompt="JULIET:", max_chars=40)

    assert stage.contexts[1] == f"ROMEO:\n{turn.reply}".rstrip() + "\n\nJULIET:\n"


async def test_scene_survives_a_restart(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=40)
    (turn,) = await stage.turns(stage.garden.id, 1)
    await stage.restart()
    await stage.ann.slash(stage.garden, "bard", prompt="JULIET:", max_chars=40)

    assert stage.contexts[1] == f"ROMEO:\n{turn.reply}".rstrip() + "\n\nJULIET:\n"


async def test_restart_of_the_same_bot_object(stage: Stage) -> None:
    await stage.env.restart_bot()
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=5)
    assert stage.contexts == ["ROMEO:\n"]


async def test_channels_threads_and_direct_messages_are_separate(stage: Stage) -> None:
    garden = stage.env.bot.get_channel(stage.garden.id)
    assert isinstance(garden, discord.TextChannel)
    await garden.create_thread(name="maze", type=discord.ChannelType.public_thread)
    (maze,) = stage.garden.threads

    for channel in (stage.garden, stage.tavern, maze):
        await stage.ann.slash(channel, "bard", prompt=f"In {channel.name}", max_chars=20)
    await stage.ann.user.slash("bard", prompt="In private", max_chars=20)
    assert stage.contexts == ["In garden", "In tavern", "In maze", "In private"]

    await stage.ann.user.slash("bard", prompt="Again", max_chars=20)
    assert stage.contexts[-1].startswith("In private")
    await stage.ann.slash(maze, "bard", prompt="Again", max_chars=20)
    assert stage.contexts[-1].startswith("In maze")


async def test_fresh_starts_a_new_scene(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    await stage.ann.slash(stage.garden, "bard", prompt="HAMLET:", max_chars=20, fresh=True)
    assert stage.contexts[-1] == "HAMLET:\n"
    await stage.ann.slash(stage.garden, "bard", prompt="OPHELIA:", max_chars=20)
    assert stage.contexts[-1].startswith("HAMLET:\n")


@pytest.mark.parametrize("prompt", ODD_PROMPTS, ids=range(len(ODD_PROMPTS)))
async def test_odd_prompts_get_replies(stage: Stage, prompt: str) -> None:
    result = await stage.ann.slash(stage.garden, "bard", prompt=prompt, max_chars=20)

    assert result.response is not None
    assert len(result.response.embeds) == 1
    assert 0 < reply_length(result) <= 20
    message = result.response.message
    assert not message.mention_everyone
    assert not message.mentions
    assert not message.role_mentions
    # This turn is in the context of the next.
    await stage.ann.slash(stage.garden, "bard", prompt=prompt, max_chars=20)
    assert len(stage.contexts) == 2


async def test_dropped_characters_stand_on_a_line_of_their_own(stage: Stage) -> None:
    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO 😀😀 5:", max_chars=20)
    assert f"{LEFT_OUT}: 😀5" in text_of(result).split("\n")
    assert stage.contexts == ["ROMEO  :\n"]


async def test_longest_reply_fits_one_message(stage: Stage) -> None:
    result = await stage.ann.slash(stage.garden, "bard", prompt="x" * 1000, max_chars=4000)

    assert result.response is not None
    assert not result.followups
    (turn,) = await stage.turns(stage.garden.id, 1)
    assert 3200 <= reply_length(result) == len(turn.reply) <= 4000


@pytest.mark.settings(max_chars=100)
async def test_setting_limits_the_option(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:")
    (turn,) = await stage.turns(stage.garden.id, 1)
    assert 80 <= len(turn.reply) <= 100
    with pytest.raises(simcord.SetupError, match="≤ 100"):
        await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=101)


async def test_reply_mentions_nobody(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="@everyone", max_chars=5)
    (request,) = (r for r in stage.env.http_requests if r.path.endswith("/@original"))
    assert isinstance(request.json, dict)
    assert request.json["allowed_mentions"] == {"parse": []}


async def test_failure_gets_one_response_with_the_id_of_its_log_entry(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_args: object, **_options: object) -> str:
        raise ZeroDivisionError("a bad day")

    stage.bard.inference.model.generate = fail  # type: ignore[method-assign]
    result = await stage.ann.slash(stage.garden, "bard", prompt="SECRET WORDS")

    (response,) = result.followups
    assert response.ephemeral
    assert stage.garden.history() == []
    error_id = response.content.split("`")[1]
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert error_id in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert "SECRET" not in caplog.text
    assert "ZeroDivisionError" not in response.content
    assert not stage.env.errors

    # The channel's lock was released.
    stage.record_contexts()
    del stage.bard.inference.model.generate
    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=9)
    assert 0 < reply_length(result) <= 9


async def test_missing_permission_is_explained_and_leaves_the_scene_unchanged(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.env.inject_error("PATCH", "/webhooks/*/@original", status=403, code=50013)
    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=9)
    assert NOT_ALLOWED in content_of(result)
    error_id = content_of(result).split("`")[1]
    assert f"Error {error_id}" in caplog.text
    assert not stage.env.errors

    await stage.ann.slash(stage.garden, "bard", prompt="JULIET:", max_chars=9)
    assert stage.contexts[-1] == "JULIET:\n"


async def test_expired_interaction_is_logged_as_a_warning(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.env.inject_error("POST", "/interactions/*/callback", status=404, code=10062)
    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:")

    assert result.response is None
    assert "no longer knows" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not stage.env.errors
    assert not stage.contexts


async def test_log_contains_no_prompts_or_replies(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await stage.ann.slash(stage.garden, "bard", prompt="MY PRIVATE WORDS", max_chars=50)
    (turn,) = await stage.turns(stage.garden.id, 1)
    assert "PRIVATE" not in caplog.text
    assert turn.reply not in caplog.text


async def test_missing_weights_fail_the_startup(settings: Settings) -> None:
    missing = settings.database_path.with_name("none.pth")
    bot = create_bot(settings.model_copy(update={"weights": missing}))
    with pytest.raises(StartupError, match=r"none\.pth"):
        async with simcord.run(bot):
            pass
    await bot.close()


async def test_fresh_turn_that_is_never_shown_starts_no_scene(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=9)
    stage.env.inject_error("PATCH", "/webhooks/*/@original", status=403, code=50013)
    await stage.ann.slash(stage.garden, "bard", prompt="HAMLET:", max_chars=9, fresh=True)
    assert not stage.env.errors
    await stage.ann.slash(stage.garden, "bard", prompt="JULIET:", max_chars=9)
    assert stage.contexts[-1].startswith("ROMEO:\n")


async def test_request_during_shutdown_is_rejected(stage: Stage) -> None:
    stage.bard.closing = True
    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:")
    assert REJECTIONS[Reason.CLOSING] in content_of(result)
    assert not stage.contexts
    assert not stage.bard._tasks


@pytest.mark.settings(cooldown=10)
async def test_cooldown_is_an_ephemeral_response_with_the_seconds_left(stage: Stage) -> None:
    await stage.env.advance_time(1)  # the simulation starts at 0, which the library takes for unset
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=9)
    await stage.env.advance_time(3)
    rejected = await stage.ann.slash(stage.tavern, "scene continue")
    assert rejected.ephemeral
    assert not rejected.deferred
    assert "again in 7 s" in content_of(rejected)
    assert not stage.env.errors

    other = await stage.ben.slash(stage.garden, "bard", prompt="JULIET:", max_chars=9)
    assert reply_length(other) <= 9
    # The rejected request does not extend the cooldown.
    await stage.env.advance_time(7.1)
    accepted = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=9)
    assert reply_length(accepted) <= 9


async def test_menu_continues_a_members_message(stage: Stage) -> None:
    message = await stage.ben.send(stage.garden, f"Now, <@{stage.ann.id}>, is the winter of our")
    result = await stage.ann.context_menu(stage.garden, MENU, message)
    assert stage.contexts == ["Now, @ann, is the winter of our".replace("@", "")]
    assert "ann asks the bard\nNow, @ann, is the winter" in text_of(result)
    await stage.ann.slash(stage.garden, "scene continue")
    assert stage.contexts[-1].startswith("Now, ann, is the winter of our")


async def test_menu_continues_a_reply_of_the_bard(stage: Stage) -> None:
    completion = "I -- *I*.\n\nJULIET:\n# What?"
    stage.bard.inference.model.generate = lambda *_, **__: completion  # type: ignore[method-assign]
    reply = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=60)
    assert reply.response is not None
    del stage.bard.inference.model.generate
    await stage.restart()
    await stage.ann.context_menu(stage.garden, MENU, reply.response)
    folded, _ = stage.bard.inference.fold(completion)
    assert stage.contexts[-1].endswith(f"\n\n{folded}")


async def test_menu_uses_the_end_of_a_long_message(stage: Stage) -> None:
    message = await stage.ben.send(stage.garden, "antidisestablishment " * 90 + "and so")
    await stage.ann.context_menu(stage.garden, MENU, message)
    (context,) = stage.contexts
    assert len(context) <= 1000
    assert context.startswith("antidisestablishment ")
    assert context.endswith(" and so")


async def test_menu_rejects_a_message_without_text_with_an_ephemeral_response(stage: Stage) -> None:
    message = await stage.ben.send(stage.garden, attachments=[("mask.txt", b"")])
    result = await stage.ann.context_menu(stage.garden, MENU, message)
    assert REJECTIONS[Reason.NO_TEXT] in content_of(result)
    assert result.ephemeral
    assert not stage.contexts


async def test_private_reply_is_for_its_asker_alone(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="HAMLET:", max_chars=20)
    asked = await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20, private=True)
    assert asked.ephemeral
    assert stage.contexts[-1] == "ROMEO:\n"  # not the scene of the channel
    reply = message_of(asked)
    continued = await stage.ben.click(reply, label="Continue")
    assert continued.ephemeral
    assert stage.contexts[-1].startswith("ROMEO:\n")
    opened = await stage.ben.click(reply, label="Edit prompt")
    await stage.ben.submit_modal(opened, {PROMPT_FIELD: "TYBALT:"})
    assert stage.contexts[-1] == "TYBALT:\n"
    for label in ("◀ Earlier take", "Reroll"):
        await stage.ben.click(reply, label=label)
    assert len(stage.garden.history()) == 1

    assert "ROMEO:" in text_of(await stage.ben.slash(stage.garden, "scene show"))
    assert "ROMEO:" not in text_of(await stage.ann.slash(stage.garden, "scene show"))
    await stage.ben.slash(stage.garden, "bard", prompt="OPHELIA:", max_chars=20)
    assert stage.contexts[-1].startswith("HAMLET:\n")
    assert "ROMEO" not in stage.contexts[-1]
    await stage.ben.click(message_of(continued), label="Delete")
    await stage.ben.click(reply, label="Delete")
    assert "ROMEO:" not in text_of(await stage.ben.slash(stage.garden, "scene show"))
    assert not stage.env.errors
