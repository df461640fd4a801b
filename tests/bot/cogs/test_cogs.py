"""The lists of commands and buttons are complete, and every command declares where it works."""

from collections.abc import Iterator

from discord import AppCommandType

from bot.cogs import BUTTONS, COMMANDS
from bot.ui.components import Button
from tests.bot.conftest import Stage


def subclasses(kind: type[Button]) -> Iterator[type[Button]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


async def test_commands_are_those_that_the_cogs_add(stage: Stage) -> None:
    registered = stage.env.backend.commands[None].values()
    added = [(command["name"], AppCommandType(command["type"])) for command in registered]
    assert sorted(added) == sorted(COMMANDS)


def test_buttons_are_all_kinds_of_buttons() -> None:
    # By name, because an extension that a test reloads has classes of its own.
    assert sorted(kind.__name__ for kind in BUTTONS) == sorted(
        {kind.__name__ for kind in subclasses(Button)}
    )


async def test_contexts_and_install_types(stage: Stage) -> None:
    for command in stage.env.backend.commands[None].values():
        # Of servers: the settings and daily scenes. Of the bot's owner: also in direct messages
        # with the bot.
        contexts, installs = {
            "bard-settings": ([0], [0]),
            "schedule": ([0], [0]),
            "bard-admin": ([0, 1], [0]),
        }.get(command["name"], ([0, 1, 2], [0, 1]))
        assert command["contexts"] == contexts
        assert command["integration_types"] == installs
