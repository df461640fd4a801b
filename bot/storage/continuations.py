"""Read and write which turns of another channel the first scene of a thread goes on from."""

from dataclasses import dataclass

from .database import Database
from .records import Place, Turn


@dataclass(frozen=True, slots=True)
class Continuation:
    """Turns that the first scene of a thread goes on from."""

    place: Place
    """The channel, for everyone in it."""
    scene: int
    newest: int
    """Turns with higher ids are not continued."""


class ContinuationStore:
    """Read and write the continuations of threads. Every write is committed when its call returns.

    A continuation is deleted with the last of the turns that it refers to.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, place: Place) -> Continuation | None:
        """Return the turns that the first scene of a place goes on from; None for most places."""
        if place.audience:
            return None
        rows = await self._database.fetch(
            "SELECT channel_id, scene, newest FROM continuations WHERE thread_id = ?",
            (place.channel_id,),
        )
        if not rows:
            return None
        ((channel_id, scene, newest),) = rows
        return Continuation(Place(guild_id=place.guild_id, channel_id=channel_id), scene, newest)

    async def begin(self, thread_id: int, last: Turn) -> None:
        """Let the first scene of a thread go on from a turn that everyone in its channel sees.

        Nothing is stored if that turn and those before it were deleted meanwhile.
        """
        channel_id = last.place.channel_id
        await self._database.run(
            # A simulated Discord gives the ids of its threads again.
            "INSERT OR REPLACE INTO continuations (thread_id, channel_id, scene, newest)"
            " SELECT ?, ?, ?, ?"
            " WHERE EXISTS (SELECT 1 FROM turns"
            " WHERE channel_id = ? AND audience = 0 AND scene = ? AND id <= ?)",
            (thread_id, channel_id, last.scene, last.id, channel_id, last.scene, last.id),
        )

    async def end(self, place: Place) -> None:
        """Let a thread go on from nothing any more."""
        if not place.audience:
            await self._database.run(
                "DELETE FROM continuations WHERE thread_id = ?", (place.channel_id,)
            )
