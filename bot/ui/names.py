"""Find out the display names of people."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import discord

from ..languages import Language
from .embeds import SOMEONE, one_line
from .hosts import Host
from .interactions import NETWORK_ERRORS

_NAME_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """The client that looks names up; the server, the person and the language for which it does."""

    client: Host
    guild: discord.Guild | None
    user: discord.User | discord.Member
    language: Language


def viewpoint_of(interaction: discord.Interaction[Any], language: Language) -> Viewpoint:
    """Return the viewpoint of the sender of an interaction, for an answer in a language."""
    return Viewpoint(interaction.client, interaction.guild, interaction.user, language)


async def names_of(
    interaction: discord.Interaction[Any], ids: Iterable[int], language: Language
) -> dict[int, str]:
    """Return display names by user id: the server's for its members, else the user's own."""
    names, viewpoint = {}, viewpoint_of(interaction, language)
    for user_id in dict.fromkeys(ids):
        names[user_id] = await name_of(viewpoint, user_id)
    return names


async def name_of(viewpoint: Viewpoint, user_id: int) -> str:
    """Return a person's display name, which may take a request to Discord."""
    if user_id == viewpoint.user.id:
        return viewpoint.user.display_name
    # Each request may fail: the person has left, the bot is no member, the account is deleted.
    with suppress(discord.HTTPException, *NETWORK_ERRORS):
        if viewpoint.guild is not None:
            known = viewpoint.guild.get_member(user_id)
            return (known or await viewpoint.guild.fetch_member(user_id)).display_name
    with suppress(discord.HTTPException, *NETWORK_ERRORS):
        user: discord.User = await viewpoint.client.fetch_user(user_id)
        return user.display_name
    return viewpoint.language(SOMEONE)


def plain(name: str) -> str:
    """Return a display name on one line, without formatting."""
    return discord.utils.escape_markdown(one_line(name, _NAME_SHOWN))
