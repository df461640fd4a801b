"""Keep the daily scenes of servers: add them, and claim each run once."""

import logging
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

from ..errors import Reason, RejectedError
from ..storage.records import Place, TurnRequest
from ..storage.schedules import PER_GUILD, Outcome, Schedule, ScheduleStore
from .schedule import Due, Zones, day_before_first, due, next_moment

log = logging.getLogger(__name__)

_PIECE = 100
"""Schedules whose times are computed at once, in a few ms."""


class DailyScenes:
    """The daily scenes of all servers.

    Args:
        store: Where they are stored.
        zones: The time zones.
    """

    def __init__(self, store: ScheduleStore, zones: Zones) -> None:
        self.store = store
        self.zones = zones

    async def add(
        self, place: Place, user_id: int, at: time, zone: ZoneInfo, prompt: str, now: datetime
    ) -> Schedule:
        """Add a schedule, whose first run is at the next moment with that time.

        Args:
            place: The channel; in a server.
            user_id: The person who makes it.
            at: Time of day.
            zone: The time zone of `at`.
            prompt: The first words of each scene.
            now: The present time.

        Raises:
            RejectedError: The server has too many.
        """
        assert place.guild_id is not None  # noqa: S101 - see above
        last_day = day_before_first(at, zone, now)
        schedule = await self.store.add(
            guild_id=place.guild_id,
            channel_id=place.channel_id,
            parent_id=place.parent_id,
            user_id=user_id,
            at=at,
            zone=zone.key,
            prompt=prompt,
            last_day=last_day,
            due_at=next_moment(last_day, at, zone).timestamp(),
        )
        if schedule is None:
            raise RejectedError(Reason.TOO_MANY_SCHEDULES, limit=PER_GUILD)
        return schedule

    async def remove(self, guild_id: int, schedule_id: int) -> Schedule:
        """Remove a schedule of a server and return it.

        Raises:
            RejectedError: The server does not have it.
        """
        schedule = await self.store.remove(guild_id, schedule_id)
        if schedule is None:
            raise RejectedError(Reason.UNKNOWN_SCHEDULE, number=schedule_id)
        return schedule

    async def last_zone(self, guild_id: int) -> str | None:
        """Return the time zone of a server's newest schedule; None without one."""
        schedules = await self.store.of_guild(guild_id)
        return schedules[-1].zone if schedules else None

    def zone_of(self, schedule: Schedule) -> ZoneInfo:
        """Return the time zone of a schedule; UTC if the database of time zones lacks it now."""
        zone = self.zones.find(schedule.zone)
        if zone is None:
            log.warning("There is no time zone %s any more: UTC replaces it", schedule.zone)
        return zone or ZoneInfo("UTC")

    def due(self, schedule: Schedule, now: datetime) -> Due | None:
        """Return the run of a schedule that is due; None if none is."""
        return due(schedule.last_day, schedule.time, self.zone_of(schedule), now)

    async def claim(self, schedule: Schedule, day: date, outcome: Outcome = "started") -> bool:
        """Claim the run of a day; see `ScheduleStore.claim`."""
        return await self.store.claim(schedule, day, self._due_at(schedule, day), outcome)

    async def realign(self) -> None:
        """Compute the time of every next run again: the rules of time zones may have changed."""
        last = 0
        while schedules := await self.store.after(last, _PIECE):
            for schedule in schedules:
                await self.correct(schedule)
            last = schedules[-1].id

    async def correct(self, schedule: Schedule) -> None:
        """Compute the time of the next run of a schedule again."""
        due_at = self._due_at(schedule, schedule.last_day)
        if due_at != schedule.due_at:
            await self.store.set_due(schedule, due_at)

    def _due_at(self, schedule: Schedule, last_day: date) -> float:
        return next_moment(last_day, schedule.time, self.zone_of(schedule)).timestamp()


def request_of(schedule: Schedule) -> TurnRequest:
    """Return the request for a run of a schedule."""
    return TurnRequest(
        place=place_of(schedule),
        user_id=schedule.user_id,
        prompt=schedule.prompt,
        fresh=True,
        quoted=True,  # not a line of the part that the person plays
    )


def place_of(schedule: Schedule) -> Place:
    """Return the place of a schedule's scenes."""
    return Place(
        guild_id=schedule.guild_id, channel_id=schedule.channel_id, parent_id=schedule.parent_id
    )
