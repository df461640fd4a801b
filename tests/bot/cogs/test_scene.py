"""`/scene`, and replies that members delete."""

import json
from typing import Any

import discord
import pytest
from simcord.results import InteractionResult, ResponseMessage

from bot.cogs import scene
from bot.cogs.retention import OWED_SECONDS
from bot.cogs.scene import (
    FORGET_LATER,
    FORGET_MINE,
    FORGOT_MARKS,
    FORGOT_NOTHING,
    FORGOT_PARTS,
    FRESH,
    KEPT,
)
from bot.errors import Reason, RejectedError
from bot.ui import interactions, replies
from bot.ui.responses import REJECTIONS
from tests.bot.conftest import Stage, content_of, message_of, reply_length, text_of

MINE, CHANNEL = "my words, everywhere", "all of this channel"
SCRIPT, ABOUT_ME = "the scene, as a script", "all about me, as JSON"


async def files_in(result: InteractionResult) -> dict[str, str]:
    """Return the texts of the files in ephemeral responses, by file name."""
    messages = [message for message in (result.response, *result.followups) if message is not None]
    assert all(message.ephemeral for message in messages)
    attachments = [attachment for message in messages for attachment in message.attachments]
    return {file.filename: (await file.read()).decode() for file in attachments}


def buttons_of(message: ResponseMessage) -> list[dict[str, Any]]:
    """Return the buttons of a message."""
    return [item for row in message.components for item in row["components"]]


async def test_continue_without_a_prompt(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    (first,) = await stage.turns(stage.garden.id, 1)
    result = await stage.ben.slash(stage.garden, "scene continue")

    assert 300 <= reply_length(result) <= 400
    assert stage.contexts[-1] == f"ROMEO:\n{first.reply}"
    await stage.ben.slash(stage.garden, "bard", prompt="JULIET:", max_chars=20)
    assert stage.contexts[-1].endswith("\n\nJULIET:\n")
    assert len(stage.contexts[-1]) > 300


async def test_continue_without_a_scene_is_rejected_in_private(stage: Stage) -> None:
    result = await stage.ann.slash(stage.garden, "scene continue")
    assert result.ephemeral
    assert not result.deferred
    assert content_of(result) == REJECTIONS[Reason.NO_SCENE]
    assert stage.garden.history() == []


async def test_rejection_after_a_public_acknowledgement_is_private(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactions, "CHECK_SECONDS", -1.0)  # a database that is too slow
    result = await stage.ann.slash(stage.garden, "scene continue")
    (rejection,) = result.followups
    assert rejection.ephemeral
    assert rejection.content == REJECTIONS[Reason.NO_SCENE]
    assert stage.garden.history() == []
    assert not stage.env.errors


async def test_deleted_reply_leaves_the_scene(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    deleted = await stage.ben.slash(stage.garden, "bard", prompt="TYBALT:", max_chars=20)
    await stage.ann.delete(message_of(deleted))
    await stage.ann.slash(stage.garden, "bard", prompt="JULIET:", max_chars=20)

    assert stage.contexts[-1].startswith("ROMEO:\n")
    assert "TYBALT" not in stage.contexts[-1]
    assert stage.contexts[-1].endswith("\n\nJULIET:\n")


async def test_bulk_deleted_replies_leave_the_scene(stage: Stage) -> None:
    for prompt in ("ROMEO:", "TYBALT:"):
        await stage.ann.slash(stage.garden, "bard", prompt=prompt, max_chars=20)
    garden = stage.env.bot.get_channel(stage.garden.id)
    assert isinstance(garden, discord.TextChannel)
    await garden.delete_messages(stage.garden.history())
    await stage.env.settle()
    await stage.ann.slash(stage.garden, "bard", prompt="JULIET:", max_chars=20)

    assert stage.contexts[-1] == "JULIET:\n"


async def test_scene_without_turns_stays_the_current_one(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    fresh = await stage.ann.slash(stage.garden, "bard", prompt="LEAR:", max_chars=20, fresh=True)
    await stage.ann.delete(message_of(fresh))
    await stage.ann.slash(stage.garden, "bard", prompt="FOOL:", max_chars=20)

    assert stage.contexts[-1] == "FOOL:\n"


async def test_fresh_ends_the_scene_permanently(stage: Stage) -> None:
    reply = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    for _ in range(2):
        result = await stage.ben.slash(stage.garden, "scene fresh")
        assert content_of(result) == FRESH
        assert not result.ephemeral
        await stage.restart()

    assert REJECTIONS[Reason.NO_SCENE] in content_of(
        await stage.ann.slash(stage.garden, "scene continue")
    )
    assert REJECTIONS[Reason.SCENE_OVER] in content_of(
        await stage.ann.click(message_of(reply), label="Continue")
    )
    await stage.ann.slash(stage.garden, "bard", prompt="LEAR:", max_chars=20)
    await stage.ann.slash(stage.garden, "bard", prompt="FOOL:", max_chars=20)
    assert stage.contexts[-2] == "LEAR:\n"
    assert stage.contexts[-1].startswith("LEAR:\n")
    assert await stage.scene(stage.garden.id) == 2
    assert not stage.env.errors


async def test_show_names_the_requester_and_prompt_of_each_turn(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="@everyone", max_chars=20)
    await stage.ben.slash(stage.garden, "scene continue")
    (first, _) = await stage.turns(stage.garden.id, 1)
    result = await stage.ben.slash(stage.garden, "scene show")

    assert result.ephemeral
    text = text_of(result).replace("\\", "")  # without escapes
    assert text.startswith(f"ann asks the bard\n@everyone\n{first.reply.strip()[:3]}")
    assert "ben: and then?\nThe scene goes on" in text
    assert not message_of(result).components
    assert not message_of(result).message.mention_everyone


async def test_show_in_pages(stage: Stage) -> None:
    for number in range(12):
        await stage.ann.slash(stage.garden, "bard", prompt=f"Speech {number}", max_chars=10)
    opened = await stage.ben.slash(stage.garden, "scene show")
    await stage.ben.slash(stage.garden, "bard", prompt="Later", max_chars=10, fresh=True)

    def prompts() -> list[str | None]:
        return [embed.title for embed in message_of(opened).embeds]

    assert prompts() == [f"Speech {n}" for n in range(7, 12)]
    await stage.ben.click(message_of(opened), label="◀ Previous page")
    assert prompts() == [f"Speech {n}" for n in range(2, 7)]
    await stage.restart()
    await stage.ben.click(message_of(opened), label="◀ Previous page")
    assert prompts() == [f"Speech {n}" for n in range(2)]
    assert [item.get("disabled", False) for item in buttons_of(message_of(opened))] == [True, False]
    await stage.ben.click(message_of(opened), label="Next page ▶")
    assert prompts() == [f"Speech {n}" for n in range(2, 7)]
    await stage.forget(stage.ann.id)
    assert REJECTIONS[Reason.NOTHING_TO_READ] in content_of(
        await stage.ben.click(message_of(opened), label="Next page ▶")
    )


async def test_pages_stay_those_of_the_scene_that_was_opened(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        await stage.ann.slash(stage.garden, "bard", prompt=f"Speech {number}", max_chars=10)
    opened = await stage.ann.slash(stage.garden, "scene show")

    async def acknowledge_privately(
        interaction: discord.Interaction[Any], **_options: bool
    ) -> interactions.Acknowledgement:
        return await interactions.acknowledge(interaction, private=True)

    monkeypatch.setattr(replies, "acknowledge", acknowledge_privately)
    for number in range(6):
        await stage.ann.slash(stage.garden, "bard", prompt=f"Whisper {number}", max_chars=10)
    own = await stage.ann.slash(stage.garden, "scene show")
    monkeypatch.undo()
    await stage.ann.slash(stage.garden, "bard", prompt="Speech 7", max_chars=10)
    await stage.ann.click(message_of(opened), label="◀ Previous page")
    await stage.ann.click(message_of(own), label="◀ Previous page")
    assert [embed.title for embed in message_of(opened).embeds] == ["Speech 0", "Speech 1"]
    assert [embed.title for embed in message_of(own).embeds] == ["Whisper 0"]


async def test_show_gives_a_long_turn_its_own_page(stage: Stage) -> None:
    for _ in range(3):
        await stage.ann.slash(stage.garden, "bard", prompt="x", max_chars=4000)
    result = await stage.ann.slash(stage.garden, "scene show")
    titles = [embed.title for embed in message_of(result).embeds]
    assert titles.count("x") == 1
    assert [item.get("disabled", False) for item in buttons_of(message_of(result))] == [False, True]


async def test_show_names_members_who_left(stage: Stage) -> None:
    cat = stage.guild.add_member(stage.env.create_user("cat"))
    await cat.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=10)
    stage.env.inject_error("GET", "/guilds/*/members/*", status=404, code=10007)
    assert "cat asks the bard" in text_of(await stage.ann.slash(stage.garden, "scene show"))
    stage.env.inject_error("GET", "/guilds/*/members/*", status=404, code=10007)
    stage.env.inject_error("GET", "/users/*", status=404, code=10013)
    assert "Someone asks the bard" in text_of(await stage.ann.slash(stage.garden, "scene show"))


@pytest.mark.parametrize("command", ["scene show", "scene export"])
async def test_empty_scene_gets_an_ephemeral_response(stage: Stage, command: str) -> None:
    options = {"what": SCRIPT} if command == "scene export" else {}
    result = await stage.ann.slash(stage.garden, command, **options)
    assert content_of(result) == REJECTIONS[Reason.NOTHING_TO_READ]
    assert result.ephemeral
    assert not stage.env.errors


async def test_export_of_the_scene(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="Old", max_chars=20)
    await stage.ann.slash(stage.garden, "bard", prompt="ROMÉO:", max_chars=20, fresh=True)
    await stage.ben.slash(stage.garden, "scene continue")
    first, second = await stage.turns(stage.garden.id, 2)
    result = await stage.ben.slash(stage.garden, "scene export", what=SCRIPT)

    assert await files_in(result) == {
        "scene.txt": f"ROMÉO:\n{first.reply}{second.reply}".strip()
        + "\n\n\nA scene in #garden, asked for by ann, ben\n"
    }


async def test_export_of_a_person(stage: Stage) -> None:
    reply = await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    await stage.ben.click(message_of(reply), label="Reroll")
    await stage.ben.user.slash("bard", prompt="In private", max_chars=20)
    await stage.ann.slash(stage.garden, "bard", prompt="Ann's", max_chars=20)
    result = await stage.ben.slash(stage.tavern, "scene export", what=ABOUT_ME)

    ((name, text),) = (await files_in(result)).items()
    assert name == "about-me.json"
    first, second = json.loads(text)
    assert (first["prompt"], second["prompt"]) == ("ROMEO:", "In private")
    assert [take["number"] for take in first["takes"]] == [1, 2]
    assert first["message_id"] == str(message_of(reply).id)

    await stage.forget(stage.ben.id)
    result = await stage.ben.slash(stage.tavern, "scene export", what=ABOUT_ME)
    assert content_of(result) == REJECTIONS[Reason.NOTHING_STORED]
    assert not stage.env.errors


async def test_export_in_several_files(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        await stage.ben.slash(stage.garden, "bard", prompt=f"Speech {number}", max_chars=20)
    monkeypatch.setattr(scene, "FILE_LIMIT", 600)
    parts = await files_in(await stage.ben.slash(stage.garden, "scene export", what=ABOUT_ME))
    assert list(parts) == ["about-me-1.json", "about-me-2.json", "about-me-3.json"]
    exported: list[Any] = [turn for text in parts.values() for turn in json.loads(text)]
    assert [turn["prompt"] for turn in exported] == ["Speech 0", "Speech 1", "Speech 2"]


async def test_forget_deletes_a_persons_turns_in_all_channels(stage: Stage) -> None:
    reply = await stage.ben.slash(stage.garden, "bard", prompt="TYBALT:", max_chars=20)
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    await stage.ben.slash(stage.tavern, "bard", prompt="MERCUTIO:", max_chars=20)
    question = await stage.ben.slash(stage.garden, "scene forget", what=MINE)
    assert question.ephemeral
    assert content_of(question) == FORGET_MINE
    await stage.restart()
    await stage.ben.click(message_of(question), label="Forget my words")

    assert content_of(question) == "Forgotten, word for word: 2 speeches."
    assert not message_of(question).components
    await stage.ann.slash(stage.garden, "bard", prompt="JULIET:", max_chars=20)
    assert stage.contexts[-1].startswith("ROMEO:\n")
    await stage.ann.slash(stage.tavern, "bard", prompt="JULIET:", max_chars=20)
    assert stage.contexts[-1] == "JULIET:\n"
    assert REJECTIONS[Reason.TURN_FORGOTTEN] in content_of(
        await stage.ben.click(message_of(reply), label="Continue")
    )
    assert len(stage.garden.history()) == 3


async def test_second_press_does_not_say_that_nothing_was_forgotten(stage: Stage) -> None:
    await stage.ben.slash(stage.garden, "bard", prompt="TYBALT:", max_chars=20)
    question = await stage.ben.slash(stage.garden, "scene forget", what=MINE)
    buttons = message_of(question).components
    for _ in range(2):
        message_of(question)._message.components = buttons  # pressed before they disappeared
        await stage.ben.click(message_of(question), label="Forget my words")
        assert content_of(question) == "Forgotten, word for word: 1 speech."


async def test_forgetting_goes_on_when_the_database_can_be_used_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.ben.slash(stage.garden, "bard", prompt="TYBALT:", max_chars=20)
    question = await stage.ben.slash(stage.garden, "scene forget", what=MINE)

    async def fail(*_args: object) -> None:
        raise RejectedError(Reason.MEMORY_BUSY)

    with monkeypatch.context() as patch:
        patch.setattr(stage.bard.turns.deletions, "record", fail)
        failed = await stage.ben.click(message_of(question), label="Forget my words")
        assert REJECTIONS[Reason.MEMORY_BUSY] in content_of(failed)
    with monkeypatch.context() as patch:
        patch.setattr(stage.bard.turns.deletions, "_delete_pieces", fail)
        await stage.ben.click(message_of(question), label="Forget my words")
        assert content_of(question) == FORGET_LATER
    await stage.env.advance_time(OWED_SECONDS + 1)
    assert await stage.turns(stage.garden.id, 1) == []


async def test_failure_does_not_let_the_next_press_find_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await stage.bard.runs.start(
        user_id=stage.ben.id,
        guild_id=None,
        channel_id=1,
        preset="quick",
        minutes=1,
        corpus=None,
    )
    await stage.bard.runs.end(run.id, "cancelled")
    question = await stage.ben.slash(stage.garden, "scene forget", what=MINE)

    async def fail(*_args: object) -> None:
        raise RejectedError(Reason.MEMORY_BUSY)

    with monkeypatch.context() as patch:
        patch.setattr(stage.bard.turns.deletions, "record", fail)
        await stage.ben.click(message_of(question), label="Forget my words")
    await stage.ben.click(message_of(question), label="Forget my words")
    assert content_of(question) == FORGOT_MARKS
    assert (await stage.bard.runs.get(run.id)).user_id == 0


async def test_forgetting_a_channel_names_what_is_not_speeches(stage: Stage) -> None:
    await stage.ben.slash(stage.garden, "scene join", **{"as": "ROMEO"})
    for text in (FORGOT_PARTS, FORGOT_NOTHING):
        question = await stage.ann.slash(stage.garden, "scene forget", what=CHANNEL)
        await stage.ann.click(message_of(question), label="Forget this channel")
        assert content_of(question) == text


async def test_moderator_may_forget_a_channel(stage: Stage) -> None:
    for number, member in enumerate((stage.ann, stage.ben)):
        fresh = bool(number)
        await member.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20, fresh=fresh)
    await stage.ben.slash(stage.tavern, "bard", prompt="MERCUTIO:", max_chars=20)
    question = await stage.ann.slash(stage.garden, "scene forget", what=CHANNEL)
    await stage.ann.click(message_of(question), label="Forget this channel")

    assert content_of(question) == "Forgotten, word for word: 2 speeches."
    await stage.ann.slash(stage.garden, "bard", prompt="JULIET:", max_chars=20)
    assert stage.contexts[-1] == "JULIET:\n"
    await stage.ann.slash(stage.tavern, "bard", prompt="JULIET:", max_chars=20)
    assert stage.contexts[-1].startswith("MERCUTIO:\n")


async def test_others_may_not_forget_a_channel(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    result = await stage.ben.slash(stage.garden, "scene forget", what=CHANNEL)
    assert content_of(result) == REJECTIONS[Reason.NOT_MODERATOR]
    assert result.ephemeral
    assert not message_of(result).components
    assert not stage.env.errors


async def test_confirmation_checks_the_permission_again(stage: Stage) -> None:
    mods = stage.guild.create_role("Mods", permissions=discord.Permissions(manage_messages=True))
    dee = stage.guild.add_member(stage.env.create_user("dee"), roles=[mods])
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    question = await dee.slash(stage.garden, "scene forget", what=CHANNEL)
    stage.env.backend.get_guild(stage.guild.id).members[dee.id].role_ids.clear()
    rejected = await dee.click(message_of(question), label="Forget this channel")
    assert content_of(rejected) == REJECTIONS[Reason.NOT_MODERATOR]
    assert len(await stage.turns(stage.garden.id, 1)) == 1


async def test_forget_can_be_declined_and_may_find_nothing(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    question = await stage.ann.slash(stage.garden, "scene forget", what=MINE)
    await stage.ann.click(message_of(question), label="Keep everything")
    assert content_of(question) == KEPT
    assert len(await stage.turns(stage.garden.id, 1)) == 1

    question = await stage.ben.slash(stage.garden, "scene forget", what=MINE)
    await stage.ben.click(message_of(question), label="Forget my words")
    assert content_of(question) == FORGOT_NOTHING


async def test_anyone_may_forget_a_direct_message(stage: Stage) -> None:
    ben = stage.ben.user
    await ben.slash("bard", prompt="ROMEO:", max_chars=20)
    assert "ben asks the bard" in text_of(await ben.slash("scene show"))
    question = await ben.slash("scene forget", what=CHANNEL)
    await ben.click(message_of(question), label="Forget this channel")
    assert content_of(question) == "Forgotten, word for word: 1 speech."


async def test_forgetting_ones_words_stops_ones_requests(stage: Stage) -> None:
    question = await stage.ben.slash(stage.garden, "scene forget", what=MINE)
    queue, guild = stage.bard.queue, stage.guild.id
    with queue.admit(1, stage.ben.id, guild) as own, queue.admit(2, stage.ann.id, guild) as other:
        await stage.ben.click(message_of(question), label="Forget my words")
        assert own.stopped
        assert not other.stopped


async def test_channel_that_is_not_known_cannot_be_forgotten(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = await stage.ann.slash(stage.garden, "scene forget", what=CHANNEL)
    monkeypatch.setattr(discord.Interaction, "channel_id", None)
    text = REJECTIONS[Reason.CHANNEL_UNKNOWN]
    pressed = await stage.ann.click(message_of(question), label="Forget this channel")
    assert [content_of(pressed), pressed.ephemeral] == [text, True]
    again = await stage.ann.slash(stage.garden, "scene forget", what=CHANNEL)
    assert [content_of(again), again.ephemeral] == [text, True]
