"""Name the permissions that are missing in a channel, as Discord's client names them."""

from collections.abc import Iterable, Mapping

import discord

from ..languages import Language, Text

NAMES: Mapping[str, Text] = {
    "view_channel": Text("View Channel"),
    "send_messages": Text("Send Messages"),
    "send_messages_in_threads": Text("Send Messages in Threads"),
    "embed_links": Text("Embed Links"),
    "create_public_threads": Text("Create Public Threads"),
}


def permission_names(permissions: Iterable[str], language: Language) -> str:
    """Return permissions as people know them, by the library's names of them."""
    return ", ".join(language(NAMES[name]) for name in permissions)


def missing(permissions: discord.Permissions, *needed: str) -> list[str]:
    """Return the library's names of needed permissions that are missing.

    Args:
        permissions: Those that somebody has.
        needed: The library's names of others.
    """
    return [name for name in needed if not getattr(permissions, name)]


def missing_to_send(
    permissions: discord.Permissions, *, thread: bool, embeds: bool = False
) -> list[str]:
    """Return the library's names of the permissions that are missing to send messages.

    Args:
        permissions: Those that somebody has in the channel.
        thread: Whether it is a thread.
        embeds: Whether the messages have embeds.
    """
    needed = ["view_channel", "send_messages_in_threads" if thread else "send_messages"]
    if embeds:
        needed.append("embed_links")
    return missing(permissions, *needed)
