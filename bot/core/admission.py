"""Whether a request is taken on: decided before it is acknowledged, so that a no is private."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from ..errors import RefusedError
from ..storage.guild_settings import Rules
from .request_queue import Request

if TYPE_CHECKING:
    from ..client import Bard

# By person and seconds: a server's new cooldown is in force at once.
Cooldowns = commands.DynamicCooldownMapping[tuple[int, int]]


def create_cooldowns() -> Cooldowns:
    """Return the cooldowns of all people, for any number of seconds; none for 0."""
    return commands.DynamicCooldownMapping(
        lambda key: app_commands.Cooldown(1, key[1]) if key[1] else None, lambda key: key
    )


@contextmanager
def admitted(interaction: discord.Interaction["Bard"], rules: Rules) -> Iterator[Request]:
    """Hold a place in the queue for an interaction.

    Raises:
        RefusedError: The bard may not speak here, or the queue has no place.
        CommandOnCooldown: The person asked a moment ago.
    """
    client = interaction.client
    _check_place(interaction, rules)
    # The library's own choice, the time of day, may be set back.
    now = time.monotonic()
    cooldown = client.cooldowns.get_bucket((interaction.user.id, rules.cooldown), now)
    if cooldown is not None and (seconds := cooldown.get_retry_after(now)) > 0:
        raise app_commands.CommandOnCooldown(cooldown, seconds)
    with client.queue.admit(interaction.id, interaction.user.id, interaction.guild_id) as request:
        if cooldown is not None:
            cooldown.update_rate_limit(now)
        yield request


def _check_place(interaction: discord.Interaction["Bard"], rules: Rules) -> None:
    parent_id = getattr(interaction.channel, "parent_id", None)
    if rules.channels and rules.channels.isdisjoint((interaction.channel_id, parent_id)):
        places = ", ".join(f"<#{channel_id}>" for channel_id in sorted(rules.channels))
        raise RefusedError(f"This is no stage of mine. In this server I play in: {places}")
