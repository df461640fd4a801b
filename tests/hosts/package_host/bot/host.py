"""The host: sharded, with extensions of its own and settings from its environment."""

from typing import Any

import discord
from discord import app_commands
from discord.ext import commands

from .cogs import EXTENSIONS


class Tree(app_commands.CommandTree["Host"]):
    """Records what it checks and what fails."""

    async def interaction_check(self, interaction: discord.Interaction["Host"], /) -> bool:
        """Reject one member."""
        name = interaction.command.qualified_name if interaction.command else "an unknown command"
        self.client.checked.append(name)
        return interaction.user.name != "outlaw"

    async def on_error(
        self, interaction: discord.Interaction["Host"], error: app_commands.AppCommandError, /
    ) -> None:
        """Record and answer."""
        self.client.failed.append(f"tree: {error}")
        await interaction.response.send_message("The package host apologises", ephemeral=True)


class Host(commands.AutoShardedBot):
    """The host.

    Args:
        extension: What `create` was asked to load; `start_with_extension` loads it.
        intents: None selects its usual ones.
    """

    def __init__(self, extension: str | None, intents: discord.Intents | None = None) -> None:
        super().__init__(
            command_prefix=commands.when_mentioned,
            tree_cls=Tree,
            intents=discord.Intents.default() if intents is None else intents,
            allowed_mentions=discord.AllowedMentions(everyone=False, users=False, roles=True),
            activity=discord.CustomActivity("Sharded"),
            shard_count=2,
        )
        self.extension = extension
        self.checked: list[str] = []
        self.failed: list[str] = []

        @self.check
        async def record(context: commands.Context[Any]) -> bool:
            self.checked.append(f"@{context.command}")
            return True

    async def before_login(self) -> None:
        """Load the extension, as a host does inside `async with`."""
        if self.extension is not None:
            await self.load_extension(self.extension)

    async def setup_hook(self) -> None:
        """Load the host's extensions and register the commands."""
        for name in EXTENSIONS:
            await self.load_extension(name)
        await self.tree.sync()

    async def on_error(self, event_method: str, /, *_args: Any, **_kwargs: Any) -> None:
        """Record an error of a listener."""
        self.failed.append(f"event: {event_method}")

    async def on_command_error(
        self, _context: commands.Context[Any], error: commands.CommandError, /
    ) -> None:
        """Record an error of a prefix command."""
        self.failed.append(f"prefix: {error}")


def create(extension: str | None = None, intents: discord.Intents | None = None) -> Host:
    """Return the host."""
    return Host(extension, intents)
