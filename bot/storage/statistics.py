"""Read the totals over all turns. Triggers keep them, so that no reading depends on the number."""

import statistics
from dataclasses import dataclass

from .database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Totals since the database was created, deleted turns included."""

    scenes: int
    characters: int
    """Characters of all replies that were shown."""
    median_seconds: float | None
    """Median generation time of the last 100 turns that were shown; None without any."""
    timed: int
    """Number of turns that the median covers."""


class StatisticsStore:
    """Read the statistics."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> Statistics:
        """Return the totals and the median time of the last turns."""
        ((scenes, characters),) = await self._database.fetch(
            "SELECT scenes, characters FROM totals"
        )
        rows = await self._database.fetch("SELECT seconds FROM durations")
        seconds = [row[0] for row in rows]
        return Statistics(
            scenes=scenes,
            characters=characters,
            median_seconds=statistics.median(seconds) if seconds else None,
            timed=len(seconds),
        )
