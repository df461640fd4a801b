"""`/scene`: what a channel's scene does besides answering, and replies deleted by hand."""

from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.cogs.bard import DEFAULT_CHARS, DEFAULT_TEMPERATURE
from bot.history import Ask
from bot.replies import perform

if TYPE_CHECKING:
    from bot.app import Bard


class SceneCog(commands.Cog):
    """The commands of a scene."""

    scene = app_commands.Group(name="scene", description="The scene played in this channel.")

    def __init__(self, bot: "Bard") -> None:
        self.bot = bot

    @scene.command(name="continue", description="Let the scene go on by itself.")
    async def go_on(self, interaction: discord.Interaction["Bard"]) -> None:
        """Play a turn without a prompt."""
        await interaction.response.defer()
        ask = Ask(
            guild_id=interaction.guild_id,
            channel_id=interaction.channel_id or 0,
            user_id=interaction.user.id,
            prompt=None,
            max_chars=min(DEFAULT_CHARS, self.bot.settings.max_chars),
            temperature=DEFAULT_TEMPERATURE,
        )
        await perform(interaction, ask)

    @commands.Cog.listener()
    async def on_raw_message_delete(self, payload: discord.RawMessageDeleteEvent) -> None:
        """Take a deleted reply out of its scene."""
        await self.bot.scenes.strike(payload.channel_id, {payload.message_id})

    @commands.Cog.listener()
    async def on_raw_bulk_message_delete(self, payload: discord.RawBulkMessageDeleteEvent) -> None:
        """Take deleted replies out of their scene."""
        await self.bot.scenes.strike(payload.channel_id, payload.message_ids)
