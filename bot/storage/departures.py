"""Store which servers were told that the bot is about to leave them."""

import time

from .database import Database


class DepartureStore:
    """The servers that were told why the bot leaves them, and that it has not left yet."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def is_told(self, guild_id: int) -> bool:
        """Return whether a server was told."""
        return bool(
            await self._database.fetch("SELECT 1 FROM departures WHERE guild_id = ?", (guild_id,))
        )

    async def record(self, guild_id: int) -> None:
        """Record that a server was told."""
        await self._database.run(
            "INSERT OR REPLACE INTO departures (guild_id, told_at) VALUES (?, ?)",
            (guild_id, time.time()),
        )

    async def remove(self, guild_id: int) -> None:
        """Delete the record of a server that the bot has left: it may be invited again."""
        await self._database.run("DELETE FROM departures WHERE guild_id = ?", (guild_id,))
