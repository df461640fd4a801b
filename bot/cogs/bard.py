"""`/bard`: asking the bard."""

from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.history import Ask
from bot.replies import perform
from noskgpt.generator import MAX_SEED

if TYPE_CHECKING:
    from bot.app import Bard

DEFAULT_CHARS = 1000
DEFAULT_TEMPERATURE = 0.8
PROMPT_LIMIT = 1000


class BardCog(commands.Cog):
    """The command `/bard`. Its largest length is a setting, so it is made per bot."""

    def __init__(self, bot: "Bard") -> None:
        self.bot = bot
        self.command = _make_command(bot.settings.max_chars)

    async def cog_load(self) -> None:
        """Add the command to the bot's tree."""
        self.bot.tree.add_command(self.command, override=True)

    async def cog_unload(self) -> None:
        """Take the command out again."""
        self.bot.tree.remove_command(self.command.name)


def _make_command(limit: int) -> app_commands.Command[Any, ..., None]:
    usual = min(DEFAULT_CHARS, limit)

    @app_commands.command(name="bard", description="Ask the bard to go on from your words.")
    @app_commands.describe(
        prompt="A speaker, such as ROMEO:, or the beginning of a speech",
        max_chars="How long the reply may be, in characters",
        temperature="Low is careful, high is wild",
        seed="The same seed in the same scene gives the same reply",
        fresh="Start a new scene instead of continuing the last",
    )
    async def bard(
        interaction: discord.Interaction["Bard"],
        prompt: app_commands.Range[str, 1, PROMPT_LIMIT],
        max_chars: app_commands.Range[int, 1, limit] = usual,
        temperature: app_commands.Range[float, 0.1, 2.0] = DEFAULT_TEMPERATURE,
        seed: app_commands.Range[int, 0, MAX_SEED] | None = None,
        fresh: bool = False,  # noqa: FBT001, FBT002 - an option of the command
    ) -> None:
        await interaction.response.defer()
        ask = Ask(
            guild_id=interaction.guild_id,
            channel_id=interaction.channel_id or 0,
            user_id=interaction.user.id,
            # A lone surrogate, which JSON can carry, has no place in SQLite or in an answer.
            prompt=prompt.encode(errors="replace").decode(),
            max_chars=max_chars,
            temperature=temperature,
            seed=seed,
            fresh=fresh,
        )
        await perform(interaction, ask)

    return bard
