"""Store the people whom the bot's owner has blocked; a copy in memory answers without a query."""

from .database import Database


class BlockStore:
    """The blocked people. `load` reads them once; a change takes effect when its call returns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._blocked: dict[int, float] = {}
        """When each person was blocked, in seconds since 1970 UTC."""

    async def load(self) -> None:
        """Read the ids of all blocked people."""
        self._blocked = dict(await self._database.fetch("SELECT user_id, blocked_at FROM blocks"))

    def __contains__(self, user_id: object) -> bool:
        return user_id in self._blocked

    def blocked_at(self, user_id: int) -> float | None:
        """Return when a person was blocked last; None if they are not blocked."""
        return self._blocked.get(user_id)

    def all(self) -> dict[int, float]:
        """Return the blocked people, and when each was blocked last, in seconds since 1970 UTC."""
        return dict(self._blocked)

    async def add(self, user_id: int, blocked_at: float) -> bool:
        """Block a person; return False if they were blocked already.

        Args:
            user_id: The person.
            blocked_at: The time of the decision, in seconds since 1970 UTC.
        """
        new = user_id not in self._blocked
        await self._database.run(
            "INSERT INTO blocks (user_id, blocked_at) VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET blocked_at = excluded.blocked_at",
            (user_id, blocked_at),
        )
        self._blocked[user_id] = blocked_at
        return new

    async def remove(self, user_id: int) -> bool:
        """Lift the block of a person; return False if they were not blocked."""
        removed = await self._database.run("DELETE FROM blocks WHERE user_id = ?", (user_id,))
        self._blocked.pop(user_id, None)
        return removed > 0
