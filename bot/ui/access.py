"""Know the roles of a person, and whether they may use the bard."""

from typing import Any

import discord

from ..bard import Bard
from .interactions import channels_of, place_of


def roles_of(user: discord.User | discord.Member) -> frozenset[int]:
    """Return the ids of a member's roles, among them the server's, which is everyone's.

    Outside servers, nobody has any.
    """
    if isinstance(user, discord.User):
        return frozenset()
    # The public attribute lacks the roles that the library does not know: all of them where the
    # host's intents hide servers, and where the bot is no member.
    return frozenset((user.guild.id, *user._roles))  # noqa: SLF001 - see above


def require_person(interaction: discord.Interaction[Any], bard: Bard) -> None:
    """Raise `RejectedError` unless the sender may use the bard in this server."""
    bard.admission.require_person(
        interaction.user.id,
        roles_of(interaction.user),
        bard.guild_settings.rules(interaction.guild_id),
    )


def require_channel(interaction: discord.Interaction[Any], bard: Bard) -> None:
    """Raise `RejectedError` unless the bard may reply in this channel."""
    rules = bard.guild_settings.rules(interaction.guild_id)
    bard.admission.require_channel(channels_of(place_of(interaction)), rules)
