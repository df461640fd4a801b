"""Another extension of the host whose cog has a name of the bard's."""

from typing import Any

import discord
from discord import app_commands
from discord.ext import commands


class TrainCog(commands.Cog):
    """More commands."""

    @app_commands.command()
    async def about(self, interaction: discord.Interaction[Any]) -> None:
        """Show the host."""
        await interaction.response.send_message("About the package host")

    @app_commands.command()
    async def fail(self, _interaction: discord.Interaction[Any]) -> None:
        """Fail."""
        raise LookupError("a command of the host")


async def setup(bot: commands.AutoShardedBot) -> None:
    """Add the cog."""
    await bot.add_cog(TrainCog())
