"""Commands of the person who hosts the bot, beside the running bot: check, backup and restore."""

import asyncio

import pytest

from tests.wire.conftest import Scene, speech
from tests.wire.town import speeches

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_scenes_go_on_from_a_backup_that_was_made_while_members_asked(scene: Scene) -> None:
    bot = scene.bot
    backup = str(bot.database.with_name("saved.sqlite3"))
    first = await speech(await scene.ask("ROMEO:"))
    hall = await scene.discord.channel(scene.guild, "hall")
    asked = 0

    async def ask_on() -> None:
        nonlocal asked
        while True:
            await speech(await scene.ask("JULIET:", by=scene.ann, at=hall))
            asked += 1

    asking = asyncio.create_task(ask_on())
    code, printed = await bot.command("backup", backup)
    assert code == 0, printed
    assert "checked" in printed
    during = asked
    await scene.discord.until(lambda: asking.done() or asked > during, "another reply")
    assert not asking.done()
    asking.cancel()
    await asyncio.wait({asking})
    assert during
    code, printed = await bot.command("check")
    assert code == 0, printed
    assert "by a running bot" in printed
    assert scene.discord.token not in printed
    code, printed = await bot.command("restore", backup)
    assert code == 1
    assert "is in use by another bot" in printed
    assert "Traceback" not in printed

    await bot.kill()
    everything = bot.rows("SELECT count(*) FROM turns")[0][0]
    code, printed = await bot.command("restore", backup)
    assert code == 0, printed
    saved = bot.rows("SELECT count(*) FROM turns")[0][0]
    assert 0 < saved < everything
    await bot.start()
    assert await scene.read() == speeches(first)
    second = await speech(await scene.ask("JULIET:"))
    assert await scene.read() == speeches(first) + speeches(second)
    replies = await scene.read(hall, by=scene.ann)
    assert replies
    shown = [text for message in scene.seen(hall) for text in speeches(message)]
    assert set(replies) <= set(shown)
