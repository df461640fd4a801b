"""Name the permissions that are missing in a channel, as Discord's client names them."""

import discord

_NAMES = {
    "view_channel": "View Channel",
    "send_messages": "Send Messages",
    "send_messages_in_threads": "Send Messages in Threads",
    "embed_links": "Embed Links",
    "create_public_threads": "Create Public Threads",
}


def missing(permissions: discord.Permissions, *needed: str) -> list[str]:
    """Return the names of needed permissions that are missing.

    Args:
        permissions: Those that somebody has.
        needed: The library's names of others.
    """
    return [_NAMES[name] for name in needed if not getattr(permissions, name)]


def missing_to_send(
    permissions: discord.Permissions, *, thread: bool, embeds: bool = False
) -> list[str]:
    """Return the names of the permissions that are missing to send messages in a channel.

    Args:
        permissions: Those in the channel.
        thread: Whether it is a thread.
        embeds: Whether the messages have embeds.
    """
    needed = ["view_channel", "send_messages_in_threads" if thread else "send_messages"]
    if embeds:
        needed.append("embed_links")
    return missing(permissions, *needed)
