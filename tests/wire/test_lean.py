"""Test that the process that speaks loads neither PyTorch nor anything of training."""

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from bot.storage.database import open_database
from bot.storage.runs import RunStore
from noskgpt.checkpoint import load
from tests.wire.conftest import new_scene, speech
from tests.wire.process import BotProcess
from tests.wire.server import Discord

REPORT = """
import signal, sys
def report(*_):
    print("modules:", *sys.modules, file=sys.stderr, flush=True)
signal.signal(signal.SIGUSR1, report)
"""
HEAVY = ("matplotlib", "noskgpt.training", "pandas", "PIL", "scipy", "torch")

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def finished_run(database: Path, weights: str) -> int:
    """Store a run as one that has finished; return its id."""
    async with open_database(database) as opened:
        runs = RunStore(opened)
        run = await runs.start(
            user_id=1,
            guild_id=None,
            channel_id=1,
            preset="quick",
            minutes=1.0,
            corpus=None,
            start_weights=None,
        )
        await runs.end(run.id, "finished", weights=weights, loss=1.5)
        return run.id


async def modules(bot: BotProcess) -> set[str]:
    """Return the names of the modules that a bot has imported."""
    bot.lines.clear()
    bot.signal(signal.SIGUSR1)
    return set((await bot.logged("modules:")).split())


async def test_reply_about_export_promotion_and_voice_load_neither_pytorch_nor_training(
    weights: Path, corpus: Path, tmp_path: Path
) -> None:
    async with Discord().running() as discord:
        bot = BotProcess(discord, tmp_path, weights, first=REPORT, BARD_CORPUS=str(corpus))
        name = f"noskgpt-{load(weights).fingerprint()}"
        run = await finished_run(bot.database, name)
        folder = tmp_path / "runs" / str(run)
        folder.mkdir(parents=True)
        shutil.copy(weights, folder / "weights.pth")
        try:
            async with new_scene(discord, bot) as scene:
                reply = await speech(await scene.ask("ROMEO:"))
                await speech(await scene.press(reply, "Reroll"))
                about = await discord.slash("bard-about", by=scene.ben, at=scene.garden)
                await about.private()
                export = await discord.slash(
                    "scene export", by=scene.ben, at=scene.garden, what="the scene, as a script"
                )
                await export.private()
                await (await discord.slash("train promote", at=scene.garden, run=run)).reply(
                    lambda message: "Promoted" in message.text
                )
                await speech(await scene.ask("JULIET:"))
                await (await discord.slash("train rollback", at=scene.garden)).private(
                    "Rolled back"
                )
                named: dict[str, Any] = {"run": run, "as": "Kit"}
                await (await discord.slash("train promote", at=scene.garden, **named)).private(
                    "The voice Kit speaks"
                )
                spoken = await discord.slash(
                    "bard", by=scene.ben, at=scene.garden, prompt="NURSE:", voice="Kit"
                )
                assert "Voice: Kit" in str((await speech(spoken)).embeds)
                found = await modules(bot)
        finally:
            await bot.close()
    assert {"noskgpt.inference.generator", "bot.core.training_runner", "discord"} <= found
    assert not sorted(module for module in found if module.startswith(HEAVY))
