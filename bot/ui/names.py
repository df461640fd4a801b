"""Find out the display names of people."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import discord

from .embeds import SOMEONE
from .interactions import NETWORK_ERRORS


async def names_of(interaction: discord.Interaction[Any], ids: Iterable[int]) -> dict[int, str]:
    """Return display names by user id: the server's for its members, else the user's own."""
    names = {}
    for user_id in dict.fromkeys(ids):
        names[user_id] = await name_of(interaction, user_id)
    return names


async def name_of(interaction: discord.Interaction[Any], user_id: int) -> str:
    """Return a person's display name, which may take a request to Discord."""
    if user_id == interaction.user.id:
        return interaction.user.display_name
    # Each request may fail: the person has left, the bot is no member, the account is deleted.
    with suppress(discord.HTTPException, *NETWORK_ERRORS):
        if interaction.guild is not None:
            known = interaction.guild.get_member(user_id)
            return (known or await interaction.guild.fetch_member(user_id)).display_name
    with suppress(discord.HTTPException, *NETWORK_ERRORS):
        user: discord.User = await interaction.client.fetch_user(user_id)
        return user.display_name
    return SOMEONE
