"""`/scene thread`: a scene goes on in a thread of its own."""

import sqlite3
from contextlib import closing

import discord
import pytest
from simcord.actors import MemberActor
from simcord.builders import ChannelHandle
from simcord.results import InteractionResult

from bot.errors import Reason
from bot.storage import database
from bot.ui.responses import REJECTIONS, TOO_MANY_THREADS
from bot.ui.threads import BEGINS, OPENED_ANEW
from tests.bot.conftest import Stage, content_of, exported_file, message_of, text_of

MINE, CHANNEL = "my words, everywhere", "all of this channel"


async def ask(stage: Stage, prompt: str, at: ChannelHandle, **options: object) -> InteractionResult:
    """Send `/bard` as Ben."""
    return await stage.ben.slash(at, "bard", prompt=prompt, max_chars=40, **options)


async def open_thread(
    stage: Stage, by: MemberActor | None = None, **options: object
) -> ChannelHandle:
    """Send `/scene thread` in the garden, as Ben if not given; return the thread."""
    opened = await (by or stage.ben).slash(stage.garden, "scene thread", **options)
    assert opened.ephemeral
    thread = stage.garden.threads[-1]
    assert f"<#{thread.id}>" in content_of(opened)
    return thread


async def test_scene_goes_on_in_the_thread_and_stays_in_its_channel(stage: Stage) -> None:
    reply = message_of(await ask(stage, "ROMEO:", stage.garden))
    (turn,) = await stage.turns(stage.garden.id)
    thread = await open_thread(stage)
    assert "ROMEO" in str(thread.name)
    (opening,) = thread.history()
    assert f"{stage.garden.id}/{reply.id}" in opening.content

    text = f"ROMEO:\n{turn.reply}".rstrip()
    await ask(stage, "TYBALT:", stage.garden)  # is not part of the thread
    await stage.ben.slash(thread, "scene continue")
    assert stage.contexts[-1].rstrip() == text
    await stage.restart()
    await ask(stage, "JULIET:", thread)
    assert stage.contexts[-1].startswith(text)
    assert stage.contexts[-1].endswith("JULIET:\n")
    assert "TYBALT" not in stage.contexts[-1]
    await ask(stage, "NURSE:", stage.garden)
    assert "JULIET" not in stage.contexts[-1]

    page = text_of(await stage.ann.slash(thread, "scene show"))
    assert [name for name in ("ROMEO:", "JULIET:", "TYBALT:") if name in page] == [
        "ROMEO:",
        "JULIET:",
    ]
    script = await stage.ann.slash(thread, "scene export", what="the scene, as a script")
    assert (await exported_file(script)).startswith(text)


async def test_thread_has_the_name_that_it_is_given(stage: Stage) -> None:
    assert (await open_thread(stage, name="The balcony")).name == "The balcony"
    unnamed = await open_thread(stage)
    assert unnamed.name == "A scene"
    await ask(stage, "JULIET:", unnamed)
    assert stage.contexts == ["JULIET:\n"]


async def test_forgotten_words_are_gone_from_the_thread(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="HAMLET:", max_chars=20)
    await ask(stage, "ROMEO:", stage.garden)
    thread = await open_thread(stage)
    await stage.forget(stage.ben.id)
    await ask(stage, "JULIET:", thread)
    assert stage.contexts[-1].startswith("HAMLET:\n")
    assert "ROMEO" not in stage.contexts[-1]

    confirm = await stage.ann.slash(stage.garden, "scene forget", what=CHANNEL)
    await stage.ann.click(message_of(confirm), label="Forget this channel")
    await stage.ben.slash(thread, "scene continue")
    assert stage.contexts[-1].startswith("JULIET:\n")
    assert continuations(stage) == []


@pytest.mark.parametrize("how", ["fresh", "scene fresh", "forget", "delete"])
async def test_thread_that_is_over_goes_on_from_nothing(stage: Stage, how: str) -> None:
    await ask(stage, "ROMEO:", stage.garden)
    thread = await open_thread(stage)
    match how:
        case "fresh":
            await ask(stage, "HAMLET:", thread, fresh=True)
        case "scene fresh":
            await stage.ben.slash(thread, "scene fresh")
            await ask(stage, "HAMLET:", thread)
        case "forget":
            confirm = await stage.ann.slash(thread, "scene forget", what=CHANNEL)
            await stage.ann.click(message_of(confirm), label="Forget this channel")
            await ask(stage, "HAMLET:", thread)
        case _:
            shown = stage.env.bot.get_channel(thread.id)
            assert isinstance(shown, discord.Thread)
            await shown.delete()
            await stage.env.settle()
            assert continuations(stage) == []
            return
    assert stage.contexts[-1] == "HAMLET:\n"
    await ask(stage, "OPHELIA:", thread)
    assert stage.contexts[-1].startswith("HAMLET:\n")


async def test_private_scene_does_not_go_on_in_a_thread(stage: Stage) -> None:
    await ask(stage, "ROMEO:", stage.garden, private=True)
    thread = await open_thread(stage)
    assert thread.name == "A scene"
    refused = await stage.ben.slash(thread, "scene continue")
    assert content_of(refused) == REJECTIONS[Reason.NO_SCENE]


async def test_missing_permission_is_named(stage: Stage) -> None:
    denied = discord.PermissionOverwrite(create_public_threads=False)
    for name, who, reason in (
        ("yard", stage.guild.default_role, Reason.THREAD_NOT_ALLOWED_TO_BOT),
        ("kitchen", stage.ben, Reason.THREAD_NOT_ALLOWED_TO_MEMBER),
    ):
        channel = stage.guild.create_text_channel(name, overwrites={who: denied})
        refused = await stage.ben.slash(channel, "scene thread")
        assert refused.ephemeral
        assert content_of(refused) == REJECTIONS[reason].format(permissions="Create Public Threads")
        assert channel.threads == []
    assert not stage.env.errors


async def test_thread_that_discord_refuses_is_explained_and_stores_nothing(stage: Stage) -> None:
    await ask(stage, "ROMEO:", stage.garden)
    stage.env.inject_error("POST", "/channels/*/threads", status=400, code=160006)
    refused = await stage.ben.slash(stage.garden, "scene thread")
    assert refused.ephemeral
    assert TOO_MANY_THREADS in content_of(refused)
    assert continuations(stage) == []
    # The thread works without its first message.
    stage.env.inject_error("POST", "/channels/*/messages", status=403, code=50013)
    thread = await open_thread(stage)
    assert thread.history() == []
    await stage.ben.slash(thread, "scene continue")
    assert stage.contexts[-1].startswith("ROMEO:\n")
    assert not stage.env.errors


async def test_thread_begins_anew_if_the_database_is_busy_after_it_was_opened(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(stage, "ROMEO:", stage.garden)
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    path = stage.bard.settings.database_path
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        opened = await stage.ben.slash(stage.garden, "scene thread")
    thread = stage.garden.threads[-1]
    assert opened.ephemeral
    assert content_of(opened) == OPENED_ANEW.format(thread=f"<#{thread.id}>")
    assert [message.content for message in thread.history()] == [BEGINS]
    assert not stage.env.errors


async def test_thread_is_refused_where_there_can_be_none(stage: Stage) -> None:
    voice = stage.guild.create_voice_channel("gallery")
    thread = await open_thread(stage)
    text = REJECTIONS[Reason.NO_THREAD_HERE]
    assert content_of(await stage.ben.slash(voice, "scene thread")) == text
    assert content_of(await stage.ben.slash(thread, "scene thread")) == text
    assert content_of(await stage.ben.user.slash("scene thread")) == text
    assert not stage.env.errors


def continuations(stage: Stage) -> list[tuple[int]]:
    """Return the ids of the threads whose scenes go on from another channel."""
    with closing(sqlite3.connect(stage.bard.settings.database_path)) as connection:
        return connection.execute("SELECT thread_id FROM continuations").fetchall()
