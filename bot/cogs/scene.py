"""`/scene`: what a channel's scene does besides answering, and replies deleted by hand."""

from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.replies import ask_of, perform

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
        await perform(interaction, ask_of(interaction, None))

    @commands.Cog.listener()
    async def on_raw_message_delete(self, payload: discord.RawMessageDeleteEvent) -> None:
        """Take a deleted reply out of its scene."""
        await self.bot.scenes.strike(payload.channel_id, {payload.message_id})

    @commands.Cog.listener()
    async def on_raw_bulk_message_delete(self, payload: discord.RawBulkMessageDeleteEvent) -> None:
        """Take deleted replies out of their scene."""
        await self.bot.scenes.strike(payload.channel_id, payload.message_ids)
