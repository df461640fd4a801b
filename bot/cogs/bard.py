"""`/bard`: asking the bard."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.ext import commands

from bot import rendering
from bot.admission import admitted
from bot.guild_settings import MAX_TEMPERATURE, MIN_TEMPERATURE
from bot.history import Ask, Turn
from bot.progress import Progress
from bot.tree import answer
from noskgpt.generator import MAX_SEED

if TYPE_CHECKING:
    from bot.app import Bard

PROMPT_LIMIT = 1000


async def perform(interaction: discord.Interaction["Bard"], ask: Ask) -> None:
    """Play a turn as the answer to an interaction, which is not acknowledged yet.

    Raises:
        RefusedError, CommandOnCooldown: It is not taken on.
        SceneError: There is no scene to continue.
    """
    client = interaction.client
    rules = client.guild_settings.rules(interaction.guild_id)
    allowed = replace(ask, max_chars=min(ask.max_chars, rules.max_chars))
    with admitted(interaction, rules) as request:
        await interaction.response.defer(thinking=True)
        async with Progress(interaction, request, client.wait) as progress:

            async def show(turn: Turn, dropped: str) -> int:
                asker = interaction.user.display_name
                pages = rendering.embeds(turn, asker=asker, dropped=dropped)
                return (await progress.replace(pages)).id

            await client.scenes.play(allowed, show, request)
            if allowed != ask:
                await answer(interaction, f"Here my replies end at {rules.max_chars:,} characters.")


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
        max_chars: app_commands.Range[int, 1, limit] | None = None,
        temperature: app_commands.Range[float, MIN_TEMPERATURE, MAX_TEMPERATURE] | None = None,
        seed: app_commands.Range[int, 0, MAX_SEED] | None = None,
        fresh: bool = False,  # noqa: FBT001, FBT002 - an option of the command
    ) -> None:
        rules = interaction.client.guild_settings.rules(interaction.guild_id)
        ask = Ask(
            guild_id=interaction.guild_id,
            channel_id=interaction.channel_id or 0,
            user_id=interaction.user.id,
            # A lone surrogate, which JSON can carry, has no place in SQLite or in an answer.
            prompt=prompt.encode(errors="replace").decode(),
            max_chars=rules.usual_chars if max_chars is None else max_chars,
            temperature=rules.temperature if temperature is None else temperature,
            seed=seed,
            fresh=fresh,
        )
        await perform(interaction, ask)

    return bard
