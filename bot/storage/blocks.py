"""Store the people whom the bot's owner has blocked; a copy in memory answers without a query."""

import time

from .database import Database


class BlockStore:
    """The blocked people. `load` reads them once; a change takes effect when its call returns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._blocked: set[int] = set()

    async def load(self) -> None:
        """Read the ids of all blocked people."""
        self._blocked = {row[0] for row in await self._database.fetch("SELECT user_id FROM blocks")}

    def __contains__(self, user_id: object) -> bool:
        return user_id in self._blocked

    async def add(self, user_id: int) -> bool:
        """Block a person; return False if they were blocked already."""
        added = await self._database.run(
            "INSERT OR IGNORE INTO blocks (user_id, blocked_at) VALUES (?, ?)",
            (user_id, time.time()),
        )
        self._blocked.add(user_id)
        return added > 0

    async def remove(self, user_id: int) -> bool:
        """Lift the block of a person; return False if they were not blocked."""
        removed = await self._database.run("DELETE FROM blocks WHERE user_id = ?", (user_id,))
        self._blocked.discard(user_id)
        return removed > 0
