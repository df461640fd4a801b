"""A tour through every command and button: nothing that the bot sends breaks a rule."""

import pytest

from tests.wire.conftest import Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_reply(scene: Scene) -> None:
    asked = await scene.discord.slash(
        "bard", by=scene.ben, at=scene.garden, prompt="ROMEO:", max_chars=10
    )
    assert await asked.acknowledged() == 5
    reply = await asked.reply(lambda message: bool(message.embeds))
    assert reply.seen_by(scene.ann)
    assert reply.labels == ["Continue", "Reroll", "Delete"]
