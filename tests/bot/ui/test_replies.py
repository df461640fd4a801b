"""The buttons under a reply, pressed by those who may and by those who may not."""

import sqlite3
from contextlib import closing

import discord
import pytest
from simcord.results import InteractionResult, ResponseMessage

from bot.errors import Reason
from bot.storage.turns import Turn
from bot.ui.responses import REJECTIONS, UNEXPECTED
from tests.bot.conftest import Stage, counted, said, text_of

EARLIER, LATER = "◀ Earlier take", "Later take ▶"


async def ask(stage: Stage, prompt: str = "ROMEO:", **options: object) -> ResponseMessage:
    """Have Ben ask the bard; returns the reply."""
    result = await stage.ben.slash(stage.garden, "bard", prompt=prompt, max_chars=40, **options)
    return shown(result)


def shown(result: InteractionResult) -> ResponseMessage:
    assert result.response is not None
    return result.response


async def remembered(stage: Stage, scene: int = 1) -> list[Turn]:
    return await stage.bard.turns.tail(stage.garden.id, scene, chars=10_000)


def text_of_message(message: ResponseMessage) -> str:
    (embed,) = message.embeds
    return f"{embed.author.name}\n{embed.title}\n{embed.description}"


def labels(message: ResponseMessage) -> list[str]:
    (row,) = message.components
    return [button["label"] for button in row["components"] if not button.get("disabled")]


def refused(result: InteractionResult, why: str) -> bool:
    """Return whether a press was answered by `why`, to this person alone."""
    answers = [result.response, *result.followups]
    return any(a is not None and a.ephemeral and why in a.content for a in answers)


async def test_everyone_may_continue(stage: Stage) -> None:
    reply = await ask(stage, temperature=1.5)
    (first,) = await remembered(stage)
    result = await stage.ann.click(reply, label="Continue")

    assert shown(result).id != reply.id
    assert not result.ephemeral
    assert "ann: and then?\nThe scene goes on" in text_of(result)
    assert labels(shown(result)) == labels(reply) == ["Continue", "Reroll", "Delete"]
    assert stage.contexts[-1] == f"ROMEO:\n{first.reply}"
    _, second = await remembered(stage)
    assert (second.user_id, second.max_chars, second.temperature) == (stage.ann.id, 40, 1.5)


async def test_buttons_outlive_the_process(stage: Stage) -> None:
    reply = await ask(stage)
    await stage.restart()
    again = shown(await stage.ben.click(reply, label="Continue"))
    await stage.restart()
    await stage.ben.click(again, label="Reroll")
    await stage.restart()
    await stage.ben.click(again, label=EARLIER)
    await stage.restart()
    await stage.ben.click(again, label=LATER)
    await stage.restart()
    first, second = await remembered(stage)
    assert (second.take, second.takes) == (2, 2)
    await stage.ben.click(again, label="Delete")
    await stage.restart()
    assert await remembered(stage) == [first]


async def test_reroll_is_another_take_in_the_same_message(stage: Stage) -> None:
    reply = await ask(stage)
    (first,) = await remembered(stage)
    result = await stage.ben.click(reply, label="Reroll")

    (second,) = await remembered(stage)
    assert second.id == first.id
    assert second.seed != first.seed
    assert stage.contexts == ["ROMEO:\n", "ROMEO:\n"]
    assert len(stage.garden.history()) == 1
    (message,) = stage.garden.history()
    (embed,) = message.embeds
    assert embed.author.name == "ben asks the bard"
    assert (embed.footer.text or "").startswith(f"Take 2 of 2 · {len(second.reply)} characters")
    assert result.followups == []
    assert labels(reply) == ["Continue", "Reroll", EARLIER, "Delete"]


async def test_leafing_through_takes(stage: Stage) -> None:
    reply = await ask(stage)
    takes = await remembered(stage)
    for _ in range(2):
        await stage.ben.click(reply, label="Reroll")
        takes += await remembered(stage)

    for label, number, left in (
        (EARLIER, 2, [EARLIER, LATER]),
        (EARLIER, 1, [LATER]),
        (LATER, 2, [EARLIER, LATER]),
    ):
        await stage.ben.click(reply, label=label)
        (turn,) = await remembered(stage)
        assert (turn.reply, turn.seed) == (takes[number - 1].reply, takes[number - 1].seed)
        (embed,) = reply.embeds
        assert (embed.footer.text or "").startswith(f"Take {number} of 3 · ")
        assert labels(reply) == ["Continue", "Reroll", *left, "Delete"]
    # A new take goes behind the last, whichever is shown.
    await stage.ben.click(reply, label="Reroll")
    (turn,) = await remembered(stage)
    assert (turn.take, turn.takes) == (4, 4)


async def test_the_scene_remembers_the_take_that_is_shown(stage: Stage) -> None:
    reply = await ask(stage)
    (first,) = await remembered(stage)
    await stage.ben.click(reply, label="Reroll")
    (second,) = await remembered(stage)
    await ask(stage, "JULIET:")
    assert stage.contexts[-1].startswith(f"ROMEO:\n{second.reply}".rstrip())

    await stage.ben.click(reply, label=EARLIER)
    await stage.restart()
    await ask(stage, "NURSE:")
    assert stage.contexts[-1].startswith(f"ROMEO:\n{first.reply}".rstrip())
    assert first.reply != second.reply


async def test_reroll_of_an_earlier_turn_reads_what_stood_before_it(stage: Stage) -> None:
    await ask(stage, "ROMEO:")
    middle = await ask(stage, "JULIET:")
    last = await ask(stage, "NURSE:")
    before = await remembered(stage)
    await stage.ben.click(middle, label="Reroll")

    assert stage.contexts[-1] == stage.contexts[1]
    after = await remembered(stage)
    assert [turn.id for turn in after] == [turn.id for turn in before]
    assert after[2] == before[2]
    assert text_of_message(last).startswith("ben asks the bard\nNURSE:")


async def test_reroll_of_a_turn_without_prompt(stage: Stage) -> None:
    await ask(stage)
    (first,) = await remembered(stage)
    result = await stage.ben.slash(stage.garden, "scene continue")
    await stage.ben.click(shown(result), label="Reroll")
    assert stage.contexts[-1] == f"ROMEO:\n{first.reply}"
    assert "ben: and then?" in text_of(result)
    assert "Take 2 of 2" in text_of(result)
    assert counted(result) > 0


async def test_a_moderator_may_do_what_the_asker_may(stage: Stage) -> None:
    reply = await ask(stage)
    await stage.ann.click(reply, label="Reroll")
    await stage.ann.click(reply, label=EARLIER)
    (turn,) = await remembered(stage)
    assert (turn.take, turn.takes, turn.user_id) == (1, 2, stage.ben.id)
    assert reply.embeds[0].author.name == "ben asks the bard"
    await stage.ann.click(reply, label="Delete")
    assert stage.garden.history() == []


async def test_others_are_refused_in_private(stage: Stage) -> None:
    reply = await ask(stage)
    await stage.ben.click(reply, label="Reroll")
    cat = stage.guild.add_member(stage.env.create_user("cat"))
    before = await remembered(stage)
    for label in ("Reroll", EARLIER, "Delete"):
        assert refused(await cat.click(reply, label=label), REJECTIONS[Reason.NOT_REQUESTER])
    assert await remembered(stage) == before
    assert len(stage.garden.history()) == 1


async def test_moderating_another_channel_does_not_count(stage: Stage) -> None:
    reply = await ask(stage)
    dee = stage.guild.add_member(stage.env.create_user("dee"))
    moderator = discord.PermissionOverwrite(manage_messages=True)
    kitchen = stage.guild.create_text_channel("kitchen", overwrites={dee: moderator})
    other = await stage.ben.slash(kitchen, "bard", prompt="ROMEO:", max_chars=9)

    assert refused(await dee.click(reply, label="Delete"), REJECTIONS[Reason.NOT_REQUESTER])
    await dee.click(shown(other), label="Delete")
    assert len(stage.garden.history()) == 1
    assert kitchen.history() == []


async def test_delete_takes_the_message_and_the_words(stage: Stage) -> None:
    reply = await ask(stage, "TYBALT:")
    await stage.ben.click(reply, label="Reroll")
    result = await stage.ben.click(reply, label="Delete")

    assert stage.garden.history() == []
    assert result.followups == []
    await ask(stage, "JULIET:")
    assert stage.contexts[-1] == "JULIET:\n"
    with closing(sqlite3.connect(stage.bard.settings.database_path)) as connection:
        assert connection.execute("SELECT count(*) FROM takes").fetchone() == (0,)
        row = connection.execute("SELECT user_id, prompt, reply, state FROM turns").fetchone()
    assert row == (0, None, "", "deleted")


async def test_message_that_cannot_be_deleted_is_still_remembered(stage: Stage) -> None:
    reply = await ask(stage)
    stage.env.inject_error("DELETE", "/webhooks/*/@original", status=403, code=50013)
    result = await stage.ben.click(reply, label="Delete")
    assert refused(result, "Error id")
    assert len(await remembered(stage)) == 1
    await stage.ben.click(reply, label="Delete")
    assert await remembered(stage) == []


async def test_deleting_what_is_gone_already_forgets_it(stage: Stage) -> None:
    reply = await ask(stage)
    stage.env.inject_error("DELETE", "/webhooks/*/@original", status=404, code=10008)
    await stage.ben.click(reply, label="Delete")
    assert await remembered(stage) == []


@pytest.mark.parametrize("label", ["Continue", "Reroll", EARLIER, "Delete"])
async def test_forgotten_turns_say_so(stage: Stage, label: str) -> None:
    reply = await ask(stage)
    await stage.ben.click(reply, label="Reroll")
    await stage.bard.turns.delete_user(stage.ben.id)
    asked = len(stage.contexts)
    assert refused(await stage.ben.click(reply, label=label), REJECTIONS[Reason.TURN_FORGOTTEN])
    assert len(stage.contexts) == asked
    assert len(stage.garden.history()) == 1


async def test_turn_forgotten_while_it_is_played_again_stays_forgotten(stage: Stage) -> None:
    reply = await ask(stage)
    generate = stage.bard.inference.generate

    async def meanwhile(*args: object, **options: object) -> object:
        await stage.bard.turns.delete_user(stage.ben.id)
        return await generate(*args, **options)  # type: ignore[arg-type]

    stage.bard.inference.generate = meanwhile  # type: ignore[method-assign, assignment]
    assert refused(await stage.ben.click(reply, label="Reroll"), REJECTIONS[Reason.TURN_FORGOTTEN])
    with closing(sqlite3.connect(stage.bard.settings.database_path)) as connection:
        assert connection.execute("SELECT count(*) FROM takes").fetchone() == (0,)


async def test_take_that_could_not_be_shown_is_not_remembered(stage: Stage) -> None:
    reply = await ask(stage)
    before = text_of_message(reply)
    (first,) = await remembered(stage)
    stage.env.inject_error("PATCH", "/webhooks/*/@original", status=403, code=50013)
    assert refused(await stage.ben.click(reply, label="Reroll"), "Error id")
    assert text_of_message(reply) == before
    (turn,) = await remembered(stage)
    assert turn.reply == first.reply


async def test_failure_is_answered_and_frees_the_channel(stage: Stage) -> None:
    reply = await ask(stage)

    def fail(*_args: object, **_options: object) -> str:
        raise ZeroDivisionError

    stage.bard.inference.model.generate = fail  # type: ignore[method-assign]
    assert refused(await stage.ben.click(reply, label="Reroll"), UNEXPECTED)
    assert UNEXPECTED in said(await stage.ben.click(reply, label="Continue"))
    del stage.bard.inference.model.generate
    await stage.ben.click(reply, label="Reroll")
    (turn,) = await remembered(stage)
    assert turn.takes == 2


async def test_no_press_is_taken_while_the_bot_closes(stage: Stage) -> None:
    reply = await ask(stage)
    stage.bard.closing = True
    for label in ("Continue", "Reroll", "Delete"):
        assert refused(await stage.ben.click(reply, label=label), REJECTIONS[Reason.CLOSING])
    assert len(stage.contexts) == 1


async def test_continue_under_a_scene_that_is_over(stage: Stage) -> None:
    old = await ask(stage)
    await ask(stage, "LEAR:", fresh=True)
    assert refused(await stage.ben.click(old, label="Continue"), REJECTIONS[Reason.SCENE_OVER])
    # Its takes are a matter of that scene alone.
    await stage.ben.click(old, label="Reroll")
    assert stage.contexts[-1] == "ROMEO:\n"
    assert [turn.prompt for turn in await remembered(stage, 2)] == ["LEAR:"]


async def test_reply_deleted_by_hand_between_takes(stage: Stage) -> None:
    first = await ask(stage)
    second = await ask(stage, "JULIET:")
    await stage.ben.click(second, label="Reroll")
    await stage.ann.delete(first)
    await stage.ben.click(second, label="Reroll")
    assert stage.contexts[-1] == "JULIET:\n"


async def test_in_a_direct_message(stage: Stage) -> None:
    ben = stage.ben.user
    reply = shown(await ben.slash("bard", prompt="ROMEO:", max_chars=20))
    await ben.click(reply, label="Reroll")
    await ben.click(reply, label=EARLIER)
    await ben.click(reply, label="Continue")
    assert len(ben.dm_channel.history()) == 2
    await ben.click(reply, label="Delete")
    assert len(ben.dm_channel.history()) == 1
    (turn,) = await stage.bard.turns.tail(ben.dm_channel.id, 1, chars=10_000)
    assert turn.prompt is None


async def test_presses_mention_nobody(stage: Stage) -> None:
    reply = await ask(stage, "@everyone")
    await stage.ben.click(reply, label="Reroll")
    await stage.ben.click(reply, label="Continue")
    edits = [r.json for r in stage.env.http_requests if r.path.endswith("/@original")]
    assert len(edits) == 3
    assert all(
        isinstance(edit, dict) and edit["allowed_mentions"] == {"parse": []} for edit in edits
    )
