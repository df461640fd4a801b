"""A bot with a command of its own, and the bard in it.

pip install /path/to/the/checkout
DISCORD_TOKEN=... python host.py
"""

import os

import discord
from discord import app_commands
from discord.ext import commands
from noskgpt_bard import CommandTranslator


class Host(commands.Bot):
    """A bot like any other; the bard needs no privileged intent."""

    def __init__(self) -> None:
        super().__init__(commands.when_mentioned, intents=discord.Intents.default())

    async def setup_hook(self) -> None:
        """Add the commands, and register them with Discord."""
        self.tree.add_command(ping)
        await self.load_extension("noskgpt_bard")  # adds /bard, /scene, /train and more
        # The names and descriptions of its commands in the languages that it has.
        await self.tree.set_translator(CommandTranslator())
        # The extension leaves this to its host. Once is enough until the commands change, as they
        # may with a new version of the extension; many hosts have a command for it.
        await self.tree.sync()


@app_commands.command()
async def ping(interaction: discord.Interaction) -> None:
    """Show that the bot is there."""
    await interaction.response.send_message("Pong")


if __name__ == "__main__":
    Host().run(os.environ["DISCORD_TOKEN"])
