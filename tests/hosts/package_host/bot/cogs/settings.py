"""An extension of the host whose cog has a name of the bard's."""

from typing import Any

import discord
from discord import app_commands
from discord.ext import commands


class Vote(
    discord.ui.DynamicItem[discord.ui.Button[discord.ui.View]], template=r"package:vote:([0-9]+)"
):
    """A button of the host that works after a restart."""

    def __init__(self, number: int) -> None:
        super().__init__(discord.ui.Button(label="Vote", custom_id=f"package:vote:{number}"))

    @classmethod
    async def from_custom_id(
        cls, _interaction: discord.Interaction[Any], _item: discord.ui.Item[Any], match: Any, /
    ) -> "Vote":
        """Return the pressed button."""
        return cls(int(match[1]))

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Count the vote."""
        await interaction.response.send_message(f"Vote for {self.custom_id[-1]}")


class Panel(discord.ui.View):
    """A persistent view of the host."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @discord.ui.button(label="Roles", custom_id="package:panel:roles")
    async def roles(
        self, interaction: discord.Interaction[Any], _: discord.ui.Button["Panel"]
    ) -> None:
        """Answer."""
        await interaction.response.send_message("Roles of the package host")


class SettingsCog(commands.Cog):
    """Commands, a prefix command and a listener."""

    @app_commands.command()
    async def settings(self, interaction: discord.Interaction[Any]) -> None:
        """Show the settings of the host."""
        view = Panel()
        view.add_item(Vote(7))
        view.stop()  # the persistent view and button handle the message's
        await interaction.response.send_message("Settings of the package host", view=view)

    @commands.hybrid_command()  # type: ignore[arg-type]  # its hint does not infer methods
    async def ping(self, context: commands.Context[Any]) -> None:
        """Answer a prefix command, or the slash command of its name."""
        await context.send("Pong of the package host")

    @commands.command()
    async def stumble(self, _context: commands.Context[Any]) -> None:
        """Fail in a prefix command."""
        raise LookupError("stumbled")

    @commands.Cog.listener()
    async def on_message(self, message: discord.Message) -> None:
        """Fail in a listener."""
        if message.content == "listeners fail" or "listeners fail" in message.clean_content:
            raise LookupError("listener")


async def setup(bot: commands.AutoShardedBot) -> None:
    """Add the cog, the view and the button."""
    await bot.add_cog(SettingsCog())
    bot.add_view(Panel())
    bot.add_dynamic_items(Vote)
