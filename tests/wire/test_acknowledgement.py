"""Every command, button and form is acknowledged though the database does not answer."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.wire.conftest import FIRST, Scene, new_scene, speech
from tests.wire.process import BotProcess
from tests.wire.server import Discord
from tests.wire.state import MANAGER, Json, Person

HELD = """
import asyncio, pathlib
from bot.storage.database import Database
attempt = Database._attempt
async def held(*args, **options):
    while pathlib.Path("held").exists():
        await asyncio.sleep(0.01)
    return await attempt(*args, **options)
Database._attempt = held
"""
"""No statement begins while there is the file "held"."""


@pytest_asyncio.fixture
async def holding(weights: Path, tmp_path: Path) -> AsyncIterator[Scene]:
    """A bot of its own, whose database waits while there is the file "held"."""
    async with Discord().running() as discord:
        bot = BotProcess(discord, tmp_path, weights, first=FIRST + HELD)
        try:
            await bot.start()
            async with new_scene(discord, bot) as scene:
                yield scene
        finally:
            await bot.close()


def names_of(command: Json) -> list[str]:
    """Return the names of a command of the chat: its own, or those of its parts."""
    parts = [part["name"] for part in command.get("options", []) if part["type"] == 1]
    return [f"{command['name']} {part}" for part in parts] or [command["name"]]


def manager(scene: Scene) -> Person:
    """Make another manager: one person may have two requests at a time."""
    person = scene.discord.person("Manager")
    scene.guild.permissions[person.id] = MANAGER
    return person


async def test_everything_is_acknowledged_while_the_database_does_not_answer(
    holding: Scene,
) -> None:
    scene, discord, garden, ann = holding, holding.discord, holding.garden, holding.ann
    scene.guild.permissions[ann.id] = MANAGER
    options: dict[str, dict[str, Any]] = {
        "bard": {"prompt": "ROMEO:"},
        "bard-about": {},
        "bard-admin block": {"user": scene.ben},
        "bard-admin unblock": {"user": scene.ben},
        "bard-admin servers": {},
        "bard-settings": {},
        "scene continue": {},
        "scene fresh": {},
        "scene show": {},
        "scene thread": {},
        "scene forget": {"what": "my words, everywhere"},
        "scene export": {"what": "all about me, as JSON"},
        "scene join": {"as": "ROMEO"},
        "scene leave": {},
        "scene dismiss": {"part": "ROMEO"},
        "scene parts": {},
        "schedule daily": {"time": "20:30", "channel": garden, "prompt": "ROMEO:"},
        "schedule list": {},
        "schedule remove": {"number": 1},
        "train start": {"resume": True},
        "train status": {},
        "train cancel": {},
        "train history": {},
        "train promote": {"run": 1},
        "train rollback": {},
        "train voices": {},
    }
    typed = [command for command in discord.world.commands[None] if command["type"] == 1]
    assert sorted(options) == sorted(name for command in typed for name in names_of(command))

    reply = await speech(await scene.ask("ROMEO:", by=ann))
    await speech(await scene.press(reply, "Reroll", by=ann))
    shown = await discord.slash("bard-settings", by=ann, at=garden)
    settings = await shown.private()
    limits = await scene.press(settings, "Length, cooldown, temperature", by=ann)
    prompt = await scene.press(reply, "Edit prompt", by=ann)
    for opened in (limits, prompt):
        await opened.form()
    asked = await discord.slash("scene forget", by=ann, at=garden, what="my words, everywhere")
    question = await asked.private()
    left_over = await speech(await scene.ask("JULIET:", by=scene.ben))

    (scene.bot.folder / "held").touch()
    for name, given in options.items():
        owned = name.startswith(("train", "bard-admin"))
        by = discord.owner if owned else manager(scene)
        exchange = await discord.slash(name, by=by, at=garden, **given)
        await exchange.acknowledged()
        assert not exchange.interaction.failed
    for label in ("Continue", "Reroll", "◀ Earlier take", "Delete"):
        exchange = await scene.press(reply, label, by=manager(scene))
        await exchange.acknowledged()
        assert not exchange.interaction.failed
    for pressing in (
        scene.press(reply, "Edit prompt", by=ann),
        scene.press(left_over, "Delete"),
        scene.press(question, "Forget my words", by=ann),
        discord.menu("Continue as Shakespeare", left_over, by=manager(scene)),
        discord.submit(limits, {"Longest reply": "50"}),
        discord.submit(prompt, {"Prompt": "NURSE:"}),
        discord.choose(settings, "bard:settings:channels", [garden], by=ann),
    ):
        exchange = await pressing
        await exchange.acknowledged()
        assert not exchange.interaction.failed

    (scene.bot.folder / "held").unlink()
    assert await scene.bot.stop() == 0
    assert not [line for line in scene.bot.lines if "Traceback" in line]
