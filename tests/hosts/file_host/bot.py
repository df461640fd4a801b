"""A foreign host in one file: loads the extension in `setup_hook`, with settings of its own."""

import os
from pathlib import Path
from typing import Any

import discord
from discord import app_commands
from discord.ext import commands, tasks


class Tree(app_commands.CommandTree["Host"]):
    """Records what it checks and what fails."""

    async def interaction_check(self, interaction: discord.Interaction["Host"], /) -> bool:
        """Reject one member."""
        name = interaction.command.qualified_name if interaction.command else "an unknown command"
        interaction.client.checked.append(name)
        return interaction.user.name != "outlaw"

    async def on_error(
        self, interaction: discord.Interaction["Host"], error: app_commands.AppCommandError, /
    ) -> None:
        """Record and answer."""
        interaction.client.failed.append(f"tree: {error}")
        await interaction.response.send_message("The file host apologises", ephemeral=True)


class Vote(
    discord.ui.DynamicItem[discord.ui.Button[discord.ui.View]], template=r"file:vote:(?P<n>[0-9]+)"
):
    """A button of the host that works after a restart."""

    def __init__(self, number: int) -> None:
        super().__init__(discord.ui.Button(label="Vote", custom_id=f"file:vote:{number}"))

    @classmethod
    async def from_custom_id(
        cls, _interaction: discord.Interaction[Any], _item: discord.ui.Item[Any], match: Any, /
    ) -> "Vote":
        """Return the pressed button."""
        return cls(int(match["n"]))

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Count the vote."""
        await interaction.response.send_message(f"Vote for {self.custom_id[-1]}")


class Panel(discord.ui.View):
    """A persistent view of the host."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @discord.ui.button(label="Roles", custom_id="file:panel:roles")
    async def roles(
        self, interaction: discord.Interaction[Any], _: discord.ui.Button["Panel"]
    ) -> None:
        """Answer."""
        await interaction.response.send_message("Roles of the file host")


# The names of these cogs are those of classes of the extension.
class SettingsCog(commands.Cog):
    """Commands, a prefix command and a listener."""

    def __init__(self, host: "Host") -> None:
        self.host = host

    @app_commands.command()
    async def settings(self, interaction: discord.Interaction["Host"]) -> None:
        """Show the settings of the host."""
        view = Panel()
        view.add_item(Vote(7))
        view.stop()  # the persistent view and button handle the message's
        await interaction.response.send_message("Settings of the file host", view=view)

    @commands.command()
    async def ping(self, context: commands.Context["Host"]) -> None:
        """Answer a prefix command."""
        await context.send("Pong of the file host")

    @commands.command()
    async def stumble(self, _context: commands.Context["Host"]) -> None:
        """Fail in a prefix command."""
        raise LookupError("stumbled")

    @commands.Cog.listener()
    async def on_message(self, message: discord.Message) -> None:
        """Fail in a listener."""
        if message.content == "listeners fail":
            raise LookupError("listener")


class TrainCog(commands.Cog):
    """More commands, and a loop."""

    def __init__(self) -> None:
        self.beats = 0

    async def cog_load(self) -> None:
        """Start the loop."""
        self.beat.start()

    async def cog_unload(self) -> None:
        """Stop the loop."""
        self.beat.cancel()

    @tasks.loop(hours=1)
    async def beat(self) -> None:
        """Count."""
        self.beats += 1

    @app_commands.command()
    async def about(self, interaction: discord.Interaction["Host"]) -> None:
        """Show the host."""
        await interaction.response.send_message("About the file host")

    @app_commands.command()
    async def fail(self, _interaction: discord.Interaction["Host"]) -> None:
        """Fail."""
        raise LookupError("a command of the host")


class Host(commands.Bot):
    """The host.

    Args:
        extension: What it loads in `setup_hook`; None loads nothing.
        intents: None selects its usual ones.
    """

    def __init__(self, extension: str | None, intents: discord.Intents | None = None) -> None:
        usual = discord.Intents(guilds=True, members=True, messages=True, message_content=True)
        super().__init__(
            command_prefix="!",
            tree_cls=Tree,
            intents=usual if intents is None else intents,
            allowed_mentions=discord.AllowedMentions(everyone=False, users=True, roles=False),
            activity=discord.Game("cards"),
            status=discord.Status.idle,
        )
        self.extension = extension
        self.checked: list[str] = []
        self.failed: list[str] = []
        self.add_check(self.check_prefix_command)

    async def check_prefix_command(self, context: commands.Context["Host"]) -> bool:
        """Record a prefix command."""
        self.checked.append(f"!{context.command}")
        return True

    async def setup_hook(self) -> None:
        """Add what the host has, load the extension, register the commands."""
        await self.add_cog(SettingsCog(self))
        await self.add_cog(TrainCog())
        self.add_view(Panel())
        self.add_dynamic_items(Vote)
        if self.extension is not None:
            self.use_settings()
            await self.load_extension(self.extension)
        await self.tree.sync()

    def use_settings(self) -> None:
        """Set the extension's settings."""
        from noskgpt_bard import Settings  # noqa: PLC0415

        self.bard_settings = Settings(
            database=Path("bard/scenes.sqlite3"),
            runs_dir=Path("bard/runs"),
            weights=Path(os.environ["TINY_WEIGHTS"]),
            corpus=Path(os.environ["SMALL_CORPUS"]),
            cooldown=3,
            workers=1,
            retention_days=30,
        )

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
