"""The bot that hosts the extension, with one connection to Discord or several."""

from discord.ext import commands

Host = commands.Bot | commands.AutoShardedBot


def has_direct_messages(host: Host) -> bool:
    """Return whether a host has shard 0, to which Discord sends what belongs to no server."""
    return 0 in (_shards(host) or (0,))


def shares_servers(host: Host) -> bool:
    """Return whether other processes of the same bot have servers that this one does not have."""
    shards = _shards(host)
    return shards is not None and len(shards) < (host.shard_count or 1)


def _shards(host: Host) -> tuple[int, ...] | None:
    """Return the shards that a host was given; None means all of them."""
    if isinstance(host, commands.AutoShardedBot):
        return None if host.shard_ids is None else tuple(host.shard_ids)
    return None if host.shard_id is None else (host.shard_id,)
