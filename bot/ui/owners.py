"""Know the owners of the bot without a request to Discord."""

from collections.abc import Collection
from typing import Any

import discord
from discord import TeamMemberRole, TeamMembershipState
from discord.ext import commands

from ..bard import Bard
from ..errors import Reason, RejectedError
from .hosts import Host
from .interactions import acknowledge, acknowledge_press

OWN_CLIENT = "hosts_bard_alone"
"""Attribute of a client that exists for the bard alone."""
_ROLES = (TeamMemberRole.admin, TeamMemberRole.developer)
"""Roles in a team whose members may do what the owner may."""


async def require_owner(interaction: discord.Interaction[Any], bard: Bard) -> None:
    """Raise `RejectedError` unless the person owns the bot.

    Owners are the people in BARD_OWNER_IDS or, without it, those of the host. They are known
    without a request, so that this can be called before the acknowledgement. Only a host whose
    class has a rule of its own, `is_owner`, is asked, which may take long: the interaction is
    acknowledged before, visible to the person alone.
    """
    client, person = interaction.client, interaction.user
    if bard.settings.owner_ids:
        allowed = person.id in bard.settings.owner_ids
    elif getattr(client.is_owner, "__func__", None) is not commands.Bot.is_owner:
        await acknowledge(interaction, private=True)
        allowed = await client.is_owner(person)
    else:
        allowed = person.id in known_owners(client)
    if not allowed:
        raise RejectedError(Reason.NOT_OWNER)


async def acknowledge_owner(
    interaction: discord.Interaction[Any], bard: Bard, *, press: bool = False
) -> None:
    """Acknowledge an interaction of somebody who owns the bot, for that person alone.

    Args:
        interaction: The interaction.
        bard: The services.
        press: Whether it uses a control of a message, which is about to be edited.

    Raises:
        RejectedError: The person does not own the bot.
    """
    await require_owner(interaction, bard)
    if interaction.response.is_done():
        return  # `require_owner` had to
    if press:
        await acknowledge_press(interaction)
    else:
        await acknowledge(interaction, private=True)


def has_own_client(client: Host) -> bool:
    """Return whether a client exists for the bard alone, which may then make it leave servers."""
    return getattr(client, OWN_CLIENT, False) is True


def known_owners(client: Host) -> Collection[int]:
    """Return the owners whom the host has set, else those of its application.

    The library has the application since the login. Its own `is_owner` asks for it again, counts
    people who were invited to the team and have not accepted, and keeps the result where a host
    would set its owners.
    """
    application = client.application
    team = None if application is None else application.team
    members = [] if team is None else [m for m in team.members if m.role in _ROLES]
    if client.owner_id:
        return {client.owner_id}
    if client.owner_ids and set(client.owner_ids) != {member.id for member in members}:
        return client.owner_ids
    if team is not None:
        accepted = TeamMembershipState.accepted
        owner = {team.owner_id} if team.owner_id else set()
        return owner | {m.id for m in members if m.membership_state is accepted}
    return set() if application is None else {application.owner.id}
