"""What a server's managers decide, in SQLite and in memory: reading costs no query."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

import aiosqlite

from ..config import COOLDOWN_LIMIT, Settings

DEFAULT_CHARS = 1000
DEFAULT_TEMPERATURE = 0.8
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.1, 2.0

Buttons = Literal["everyone", "asker"]
"""Who may use the buttons under a reply: everyone, or who asked for it and moderators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuildSettings:
    """What a server has set; None leaves it to the bot's own settings."""

    channels: frozenset[int] = frozenset()
    """Where the bard may speak; none is everywhere. A channel's threads are part of it."""
    max_chars: int | None = None
    cooldown: int | None = None
    """Seconds."""
    temperature: float | None = None
    """For requests that give none."""
    buttons: Buttons = "everyone"


class Changes(TypedDict, total=False):
    """New values for fields of `GuildSettings`."""

    channels: frozenset[int]
    max_chars: int | None
    cooldown: int | None
    temperature: float | None
    buttons: Buttons


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds in a place: the settings of its server and, for the rest, the bot's own."""

    channels: frozenset[int]
    max_chars: int
    cooldown: int
    temperature: float
    buttons: Buttons

    @property
    def usual_chars(self) -> int:
        """The length of a reply for which none was given."""
        return min(DEFAULT_CHARS, self.max_chars)


class GuildSettingsStore:
    """The settings of every server. `load` reads them once; a change is in force at once.

    Args:
        connection: The database.
        defaults: The bot's own settings.
    """

    def __init__(self, connection: aiosqlite.Connection, defaults: Settings) -> None:
        self._connection = connection
        self._defaults = defaults
        self._known: dict[int, GuildSettings] = {}

    async def load(self) -> None:
        """Read the settings of all servers that have any."""
        async with self._connection.execute("SELECT * FROM guild_settings") as cursor:
            self._known = {row[0]: _guild_settings(row) async for row in cursor}

    def get(self, guild_id: int) -> GuildSettings:
        """Return what a server has set."""
        return self._known.get(guild_id, GuildSettings())

    def rules(self, guild_id: int | None) -> Rules:
        """Return what holds in a server, or with None outside servers."""
        own = GuildSettings() if guild_id is None else self.get(guild_id)
        usual = self._defaults
        return Rules(
            channels=own.channels,
            max_chars=min(own.max_chars or usual.max_chars, usual.max_chars),
            cooldown=usual.cooldown if own.cooldown is None else own.cooldown,
            temperature=own.temperature or DEFAULT_TEMPERATURE,
            buttons=own.buttons,
        )

    async def change(self, guild_id: int, **changes: Unpack[Changes]) -> None:
        """Store new values of some settings and leave the others as they are."""
        for column, value in changes.items():
            stored = " ".join(map(str, sorted(value))) if isinstance(value, frozenset) else value
            # One statement a column: managers who change two at the same time both succeed.
            async with self._connection.execute(
                f"INSERT INTO guild_settings (guild_id, {column}) VALUES (?, ?)"  # noqa: S608
                f" ON CONFLICT DO UPDATE SET {column} = excluded.{column} RETURNING *",
                (guild_id, stored),
            ) as cursor:
                row = await cursor.fetchone()
            assert row is not None  # noqa: S101 - RETURNING
            self._known[guild_id] = _guild_settings(row)

    async def forget(self, guild_id: int) -> None:
        """Remove a server's settings."""
        await self._connection.execute("DELETE FROM guild_settings WHERE guild_id = ?", (guild_id,))
        self._known.pop(guild_id, None)


def parse_limits(max_chars: str, cooldown: str, temperature: str, *, limit: int) -> Changes:
    """Read what a manager typed; an empty text leaves the setting to the bot's own.

    Args:
        max_chars: A whole number from 1 to `limit`.
        cooldown: Whole seconds from 0.
        temperature: A number, with a point or a comma.
        limit: The longest reply that the bot itself allows.

    Raises:
        ValueError: The message says, line by line, what is not allowed and what is.
    """
    wrong: list[str] = []

    def read(name: str, text: str, low: float, high: float, *, whole: bool = False) -> float | None:
        if not text.strip():
            return None
        try:
            value = float(text.replace(",", "."))
        except ValueError:
            value = math.nan
        if not low <= value <= high or (whole and not value.is_integer()):
            sort = "a whole number" if whole else "a number"
            wrong.append(f"{name}: {sort} from {low:g} to {high:g}, or nothing; not {text!r}.")
        return value

    chars = read("Longest reply", max_chars, 1, limit, whole=True)
    seconds = read("Cooldown", cooldown, 0, COOLDOWN_LIMIT, whole=True)
    usual = read("Temperature", temperature, MIN_TEMPERATURE, MAX_TEMPERATURE)
    if wrong:
        raise ValueError("\n".join(wrong))
    return Changes(
        max_chars=None if chars is None else int(chars),
        cooldown=None if seconds is None else int(seconds),
        temperature=usual,
    )


def _guild_settings(row: Iterable[Any]) -> GuildSettings:
    _, channels, max_chars, cooldown, temperature, buttons = row
    return GuildSettings(
        channels=frozenset(map(int, channels.split())),
        max_chars=max_chars,
        cooldown=cooldown,
        temperature=temperature,
        buttons=buttons,
    )
