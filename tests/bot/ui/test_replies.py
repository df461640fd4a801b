"""The buttons of a reply: their effects, and the permissions that they check."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

import discord
import pytest
from simcord.results import InteractionResult, ResponseMessage

from bot.core.settlement import Sighting
from bot.errors import Reason
from bot.storage.records import Place, Turn
from bot.ui import replies
from bot.ui.embeds import reply_text
from bot.ui.interactions import Acknowledgement, acknowledge
from bot.ui.looks import looks_of
from bot.ui.responses import REJECTIONS, UNEXPECTED
from tests.bot.conftest import Stage, content_of, message_of, reply_length, text_of

EARLIER, LATER = "◀ Earlier take", "Later take ▶"


async def request_reply(stage: Stage, prompt: str = "ROMEO:", **options: object) -> ResponseMessage:
    """Send `/bard` as Ben in the garden; return the message of the reply."""
    result = await stage.ben.slash(stage.garden, "bard", prompt=prompt, max_chars=40, **options)
    return message_of(result)


async def stored_turns(stage: Stage, scene: int = 1) -> list[Turn]:
    """Return the shown turns of a scene in the garden."""
    return await stage.turns(stage.garden.id, scene)


def embed_text(message: ResponseMessage) -> str:
    (embed,) = message.embeds
    return f"{embed.author.name}\n{embed.title}\n{embed.description}"


def enabled_labels(message: ResponseMessage) -> list[str]:
    """Return the labels of the buttons that can be pressed."""
    buttons = (button for row in message.components for button in row["components"])
    return [button["label"] for button in buttons if not button.get("disabled")]


def is_ephemeral(result: InteractionResult, text: str) -> bool:
    """Return whether an ephemeral response or follow-up contains a text."""
    messages = [message for message in (result.response, *result.followups) if message]
    return any(message.ephemeral and text in message.content for message in messages)


async def test_anyone_may_continue(stage: Stage) -> None:
    reply = await request_reply(stage, temperature=1.5)
    (first,) = await stored_turns(stage)
    result = await stage.ann.click(reply, label="Continue")

    assert message_of(result).id != reply.id
    assert not result.ephemeral
    assert "ann: and then?\nThe scene goes on" in text_of(result)
    assert enabled_labels(message_of(result)) == ["Continue", "Reroll", "Delete"]
    assert enabled_labels(reply) == ["Continue", "Reroll", "Edit prompt", "Delete"]
    assert stage.contexts[-1] == f"ROMEO:\n{first.reply}"
    _, second = await stored_turns(stage)
    assert (second.user_id, second.max_chars, second.temperature) == (stage.ann.id, 40, 1.5)


async def test_buttons_work_after_a_restart(stage: Stage) -> None:
    reply = await request_reply(stage)
    await stage.restart()
    continued = message_of(await stage.ben.click(reply, label="Continue"))
    await stage.restart()
    await stage.ben.click(continued, label="Reroll")
    await stage.restart()
    await stage.ben.click(continued, label=EARLIER)
    await stage.restart()
    await stage.ben.click(continued, label=LATER)
    await stage.restart()
    first, second = await stored_turns(stage)
    assert (second.number, second.takes) == (2, 2)
    await stage.ben.click(continued, label="Delete")
    await stage.restart()
    assert await stored_turns(stage) == [first]


async def test_reply_of_unknown_id_is_found_by_its_buttons_and_its_text(stage: Stage) -> None:
    reply = await request_reply(stage)
    (turn,) = await stored_turns(stage)
    look = looks_of(stage.bot)
    unknown = replace(turn, message_id=None, shown=None, intent=1)
    sighting = await look(unknown)
    assert sighting is not None
    assert (sighting.message_id, sighting.text) == (reply.id, turn.reply)
    # Another database has had a turn with this number, too.
    other = replace(unknown, take=replace(turn.take, reply="Other words."))
    elsewhere = replace(unknown, place=replace(turn.place, channel_id=stage.tavern.id))
    same_words = replace(unknown, id=turn.id + 1)  # of a turn whose message has other buttons
    for absent in (other, elsewhere, same_words):
        assert await look(absent) == Sighting(None, readable=False)


async def test_note_below_a_reply_that_cannot_be_sent_brings_no_apology(stage: Stage) -> None:
    await stage.bard.guild_settings.change(stage.guild.id, max_chars=10)
    stage.env.inject_error("POST", "/webhooks/*", status=403)
    reply = await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=50)
    assert reply_length(reply) <= 10
    assert not reply.followups
    assert not stage.env.backend.faults


async def test_reroll_shows_another_take_in_the_same_message(stage: Stage) -> None:
    reply = await request_reply(stage)
    (first,) = await stored_turns(stage)
    result = await stage.ben.click(reply, label="Reroll")

    (second,) = await stored_turns(stage)
    assert second.id == first.id
    assert second.take.seed != first.take.seed
    assert stage.contexts == ["ROMEO:\n", "ROMEO:\n"]
    assert len(stage.garden.history()) == 1
    (message,) = stage.garden.history()
    (embed,) = message.embeds
    assert embed.author.name == "ben asks the bard"
    assert (embed.footer.text or "").startswith(f"Take 2 of 2 · {len(second.reply)} characters")
    assert result.followups == []
    assert enabled_labels(reply) == ["Continue", "Reroll", "Edit prompt", "Delete", EARLIER]


async def test_browsing_the_takes(stage: Stage) -> None:
    reply = await request_reply(stage)
    takes = await stored_turns(stage)
    for _ in range(2):
        await stage.ben.click(reply, label="Reroll")
        takes += await stored_turns(stage)

    for label, number, arrows in (
        (EARLIER, 2, [EARLIER, LATER]),
        (EARLIER, 1, [LATER]),
        (LATER, 2, [EARLIER, LATER]),
    ):
        await stage.ben.click(reply, label=label)
        (turn,) = await stored_turns(stage)
        assert turn.take == takes[number - 1].take
        (embed,) = reply.embeds
        assert (embed.footer.text or "").startswith(f"Take {number} of 3 · ")
        assert enabled_labels(reply) == ["Continue", "Reroll", "Edit prompt", "Delete", *arrows]
    # A new take comes last, whichever is shown.
    await stage.ben.click(reply, label="Reroll")
    (turn,) = await stored_turns(stage)
    assert (turn.number, turn.takes) == (4, 4)


async def test_context_has_the_take_that_is_shown(stage: Stage) -> None:
    reply = await request_reply(stage)
    (first,) = await stored_turns(stage)
    await stage.ben.click(reply, label="Reroll")
    (second,) = await stored_turns(stage)
    await request_reply(stage, "JULIET:")
    assert stage.contexts[-1].startswith(f"ROMEO:\n{second.reply}".rstrip())

    await stage.ben.click(reply, label=EARLIER)
    await stage.restart()
    await request_reply(stage, "NURSE:")
    assert stage.contexts[-1].startswith(f"ROMEO:\n{first.reply}".rstrip())
    assert first.reply != second.reply


async def test_reroll_of_an_earlier_turn_has_the_context_of_its_first_take(stage: Stage) -> None:
    await request_reply(stage, "ROMEO:")
    middle = await request_reply(stage, "JULIET:")
    last = await request_reply(stage, "NURSE:")
    before = await stored_turns(stage)
    await stage.ben.click(middle, label="Reroll")

    assert stage.contexts[-1] == stage.contexts[1]
    after = await stored_turns(stage)
    assert [turn.id for turn in after] == [turn.id for turn in before]
    assert after[2] == before[2]
    assert embed_text(last).startswith("ben asks the bard\nNURSE:")


async def test_reroll_of_a_turn_without_a_prompt(stage: Stage) -> None:
    await request_reply(stage)
    (first,) = await stored_turns(stage)
    result = await stage.ben.slash(stage.garden, "scene continue")
    await stage.ben.click(message_of(result), label="Reroll")
    assert stage.contexts[-1] == f"ROMEO:\n{first.reply}"
    assert "ben: and then?" in text_of(result)
    assert "Take 2 of 2" in text_of(result)
    assert reply_length(result) > 0


async def test_moderator_may_reroll_browse_and_delete(stage: Stage) -> None:
    reply = await request_reply(stage)
    await stage.ann.click(reply, label="Reroll")
    await stage.ann.click(reply, label=EARLIER)
    (turn,) = await stored_turns(stage)
    assert (turn.number, turn.takes, turn.user_id) == (1, 2, stage.ben.id)
    assert reply.embeds[0].author.name == "ben asks the bard"
    await stage.ann.click(reply, label="Delete")
    assert stage.garden.history() == []


async def test_others_are_rejected_with_an_ephemeral_response(stage: Stage) -> None:
    reply = await request_reply(stage)
    await stage.ben.click(reply, label="Reroll")
    cat = stage.guild.add_member(stage.env.create_user("cat"))
    before = await stored_turns(stage)
    for label in ("Reroll", EARLIER, "Delete"):
        assert is_ephemeral(await cat.click(reply, label=label), REJECTIONS[Reason.NOT_REQUESTER])
    assert await stored_turns(stage) == before
    assert len(stage.garden.history()) == 1


async def test_moderator_of_another_channel_is_rejected(stage: Stage) -> None:
    reply = await request_reply(stage)
    dee = stage.guild.add_member(stage.env.create_user("dee"))
    moderator = discord.PermissionOverwrite(manage_messages=True)
    kitchen = stage.guild.create_text_channel("kitchen", overwrites={dee: moderator})
    other = await stage.ben.slash(kitchen, "bard", prompt="ROMEO:", max_chars=9)

    assert is_ephemeral(await dee.click(reply, label="Delete"), REJECTIONS[Reason.NOT_REQUESTER])
    await dee.click(message_of(other), label="Delete")
    assert len(stage.garden.history()) == 1
    assert kitchen.history() == []


async def test_delete_deletes_the_message_and_the_text(stage: Stage) -> None:
    reply = await request_reply(stage, "TYBALT:")
    await stage.ben.click(reply, label="Reroll")
    result = await stage.ben.click(reply, label="Delete")

    assert stage.garden.history() == []
    assert result.followups == []
    await request_reply(stage, "JULIET:")
    assert stage.contexts[-1] == "JULIET:\n"
    with closing(sqlite3.connect(stage.bard.settings.database_path)) as connection:
        found = connection.execute(
            "SELECT turns.prompt FROM turns JOIN takes ON turn_id = id"
        ).fetchall()
    assert found == [("JULIET:",)]


async def test_words_are_forgotten_though_their_message_cannot_be_deleted(stage: Stage) -> None:
    reply = await request_reply(stage)
    stage.env.inject_error("DELETE", "/webhooks/*/@original", status=403, code=50013)
    result = await stage.ben.click(reply, label="Delete")
    assert is_ephemeral(result, REJECTIONS[Reason.MESSAGE_STAYS])
    assert await stored_turns(stage) == []
    assert is_ephemeral(
        await stage.ben.click(reply, label="Continue"), REJECTIONS[Reason.TURN_FORGOTTEN]
    )
    assert len(stage.garden.history()) == 1


async def test_turn_is_deleted_if_its_message_is_gone_already(stage: Stage) -> None:
    reply = await request_reply(stage)
    stage.env.inject_error("DELETE", "/webhooks/*/@original", status=404, code=10008)
    await stage.ben.click(reply, label="Delete")
    assert await stored_turns(stage) == []


@pytest.mark.parametrize("label", ["Continue", "Reroll", "Edit prompt", EARLIER])
async def test_buttons_of_a_forgotten_turn_are_rejected(stage: Stage, label: str) -> None:
    reply = await request_reply(stage)
    await stage.ben.click(reply, label="Reroll")
    await stage.forget(stage.ben.id)
    generated = len(stage.contexts)
    assert is_ephemeral(
        await stage.ben.click(reply, label=label), REJECTIONS[Reason.TURN_FORGOTTEN]
    )
    assert len(stage.contexts) == generated
    assert len(stage.garden.history()) == 1


async def test_private_message_of_a_forgotten_turn_is_deleted_by_the_person_who_sees_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20, private=True)
    await stage.forget(stage.ben.id)
    unknown = property(lambda _: None, lambda *_: None)  # Discord does not say who asked
    monkeypatch.setattr(discord.Message, "interaction_metadata", unknown)
    pressed = await stage.ben.click(message_of(asked), label="Delete")
    assert content_of(pressed) == ""
    assert [request.path for request in stage.env.http_requests if request.method == "DELETE"]


async def test_message_of_a_forgotten_turn_is_deleted_by_its_requester_or_a_moderator(
    stage: Stage,
) -> None:
    cleo = stage.guild.add_member(stage.env.create_user("cleo"))
    replies = [await request_reply(stage, prompt) for prompt in ("ROMEO:", "JULIET:", "NURSE:")]
    continued = message_of(await cleo.slash(stage.garden, "scene continue"))
    await stage.forget(stage.ben.id)
    await stage.restart()
    assert is_ephemeral(
        await cleo.click(replies[0], label="Delete"), REJECTIONS[Reason.TURN_FORGOTTEN]
    )
    for person, reply in ((stage.ben, replies[0]), (stage.ann, replies[1])):
        await person.click(reply, label="Delete")
    assert [message.id for message in stage.garden.history()] == [replies[2].id, continued.id]

    await stage.forget(cleo.id)
    await cleo.click(continued, label="Delete")
    assert [message.id for message in stage.garden.history()] == [replies[2].id]
    assert not stage.env.errors


async def test_turn_deleted_during_a_reroll_stays_deleted(stage: Stage) -> None:
    reply = await request_reply(stage)
    generate = stage.bard.inference.generate

    async def delete_first(*args: object, **options: object) -> object:
        await stage.forget(stage.ben.id)
        return await generate(*args, **options)  # type: ignore[arg-type]

    stage.bard.inference.generate = delete_first  # type: ignore[method-assign, assignment]
    assert is_ephemeral(
        await stage.ben.click(reply, label="Reroll"), REJECTIONS[Reason.TURN_FORGOTTEN]
    )
    with closing(sqlite3.connect(stage.bard.settings.database_path)) as connection:
        assert connection.execute("SELECT count(*) FROM takes").fetchone() == (0,)


async def test_take_that_cannot_be_shown_is_not_in_the_scene(stage: Stage) -> None:
    reply = await request_reply(stage)
    before = embed_text(reply)
    (first,) = await stored_turns(stage)
    stage.env.inject_error("PATCH", "/webhooks/*/@original", status=403, code=50013)
    assert is_ephemeral(await stage.ben.click(reply, label="Reroll"), "Error id")
    assert embed_text(reply) == before
    (turn,) = await stored_turns(stage)
    assert turn.reply == first.reply


async def test_failure_gets_a_response_and_releases_the_lock(stage: Stage) -> None:
    reply = await request_reply(stage)

    def fail(*_args: object, **_options: object) -> str:
        raise ZeroDivisionError

    stage.bard.inference.model.generate = fail  # type: ignore[method-assign]
    for label in ("Reroll", "Continue"):
        assert is_ephemeral(await stage.ben.click(reply, label=label), UNEXPECTED)
    assert len(stage.garden.history()) == 1
    del stage.bard.inference.model.generate
    await stage.ben.click(reply, label="Reroll")
    (turn,) = await stored_turns(stage)
    assert turn.takes == 2


async def test_presses_during_shutdown_are_rejected(stage: Stage) -> None:
    reply = await request_reply(stage)
    stage.bard.closing = True
    for label in ("Continue", "Reroll", "Delete"):
        assert is_ephemeral(await stage.ben.click(reply, label=label), REJECTIONS[Reason.CLOSING])
    assert len(stage.contexts) == 1


async def test_continue_in_an_earlier_scene_is_rejected(stage: Stage) -> None:
    old = await request_reply(stage)
    await request_reply(stage, "LEAR:", fresh=True)
    assert is_ephemeral(await stage.ben.click(old, label="Continue"), REJECTIONS[Reason.SCENE_OVER])
    # A reroll concerns the earlier scene alone.
    await stage.ben.click(old, label="Reroll")
    assert stage.contexts[-1] == "ROMEO:\n"
    assert [turn.prompt for turn in await stored_turns(stage, 2)] == ["LEAR:"]


async def test_context_of_a_reroll_lacks_a_turn_deleted_meanwhile(stage: Stage) -> None:
    first = await request_reply(stage)
    second = await request_reply(stage, "JULIET:")
    await stage.ben.click(second, label="Reroll")
    await stage.ann.delete(first)
    await stage.ben.click(second, label="Reroll")
    assert stage.contexts[-1] == "JULIET:\n"


async def test_buttons_in_a_direct_message(stage: Stage) -> None:
    ben = stage.ben.user
    reply = message_of(await ben.slash("bard", prompt="ROMEO:", max_chars=20))
    await ben.click(reply, label="Reroll")
    await ben.click(reply, label=EARLIER)
    await ben.click(reply, label="Continue")
    assert len(ben.dm_channel.history()) == 2
    await ben.click(reply, label="Delete")
    assert len(ben.dm_channel.history()) == 1
    (turn,) = await stage.turns(ben.dm_channel.id, 1)
    assert turn.prompt is None


async def test_edited_replies_mention_nobody(stage: Stage) -> None:
    reply = await request_reply(stage, "@everyone")
    await stage.ben.click(reply, label="Reroll")
    await stage.ben.click(reply, label="Continue")
    edits = [r.json for r in stage.env.http_requests if r.path.endswith("/@original")]
    assert len(edits) == 3
    assert all(
        isinstance(edit, dict) and edit["allowed_mentions"] == {"parse": []} for edit in edits
    )


@pytest.mark.parametrize(
    ("status", "code", "found"),
    [
        (404, 10008, Sighting(None)),
        (404, 10003, Sighting(None, readable=False)),
        (403, 50001, Sighting(None, readable=False, closed=True)),
        (500, 0, None),
    ],
)
async def test_only_a_missing_message_proves_that_its_turn_is_not_shown(
    stage: Stage, status: int, code: int, found: Sighting | None
) -> None:
    reply = await request_reply(stage)
    (turn,) = await stored_turns(stage)
    look = looks_of(stage.bot)
    assert await look(turn) == Sighting(reply_text(reply.embeds))
    stage.env.inject_error("GET", "/channels/*/messages/*", status=status, code=code)
    assert await look(turn) == found


async def test_token_of_a_press_proves_nothing_about_a_message_that_it_cannot_find(
    stage: Stage,
) -> None:
    reply = await request_reply(stage)
    await stage.ben.click(reply, label="Reroll")
    (turn,) = await stored_turns(stage)
    seen, look = Sighting(reply_text(reply.embeds)), looks_of(stage.bot)
    edits = [r.path for r in stage.env.http_requests if r.path.endswith("/@original")]
    rerolled = replace(turn, token=edits[-1].split("/")[-3])
    asked = replace(turn, token=edits[0].split("/")[-3], shown=None)
    stage.env.inject_error("GET", "/webhooks/*", status=404, code=10008, times=None)
    assert await look(rerolled) == seen
    assert await look(asked) == Sighting(None)


async def test_private_continuation_of_a_public_scene_is_not_looked_for_in_the_channel(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = await request_reply(stage)
    (first,) = await stored_turns(stage)

    async def in_private(interaction: discord.Interaction[Any], **_: Any) -> Acknowledgement:
        return await acknowledge(interaction, private=True)

    monkeypatch.setattr(replies, "acknowledge", in_private)
    add, known = stage.bard.turns.add, []

    async def recording(*args: Any, **values: Any) -> Turn:
        known.append(values["message_id"])
        return await add(*args, **values)

    monkeypatch.setattr(stage.bard.turns, "add", recording)
    result = await stage.ann.click(reply, label="Continue")
    assert result.ephemeral
    assert known == [None]
    assert stage.contexts[-1] == f"ROMEO:\n{first.reply}"
    assert await stored_turns(stage) == [first]
    own = Place(guild_id=stage.guild.id, channel_id=stage.garden.id, audience=stage.ann.id)
    (second,) = await stage.bard.turns.tail(own, 1, chars=1000)
    assert second.message_id == message_of(result).id
    again = await stage.ann.click(message_of(result), label="Continue")
    assert known == [None, message_of(again).id]
