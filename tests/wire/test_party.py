"""Two people play parts over the wire; the bot is killed while one of them writes a line."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from noskgpt.resources import weights_path
from tests.wire.conftest import FIRST, Scene, new_scene, speech
from tests.wire.process import BotProcess
from tests.wire.server import Discord

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def playing(tmp_path: Path) -> AsyncIterator[Scene]:
    """A scene of a bot with the bundled weights, by whose casts a person who is called answers."""
    async with Discord().running() as discord:
        bot = BotProcess(discord, tmp_path, weights_path(), first=FIRST)
        try:
            async with new_scene(discord, bot) as scene:
                yield scene
        finally:
            await bot.close()


async def test_parts_and_an_open_form_outlive_a_kill(playing: Scene) -> None:
    discord, garden = playing.discord, playing.garden
    for person, part in ((playing.ann, "juliet"), (playing.ben, "ROMEO")):
        joined = await discord.slash("scene join", by=person, at=garden, **{"as": part})
        assert not (await joined.says(f"plays {part.upper()} from now on")).private
    called = await speech(await playing.ask("O Romeo!", by=playing.ann))
    assert called.labels[0] == "Speak"
    assert "ROMEO, your line." in called.text
    await (await playing.press(called, "Speak", by=playing.ann)).private("played by")
    waiting = await discord.slash("scene continue", by=playing.ann, at=garden)
    await waiting.private("ROMEO's line")

    opened = await playing.press(called, "Speak", by=playing.ben)
    await opened.form()
    await playing.bot.restart()
    answer = await speech(await discord.submit(opened, {"Your line": "Juliet, @everyone!"}))
    assert "JULIET, your line." in answer.text
    assert "Ben speaks as ROMEO" in answer.text

    suggested = await discord.typed("scene dismiss", "part", "rom", by=playing.ann, at=garden)
    assert [choice["value"] for choice in await suggested.suggestions()] == ["ROMEO"]
    freed = await discord.slash("scene dismiss", by=playing.ann, at=garden, part="ROMEO")
    await freed.says("frees the part of ROMEO")
    listed = await discord.slash("scene parts", by=playing.ben, at=garden)
    assert "ROMEO" not in (await listed.private("JULIET: Ann")).text
    left = await discord.slash("scene leave", by=playing.ann, at=garden)
    await left.says("plays JULIET no longer")
