"""Compute when daily scenes are due, from a time of day, a time zone and the last day of a run."""

import re
import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

GRACE = timedelta(hours=1)
"""How late a scene may begin."""
COMMON_ZONES = (
    "UTC",
    "America/Los_Angeles",
    "America/Denver",
    "America/Chicago",
    "America/New_York",
    "America/Sao_Paulo",
    "Europe/London",
    "Europe/Paris",
    "Europe/Berlin",
    "Europe/Helsinki",
    "Asia/Kolkata",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
)
"""Time zones that are suggested first."""

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_TIME = re.compile(r"([01]?[0-9]|2[0-3])[:.]([0-5][0-9])")
_NO_PLACES = frozenset({"Factory", "localtime"})
"""Names in the database of the system that stand for no time zone, or for that of the machine."""


class Zones:
    """The names of time zones, found whatever their case.

    Args:
        names: See `zoneinfo.available_timezones`.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {_folded(name): name for name in sorted(set(names) - _NO_PLACES)}

    @classmethod
    def read(cls) -> "Zones":
        """Read the names from the time zone database, which takes some 10 ms."""
        return cls(zoneinfo.available_timezones())

    def find(self, typed: str) -> ZoneInfo | None:
        """Return the time zone with a name; None if there is none."""
        name = self._names.get(_folded(typed))
        return None if name is None else ZoneInfo(name)

    def suggest(self, typed: str, *, first: str | None, limit: int) -> list[str]:
        """Return names for what somebody has typed of one.

        Args:
            typed: A part of the name; empty for common time zones.
            first: The name to return first if it fits.
            limit: The largest number of names.
        """
        part = _folded(typed)
        names = (*COMMON_ZONES, *(self._names.values() if part else ()))
        likely = dict.fromkeys((first, *names) if first else names)
        return [name for name in likely if part in _folded(name)][:limit]


def _folded(name: str) -> str:
    return name.strip().casefold().replace(" ", "_")


def parse_time(typed: str) -> time | None:
    """Return the time of day of a text such as `08:30`, up to 23:59; None for any other text."""
    match = _TIME.fullmatch(typed.strip())
    return match and time(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class Due:
    """A run that is due."""

    day: date
    """The day of the run in its time zone."""
    late: bool
    """Whether it is too late for it."""


def moment(day: date, at: time, zone: ZoneInfo) -> datetime | None:
    """Return the moment of a time of day, in UTC.

    A time that occurs twice on that day, because clocks are set back, is the first of the two. A
    time that does not occur, because clocks are set forward, is the moment at which they are.

    Returns:
        None if the time zone does not have that day at all.
    """
    local = datetime.combine(day, at, zone)
    earlier, later = sorted(local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if earlier == later or _has(zone, earlier, local):
        return earlier
    # Clocks are set forward between the two, because the offset at each is that before and after.
    offset = later.astimezone(zone).utcoffset()
    while later - earlier > _SECOND:
        middle = earlier + (later - earlier) // 2
        if middle.astimezone(zone).utcoffset() == offset:
            later = middle
        else:
            earlier = middle
    found = later.replace(microsecond=0)
    days = {instant.astimezone(zone).date() for instant in (found - _SECOND, found)}
    return found if day in days else None


def _has(zone: ZoneInfo, instant: datetime, local: datetime) -> bool:
    """Return whether clocks show a local time at an instant."""
    return instant.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None)


def day_before_first(at: time, zone: ZoneInfo, now: datetime) -> date:
    """Return the day before that of the first run of a schedule that is made now."""
    today = now.astimezone(zone).date()
    begins = moment(today, at, zone)
    return today if begins is None or begins <= now else today - _DAY


def next_moment(last_day: date, at: time, zone: ZoneInfo) -> datetime:
    """Return the moment of the first run after a day, in UTC."""
    day = last_day + _DAY
    while (found := moment(day, at, zone)) is None:
        day += _DAY
    return found


def due(last_day: date, at: time, zone: ZoneInfo, now: datetime) -> Due | None:
    """Return the newest run that is due; None if no run is.

    It is late after `GRACE`, and on the next day in its time zone. Runs of earlier days are over.

    Args:
        last_day: The last day with a run. No run of that day, or of one before it, is due, also if
            the clock was set back.
        at: The time of day.
        zone: The time zone.
        now: The present time.
    """
    today = now.astimezone(zone).date()
    for day in (today, today - _DAY, today - 2 * _DAY):
        if day <= last_day:
            return None
        begins = moment(day, at, zone)
        if begins is not None and begins <= now:
            same_day = begins.astimezone(zone).date() == today
            return Due(day, late=not same_day or now - begins > GRACE)
    return None
