"""Store who plays which part in the current scene of a channel."""

from dataclasses import dataclass

from .database import Database
from .records import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A speaker whom a person plays in the current scene of a channel."""

    name: str
    """The name before the colon of the speaker's lines."""
    user_id: int
    """The person."""
    active_at: float
    """When it was taken, or the bard last played in the scene; in seconds since 1970 UTC."""

    def is_named(self, name: str | None) -> bool:
        """Return whether a speaker's name is that of the part, in any case."""
        return name is not None and name.lower() == self.name.lower()


class PartStore:
    """Read and write parts. Every write is committed when its call returns.

    Triggers delete the parts of a channel when its scene changes. Once `load` was called, a place
    where nobody plays a part is known without a query.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        # Channels that may have parts; None before `load`.
        self._channels: set[int] | None = None

    async def load(self) -> None:
        """Read which channels have parts."""
        rows = await self._database.fetch("SELECT DISTINCT channel_id FROM parts")
        self._channels = {channel_id for (channel_id,) in rows}

    def may_have(self, place: Place) -> bool:
        """Return whether a place may have parts. One that a single person sees has none."""
        known = self._channels
        return not place.audience and (known is None or place.channel_id in known)

    async def held(self, place: Place, scene: int) -> list[Part]:
        """Return the parts of a place's scene, in the order in which they were taken."""
        if not self.may_have(place):
            return []
        rows = await self._database.fetch(
            "SELECT name, user_id, active_at FROM parts WHERE channel_id = ? AND scene = ?"
            " ORDER BY id",
            (place.channel_id, scene),
        )
        return [
            Part(name=name, user_id=user_id, active_at=active_at)
            for name, user_id, active_at in rows
        ]

    async def take(
        self, place: Place, scene: int, name: str, user_id: int, active_at: float
    ) -> Part:
        """Give a part to a person, who gives up any other one; return the part.

        A part that another person has stays theirs, and is returned.
        """
        if self._channels is not None:
            self._channels.add(place.channel_id)
        async with self._database.transaction() as statements:
            rows = await statements.fetch(
                "SELECT name, user_id, active_at FROM parts"
                " WHERE channel_id = ? AND name = ? AND scene = ?",
                (place.channel_id, name, scene),
            )
            if rows:
                held, holder, since = rows[0]
                return Part(name=held, user_id=holder, active_at=since)
            await statements.run(
                "DELETE FROM parts WHERE channel_id = ? AND (user_id = ? OR scene != ?)",
                (place.channel_id, user_id, scene),
            )
            await statements.run(
                "INSERT INTO parts (guild_id, channel_id, scene, name, user_id, active_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (place.guild_id, place.channel_id, scene, name, user_id, active_at),
            )
        return Part(name=name, user_id=user_id, active_at=active_at)

    async def touch(self, place: Place, active_at: float) -> None:
        """Record that the bard plays in the scene of a channel."""
        await self._database.run(
            "UPDATE parts SET active_at = ? WHERE channel_id = ?", (active_at, place.channel_id)
        )

    async def delete(self, place: Place, part: Part) -> None:
        """Delete a part, unless another person has it by now."""
        await self._database.run(
            "DELETE FROM parts WHERE channel_id = ? AND name = ? AND user_id = ?",
            (place.channel_id, part.name, part.user_id),
        )

    async def delete_all(self, place: Place) -> None:
        """Delete every part of a channel."""
        await self._database.run("DELETE FROM parts WHERE channel_id = ?", (place.channel_id,))

    async def delete_idle(self, before: float) -> int:
        """Delete the parts of scenes in which the bard has not played since a time.

        Args:
            before: In seconds since 1970 UTC.

        Returns:
            Their number.
        """
        return await self._database.run("DELETE FROM parts WHERE active_at < ?", (before,))
