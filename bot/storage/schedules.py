"""Read and write the daily scenes of servers. Each run is claimed once, for one day."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, time
from typing import Any, Literal

from ..errors import RejectedError
from .database import Database

PER_GUILD = 10
"""Daily scenes that a server may have."""
PAUSE_AFTER = 7
"""Failures in a row after which a schedule is paused."""

Outcome = Literal[
    "started",
    "played",
    "uncertain",
    "away",
    "busy",
    "gone",
    "forbidden",
    "not_allowed",
    "blocked",
    "not_served",
    "failed",
]
"""What became of a run.

`started`: it was claimed, and the bot ended before more was known. `uncertain`: it is not known
whether its message was sent. `away`: the bot was not running, or not connected. `busy`: it could
not begin in time, because of the queue or of an outage. `gone`, `forbidden`: the channel is, or
the bot may not send messages there. `not_allowed`: it is not among the channels of the server's
settings. `blocked`: the bot's owner has blocked the person who made it. `not_served`: BARD_GUILDS
does not name the server.
"""
FAILURES: frozenset[Outcome] = frozenset(
    {"gone", "forbidden", "not_allowed", "blocked", "not_served", "failed"}
)
"""Outcomes that will be the same on the next day unless somebody does something."""

_COLUMNS = (
    "id, guild_id, channel_id, parent_id, user_id, time, zone, prompt, last_day, due_at, outcome,"
    " failures, paused"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A daily scene."""

    id: int
    guild_id: int
    channel_id: int
    parent_id: int | None
    """Of a thread: the channel that it belongs to."""
    user_id: int
    """The person who made it."""
    time: time
    zone: str
    """Name in the IANA time zone database."""
    prompt: str
    last_day: date
    """The last day, in the time zone, that has had its run or has none."""
    due_at: float
    """Time of the next run, in seconds since 1970 UTC."""
    outcome: Outcome | None
    """Of the run of `last_day`; None before the first one."""
    failures: int
    """In a row."""
    paused: bool


class ScheduleStore:
    """The daily scenes of all servers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        *,
        guild_id: int,
        channel_id: int,
        parent_id: int | None,
        user_id: int,
        at: time,
        zone: str,
        prompt: str,
        last_day: date,
        due_at: float,
    ) -> Schedule | None:
        """Store a schedule; return None if its server has `PER_GUILD` already."""
        rows = await self._database.change(
            "INSERT INTO schedules (guild_id, channel_id, parent_id, user_id,"  # noqa: S608
            " time, zone, prompt, last_day, due_at) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?"
            " WHERE (SELECT count(*) FROM schedules WHERE guild_id = ?) < ?"
            f" RETURNING {_COLUMNS}",
            (
                *(guild_id, channel_id, parent_id, user_id, f"{at:%H:%M}", zone, prompt),
                *(last_day.isoformat(), due_at, guild_id, PER_GUILD),
            ),
        )
        return _schedule(rows[0]) if rows else None

    async def of_guild(self, guild_id: int) -> list[Schedule]:
        """Return the schedules of a server, oldest first."""
        return await self._schedules("WHERE guild_id = ? ORDER BY id", (guild_id,))

    async def due(self, now: float, limit: int) -> list[Schedule]:
        """Return schedules whose run is due, the longest due first."""
        return await self._schedules(
            "WHERE due_at <= ? AND NOT paused ORDER BY due_at LIMIT ?", (now, limit)
        )

    async def next_due_at(self) -> float | None:
        """Return the time of the next run of all, in seconds since 1970 UTC; None without any."""
        rows = await self._database.fetch("SELECT min(due_at) FROM schedules WHERE NOT paused")
        value = rows[0][0]
        return None if value is None else float(value)

    async def after(self, schedule_id: int, limit: int) -> list[Schedule]:
        """Return the schedules with the next higher ids."""
        return await self._schedules("WHERE id > ? ORDER BY id LIMIT ?", (schedule_id, limit))

    async def set_due(self, schedule: Schedule, due_at: float) -> None:
        """Correct the time of the next run, unless a run was claimed meanwhile."""
        await self._database.run(
            "UPDATE schedules SET due_at = ? WHERE id = ? AND last_day = ?",
            (due_at, schedule.id, schedule.last_day.isoformat()),
        )

    async def claim(
        self, schedule: Schedule, day: date, due_at: float, outcome: Outcome = "started"
    ) -> bool:
        """Claim the run of a day, before anything of it can be seen.

        Args:
            schedule: The schedule.
            day: The day.
            due_at: Time of the next run.
            outcome: What became of it, if that is known already.

        Returns:
            Whether it was not claimed before, and the schedule still exists.
        """
        return bool(
            await self._database.run(
                "UPDATE schedules SET last_day = :day, due_at = :due_at, outcome = :outcome"
                " WHERE id = :id AND last_day < :day",
                {"id": schedule.id, "day": day.isoformat(), "due_at": due_at, "outcome": outcome},
            )
        )

    async def release(self, schedule: Schedule, day: date) -> None:
        """Give back a claimed run of which nothing was stored or sent.

        Args:
            schedule: The schedule as it was before the claim.
            day: The day that was claimed.
        """
        await self._database.run(
            "UPDATE schedules SET last_day = ?, due_at = ?, outcome = ?"
            " WHERE id = ? AND last_day = ?",
            (
                *(schedule.last_day.isoformat(), schedule.due_at, schedule.outcome, schedule.id),
                day.isoformat(),
            ),
        )

    async def settle(self, schedule: Schedule, outcome: Outcome) -> Schedule | None:
        """Record what became of a claimed run, and pause the schedule after too many failures.

        Returns:
            The schedule as it is now; None if it was deleted meanwhile.
        """
        failed = outcome in FAILURES
        rows = await self._database.change(
            "UPDATE schedules SET outcome = :outcome,"  # noqa: S608
            " failures = iif(:failed, failures + 1, 0),"
            " paused = :failed AND failures + 1 >= :limit"
            f" WHERE id = :id RETURNING {_COLUMNS}",
            {"outcome": outcome, "failed": failed, "limit": PAUSE_AFTER, "id": schedule.id},
        )
        return _schedule(rows[0]) if rows else None

    async def remove(self, guild_id: int, schedule_id: int) -> Schedule | None:
        """Delete a schedule of a server and return it; None if the server has no such one."""
        deleted = await self._delete("id = ? AND guild_id = ?", (schedule_id, guild_id))
        return deleted[0] if deleted else None

    async def delete_channel(self, channel_id: int) -> list[Schedule]:
        """Delete the schedules of a channel and its threads, and return them."""
        return await self._delete("? IN (channel_id, parent_id)", (channel_id,))

    async def _delete(self, condition: str, values: tuple[int, ...]) -> list[Schedule]:
        """Delete schedules, and erase their prompts from the file."""
        rows = await self._database.change(
            f"DELETE FROM schedules WHERE {condition} RETURNING {_COLUMNS}",  # noqa: S608
            values,
        )
        if rows:
            self._database.erasure_owed = True
            with suppress(RejectedError):  # it stays owed
                await self._database.erase()
        return [_schedule(row) for row in rows]

    async def _schedules(self, condition: str, values: tuple[float, ...]) -> list[Schedule]:
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM schedules {condition}",  # noqa: S608 - all parts are constants
            values,
        )
        return [_schedule(row) for row in rows]


def _schedule(row: Iterable[Any]) -> Schedule:
    values = dict(zip(Schedule.__slots__, row, strict=True))
    values["time"] = time.fromisoformat(values["time"])
    values["last_day"] = date.fromisoformat(values["last_day"])
    values["paused"] = bool(values["paused"])
    return Schedule(**values)
