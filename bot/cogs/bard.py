"""Asking the bard: `/bard`, and the entry in a message's menu."""

from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.ext import commands

from noskgpt.inference.generator import MAX_SEED

from .. import rendering, script
from ..guild_settings import MAX_TEMPERATURE, MIN_TEMPERATURE
from ..replies import ask_of, perform
from ..tree import answer

if TYPE_CHECKING:
    from ..app import Bard

PROMPT_LIMIT = 1000
MENU = "Continue as Shakespeare"
NO_WORDS = (
    "I find no words in that message for me to go on from. "
    "Choose one with text in it, or begin with `/bard`."
)

# https://discord.com/developers/docs/interactions/application-commands#application-command-object
_CHOICES = 25
_CHOICE_LIMIT = 100


class BardCog(commands.Cog):
    """The command `/bard`, whose largest length is a setting, and its like in messages' menus."""

    def __init__(self, bot: "Bard") -> None:
        self.bot = bot
        self.command = _make_command(bot.settings.max_chars)
        self.menu = app_commands.ContextMenu(name=MENU, callback=_go_on_from)

    async def cog_load(self) -> None:
        """Add the commands to the bot's tree."""
        self.bot.tree.add_command(self.command, override=True)
        self.bot.tree.add_command(self.menu, override=True)

    async def cog_unload(self) -> None:
        """Take the commands out again."""
        self.bot.tree.remove_command(self.command.name)
        self.bot.tree.remove_command(self.menu.name, type=self.menu.type)


async def _go_on_from(interaction: discord.Interaction["Bard"], message: discord.Message) -> None:
    text = message.clean_content
    if not text and message.author == interaction.client.user:
        text = rendering.plain(message.embeds)
    if not text.strip():
        await answer(interaction, NO_WORDS)
        return
    await perform(interaction, ask_of(interaction, script.ending(text, PROMPT_LIMIT)))


async def _suggest(
    interaction: discord.Interaction["Bard"], typed: str
) -> list[app_commands.Choice[str]]:
    found = await interaction.client.suggestions.find(interaction.channel_id or 0, typed, _CHOICES)
    choices = []
    for suggestion in found:
        count = {0: "", 1: " (1 speech)"}.get(
            suggestion.speeches, f" ({suggestion.speeches:,} speeches)"
        )
        name = rendering.one_line(suggestion.prompt, _CHOICE_LIMIT - len(count))
        value = suggestion.prompt[:_CHOICE_LIMIT]
        if name and value.strip():
            choices.append(app_commands.Choice(name=name + count, value=value))
    return choices


def _make_command(limit: int) -> app_commands.Command[Any, ..., None]:
    @app_commands.command(name="bard", description="Ask the bard to go on from your words.")
    @app_commands.autocomplete(prompt=_suggest)
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
        ask = ask_of(
            interaction,
            prompt,
            max_chars=max_chars,
            temperature=temperature,
            seed=seed,
            fresh=fresh,
        )
        await perform(interaction, ask)

    return bard
