"""When daily scenes are due: in every time zone, while clocks are set forward, back or wrongly."""

import functools
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bot.core.schedule import (
    GRACE,
    Due,
    Zones,
    day_before_first,
    due,
    moment,
    next_moment,
    parse_time,
)

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
ZONES = (
    "UTC",
    "Europe/Berlin",
    "Europe/Dublin",  # its summer time is the standard one
    "America/New_York",
    "America/Sao_Paulo",  # clocks were set at midnight
    "America/St_Johns",  # clocks were set at a minute past midnight
    "America/Nuuk",  # clocks are set on the evening before
    "Africa/Casablanca",  # four changes a year
    "Antarctica/Troll",  # by two hours
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Apia",  # 30 December 2011 did not exist
    "Pacific/Kwajalein",  # nor 21 August 1993
    "Pacific/Chatham",
)
FIRST, LAST = date(1990, 1, 1), date(2036, 12, 31)
TIMES = st.builds(time, st.integers(0, 23), st.integers(0, 59))


@functools.cache
def changes(name: str) -> list[date]:
    """Return the days on which the offset of a time zone changes."""
    zone, found, before = ZoneInfo(name), [], None
    for number in range((LAST - FIRST).days):
        day = FIRST + number * DAY
        offset = datetime.combine(day, time(12), zone).utcoffset()
        if before is not None and offset != before:
            found.append(day)
        before = offset
    return found or [FIRST]


@st.composite
def days(draw: st.DrawFn) -> tuple[ZoneInfo, date]:
    """Return a time zone and a day, most often one on which clocks are set, or its neighbour."""
    name = draw(st.sampled_from(ZONES))
    near = st.sampled_from(changes(name))
    day = draw(st.one_of(near, near, st.dates(FIRST, LAST)))
    return ZoneInfo(name), day + draw(st.integers(-1, 1)) * DAY


def local(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)


APIA = ZoneInfo("Pacific/Apia")


@given(days(), TIMES)
@example((APIA, date(2011, 12, 30)), time(0, 0))
def test_moment_is_the_first_at_which_clocks_show_the_time_or_a_later_one(
    place: tuple[ZoneInfo, date], at: time
) -> None:
    """Compared with a clock that is watched minute by minute."""
    zone, day = place
    wanted = datetime.combine(day, at)
    instant = datetime.combine(day, at, UTC) - timedelta(hours=15)
    while local(instant, zone) < wanted:
        instant += MINUTE
    exists = day in {local(instant, zone).date(), local(instant - MINUTE, zone).date()}
    assert moment(day, at, zone) == (instant if exists else None)


@given(days(), TIMES)
@example((APIA, date(2011, 12, 29)), time(0, 0))
def test_following_moments_are_days_apart_and_each_is_due_once(
    place: tuple[ZoneInfo, date], at: time
) -> None:
    zone, day = place
    last_day, before = day - DAY, None
    for _ in range(3):
        begins = next_moment(last_day, at, zone)
        assert due(last_day, at, zone, begins - MINUTE) is None
        found = due(last_day, at, zone, begins)
        assert found is not None
        assert not found.late
        assert found.day > last_day
        if before is not None:
            assert timedelta(hours=20) < begins - before < timedelta(hours=28)
        last_day, before = found.day, begins
        assert due(last_day, at, zone, begins + timedelta(hours=12)) is None


@given(days(), TIMES, st.lists(st.integers(-26 * 60, 26 * 60), max_size=30))
def test_no_day_is_played_twice_whatever_the_clock_does(
    place: tuple[ZoneInfo, date], at: time, steps: list[int]
) -> None:
    zone, day = place
    now = datetime.combine(day, at, zone).astimezone(UTC)
    last_day, played = day_before_first(at, zone, now), []
    for minutes in steps:
        now += minutes * MINUTE
        found = due(last_day, at, zone, now)
        if found is not None:
            begins = moment(found.day, at, zone)
            assert begins is not None
            assert begins <= now
            assert found.late or now - begins <= GRACE
            last_day = found.day
            played.append(found.day)
    assert played == sorted(set(played))


@given(days(), TIMES, st.integers(0, 24 * 60 - 1))
def test_first_run_is_the_next_one_after_the_schedule_is_made(
    place: tuple[ZoneInfo, date], at: time, minute: int
) -> None:
    zone, day = place
    now = datetime.combine(day, time(0), UTC) + minute * MINUTE
    last_day = day_before_first(at, zone, now)
    assert due(last_day, at, zone, now) is None
    first = next_moment(last_day, at, zone)
    assert now < first
    assert first - now < timedelta(hours=49)


@pytest.mark.parametrize(
    ("day", "at", "expected"),
    [
        (date(2026, 3, 29), time(2, 30), datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),  # left out
        (date(2026, 10, 25), time(2, 30), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),  # twice
        (date(2026, 7, 1), time(8, 0), datetime(2026, 7, 1, 6, 0, tzinfo=UTC)),
        (date(2026, 12, 1), time(8, 0), datetime(2026, 12, 1, 7, 0, tzinfo=UTC)),
    ],
)
def test_moments_in_berlin(day: date, at: time, expected: datetime) -> None:
    assert moment(day, at, ZoneInfo("Europe/Berlin")) == expected


@pytest.mark.parametrize(
    ("at", "minutes", "expected"),
    [
        (time(8, 0), 60, Due(date(2026, 1, 5), late=False)),
        (time(8, 0), 61, Due(date(2026, 1, 5), late=True)),
        (time(23, 50), 9, Due(date(2026, 1, 5), late=False)),
        (time(23, 50), 20, Due(date(2026, 1, 5), late=True)),  # the next day has begun
        (time(8, 0), 3 * 24 * 60, Due(date(2026, 1, 8), late=False)),  # earlier days are over
    ],
)
def test_run_is_late_after_an_hour_or_on_the_next_day(
    at: time, minutes: int, expected: Due
) -> None:
    now = datetime.combine(date(2026, 1, 5), at, UTC) + minutes * MINUTE
    assert due(date(2026, 1, 4), at, ZoneInfo("UTC"), now) == expected


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("08:30", time(8, 30)),
        (" 8.05 ", time(8, 5)),
        ("23:59", time(23, 59)),
        ("00:00", time(0, 0)),
        ("24:00", None),
        ("8", None),
        ("8:5", None),
        ("8:30 pm", None),
        ("-1:00", None),
        ("\N{ARABIC-INDIC DIGIT EIGHT}:30", None),
    ],
)
def test_parse_time(typed: str, expected: time | None) -> None:
    assert parse_time(typed) == expected


def test_zones_are_found_whatever_their_case_and_suggested_by_a_part_of_their_name() -> None:
    zones = Zones.read()
    for typed in ("Europe/Berlin", " europe/berlin ", "EUROPE/BERLIN"):
        assert zones.find(typed) == ZoneInfo("Europe/Berlin")
    assert zones.find("america/new york") == ZoneInfo("America/New_York")
    for typed in ("", "Europe", "../etc/passwd", "localtime", "Elsinore"):
        assert zones.find(typed) is None
    assert "Europe/Berlin" in zones.suggest("berl", first=None, limit=25)
    assert "America/New_York" in zones.suggest("new york", first=None, limit=25)
    assert zones.suggest("", first="Asia/Tokyo", limit=3)[:2] == ["Asia/Tokyo", "UTC"]
    assert zones.suggest("berl", first="Asia/Tokyo", limit=25)[0] != "Asia/Tokyo"
    assert len(zones.suggest("a", first=None, limit=25)) == 25
