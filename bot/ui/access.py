"""Know the roles of a person, and whether they may use the bard or change its settings."""

from typing import Any

import discord

from ..bard import Bard
from ..errors import Reason, RejectedError
from .interactions import place_of


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


def require_manager(interaction: discord.Interaction[Any]) -> None:
    """Raise `RejectedError` unless the sender may manage the server."""
    if not interaction.permissions.manage_guild:
        raise RejectedError(Reason.NOT_MANAGER)


def guild_of(interaction: discord.Interaction[Any]) -> int:
    """Return the id of the server of an interaction whose command exists in servers alone."""
    assert interaction.guild_id is not None  # noqa: S101 - managers exist in servers alone
    return interaction.guild_id


def require_channel(interaction: discord.Interaction[Any], bard: Bard) -> None:
    """Raise `RejectedError` unless the bard may reply in this channel."""
    rules = bard.guild_settings.rules(interaction.guild_id)
    bard.admission.require_channel(place_of(interaction).channel_ids, rules)
