"""`/scene`, and replies that are deleted by hand."""

import discord

from bot.scenes import NO_SCENE
from tests.bot.conftest import Stage, counted, said


async def test_goes_on_without_a_prompt(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    (first,) = await stage.bot.history.tail(stage.garden.id, 1, chars=1)
    result = await stage.ben.slash(stage.garden, "scene continue")

    assert 800 <= counted(result) <= 1000
    assert stage.contexts[-1] == f"ROMEO:\n{first.reply}"
    await stage.ben.slash(stage.garden, "bard", prompt="JULIET:", max_chars=20)
    assert stage.contexts[-1].endswith("\n\nJULIET:\n")
    assert len(stage.contexts[-1]) > 800


async def test_nothing_to_continue_is_said(stage: Stage) -> None:
    result = await stage.ann.slash(stage.garden, "scene continue")
    assert result.acknowledged
    assert NO_SCENE in said(result)
    assert stage.env.errors


async def test_deleted_reply_leaves_the_scene(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    doomed = await stage.ben.slash(stage.garden, "bard", prompt="TYBALT:", max_chars=20)
    assert doomed.response is not None
    await stage.ann.delete(doomed.response)
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


async def test_the_last_scene_emptied_stays_the_last(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    fresh = await stage.ann.slash(stage.garden, "bard", prompt="LEAR:", max_chars=20, fresh=True)
    assert fresh.response is not None
    await stage.ann.delete(fresh.response)
    await stage.ann.slash(stage.garden, "bard", prompt="FOOL:", max_chars=20)

    assert stage.contexts[-1] == "FOOL:\n"
