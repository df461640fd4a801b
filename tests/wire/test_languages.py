"""People of several languages over the wire, before and after a restart of the bot."""

from pathlib import Path

import pytest

from tests.wire.conftest import FIRST, new_scene, speech
from tests.wire.process import BotProcess
from tests.wire.server import Discord

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_languages_and_translated_commands_outlive_a_restart(
    tmp_path: Path, weights: Path
) -> None:
    async with Discord().running() as discord:
        bot = BotProcess(discord, tmp_path, weights, first=FIRST)
        try:
            async with new_scene(discord, bot) as scene:
                scene.guild.locale, scene.ben.locale = "fr", "de"
                refused = await discord.slash("scene continue", by=scene.ben, at=scene.garden)
                await refused.private("Hier gibt es noch keine Szene")
                reply = await speech(await scene.ask("ROMEO:"))
                assert reply.labels[:2] == ["Continuer", "Rejouer"]
                assert "Ben sollicite le barde" in reply.text

                await bot.restart()
                scene.guild.locale = "es-ES"
                second = await speech(await scene.ask("JULIET:"))
                assert second.labels[:2] == ["Continuar", "Otra versión"]
                scene.guild.locale = "pt-BR"
                again = await speech(await scene.press(second, "Continuar"))
                assert again.labels[:2] == ["Continuar", "Outra versão"]
                # They are registered once: Discord had the translations of the first process.
                assert len(discord.sent("PUT commands")) == 1
        finally:
            await bot.close()
