"""Remember which requests for deletion in the shared folder were carried out on this database."""

from collections.abc import Collection

from .database import Database


class SharedDeletionStore:
    """The ids of the requests that were carried out; they do not contain whose request it was."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, request: str) -> None:
        """Record that a request was carried out."""
        await self._database.run(
            "INSERT INTO shared_deletions VALUES (?) ON CONFLICT DO NOTHING", (request,)
        )

    async def open(self, requests: Collection[str]) -> list[str]:
        """Return those of the requests that were not carried out; forget all other ids."""
        rows = await self._database.fetch("SELECT request FROM shared_deletions")
        known = {row[0] for row in rows}
        for request in known.difference(requests):
            await self._database.run("DELETE FROM shared_deletions WHERE request = ?", (request,))
        return sorted(set(requests) - known)
