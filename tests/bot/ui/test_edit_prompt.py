"""*Edit prompt* below a reply: another take of the turn, from other words."""

import json
import sqlite3
from contextlib import closing

import pytest
from simcord.results import InteractionResult, ResponseMessage

from bot.errors import Reason
from bot.ui import interactions
from bot.ui.forms import PROMPT_FIELD
from bot.ui.responses import REJECTIONS
from tests.bot.conftest import Stage, content_of, exported_file, labels_of, message_of, text_of

EDIT = "Edit prompt"
EARLIER = "◀ Earlier take"


async def ask(stage: Stage, prompt: str = "ROMEO:") -> ResponseMessage:
    """Send `/bard` as Ben in the garden; return the message of the reply."""
    return message_of(await stage.ben.slash(stage.garden, "bard", prompt=prompt, max_chars=40))


async def open_form(stage: Stage, reply: ResponseMessage) -> InteractionResult:
    """Press *Edit prompt* as Ben; return the opened form."""
    opened = await stage.ben.click(reply, label=EDIT)
    assert opened.modal is not None, content_of(opened)
    return opened


def filled_in(opened: InteractionResult) -> str:
    """Return the text that a form opens with."""
    assert opened.modal is not None
    (label,) = opened.modal["components"]
    return str(label["component"].get("value", ""))


async def edit(stage: Stage, reply: ResponseMessage, prompt: str) -> InteractionResult:
    """Change the prompt of a reply as Ben."""
    return await stage.ben.submit_modal(await open_form(stage, reply), {PROMPT_FIELD: prompt})


async def test_changed_prompt_gives_another_take_in_the_same_message(stage: Stage) -> None:
    reply = await ask(stage)
    (first,) = await stage.turns(stage.garden.id)
    opened = await open_form(stage, reply)
    assert filled_in(opened) == "ROMEO:"
    await stage.ben.submit_modal(opened, {PROMPT_FIELD: "JULIET:"})

    assert stage.contexts == ["ROMEO:\n", "JULIET:\n"]
    (turn,) = await stage.turns(stage.garden.id)
    assert (turn.id, turn.prompt, turn.number, turn.takes) == (first.id, "JULIET:", 2, 2)
    (message,) = stage.garden.history()
    assert (message.id, message.embeds[0].title) == (reply.id, "JULIET:")
    assert message.embeds[0].author.name == "ben asks the bard"
    # What follows goes on from the words that are shown.
    await ask(stage, "NURSE:")
    assert stage.contexts[-1].startswith(f"JULIET:\n{turn.reply}".rstrip())


async def test_each_take_keeps_its_prompt_also_after_a_restart(stage: Stage) -> None:
    reply = await ask(stage)
    await edit(stage, reply, "JULIET:")
    await stage.ben.click(reply, label="Reroll")
    assert stage.contexts[-1] == "JULIET:\n"
    await stage.restart()
    shown = []
    for _ in range(2):
        await stage.ben.click(reply, label=EARLIER)
        shown.append(reply.embeds[0].title)
    assert shown == ["JULIET:", "ROMEO:"]
    await stage.ben.click(reply, label="Reroll")
    assert stage.contexts[-1] == "ROMEO:\n"

    await stage.ben.click(reply, label=EARLIER)
    page = text_of(await stage.ann.slash(stage.garden, "scene show"))
    assert "JULIET:" in page
    assert "ROMEO:" not in page
    suggested = await stage.ben.autocomplete(stage.garden, "bard", "prompt", "jul")
    assert "JULIET:" in {choice["value"] for choice in suggested}


async def test_exports_have_the_words_of_the_takes(stage: Stage) -> None:
    reply = await ask(stage)
    await edit(stage, reply, "JULIET:")
    script = await stage.ben.slash(stage.garden, "scene export", what="the scene, as a script")
    text = await exported_file(script)
    assert text.startswith("JULIET:\n")
    exported = await stage.ben.slash(stage.garden, "scene export", what="all about me, as JSON")
    (turn,) = json.loads(await exported_file(exported))
    assert [take["prompt"] for take in turn["takes"]] == ["ROMEO:", "JULIET:"]


async def test_form_that_was_opened_before_a_restart_is_answered(stage: Stage) -> None:
    reply = await ask(stage)
    opened = await open_form(stage, reply)
    await stage.restart()
    await stage.ben.submit_modal(opened, {PROMPT_FIELD: "TYBALT:"})
    assert stage.contexts == ["ROMEO:\n", "TYBALT:\n"]
    assert reply.embeds[0].title == "TYBALT:"
    assert not stage.env.errors


async def test_only_the_requester_may_change_the_words(stage: Stage) -> None:
    reply = await ask(stage)
    for other in (stage.ann, stage.guild.add_member(stage.env.create_user("cleo"))):
        refused = await other.click(reply, label=EDIT)
        assert refused.modal is None
        assert refused.ephemeral
        assert content_of(refused) == REJECTIONS[Reason.NOT_YOUR_WORDS]
    assert not stage.env.errors


async def test_form_is_refused_as_its_button_is(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = await ask(stage)
    with monkeypatch.context() as patch:
        patch.setattr(interactions, "CHECK_SECONDS", -1.0)  # a database that is too slow
        opened = await stage.ann.click(reply, label=EDIT)
    assert filled_in(opened) == "ROMEO:"  # what the message shows
    refused = await stage.ann.submit_modal(opened, {PROMPT_FIELD: "I am a fool."})
    assert REJECTIONS[Reason.NOT_YOUR_WORDS] in content_of(refused)
    assert reply.embeds[0].title == "ROMEO:"

    late = await open_form(stage, reply)
    await stage.forget(stage.ben.id)
    refused = await stage.ben.submit_modal(late, {PROMPT_FIELD: "JULIET:"})
    assert REJECTIONS[Reason.TURN_FORGOTTEN] in content_of(refused)
    assert stage.contexts == ["ROMEO:\n"]


@pytest.mark.settings(cooldown=60)
async def test_changed_prompt_waits_for_the_cooldown(stage: Stage) -> None:
    await stage.env.advance_time(1)
    reply = await ask(stage)
    refused = await edit(stage, reply, "JULIET:")
    assert "60 s" in content_of(refused)
    assert stage.contexts == ["ROMEO:\n"]


async def test_turn_without_a_prompt_has_none_to_change(stage: Stage) -> None:
    reply = await ask(stage)
    continued = await stage.ben.click(reply, label="Continue")
    assert EDIT in labels_of(reply)
    assert EDIT not in labels_of(message_of(continued))


async def test_deleted_words_leave_no_take_behind(stage: Stage) -> None:
    reply = await ask(stage)
    await edit(stage, reply, "sekritsekrit")
    await stage.ben.click(reply, label="Delete")
    assert stage.garden.history() == []
    with closing(sqlite3.connect(stage.bard.settings.database_path)) as connection:
        assert connection.execute("SELECT * FROM takes").fetchall() == []
