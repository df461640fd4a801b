"""Read and write the settings of servers; a copy in memory answers reads without a query."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

from ..config import Settings
from .database import Database

_COLUMNS = (
    "guild_id, channels, max_chars, cooldown, temperature, buttons, allowed_roles, denied_roles,"
    " answer_mentions"
)
ButtonAccess = Literal["everyone", "asker"]
"""Who may use *Continue*: everyone, or the person who requested the reply and moderators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuildSettings:
    """Overrides that a server's managers have set; None selects the bot's default."""

    channels: frozenset[int] = frozenset()
    """Channels in which the bard may reply, with their threads; empty means all."""
    max_chars: int | None = None
    cooldown: int | None = None
    """Seconds."""
    temperature: float | None = None
    """For requests without one."""
    buttons: ButtonAccess = "everyone"
    allowed_roles: frozenset[int] = frozenset()
    """Roles that may use the bard; empty means everyone. The server's id is the role of all."""
    denied_roles: frozenset[int] = frozenset()
    """Roles that may not, even with one that may."""
    answer_mentions: bool = False
    """Whether the bard replies to messages that mention the bot."""


class Changes(TypedDict, total=False):
    """New values of `GuildSettings` fields."""

    channels: frozenset[int]
    max_chars: int | None
    cooldown: int | None
    temperature: float | None
    buttons: ButtonAccess
    allowed_roles: frozenset[int]
    denied_roles: frozenset[int]
    answer_mentions: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings in force in a place: a server's overrides over the bot's defaults."""

    channels: frozenset[int]
    max_chars: int
    cooldown: int
    temperature: float
    buttons: ButtonAccess
    default_chars: int
    allowed_roles: frozenset[int] = frozenset()
    denied_roles: frozenset[int] = frozenset()
    answer_mentions: bool = False

    def reply_chars(self, requested: int | None) -> int:
        """Return the length limit of a reply; `requested` of None selects the default length."""
        return min(requested or self.default_chars, self.max_chars)


class GuildSettingsStore:
    """The settings of all servers. `load` reads them once; changes take effect immediately.

    Args:
        database: The database.
        defaults: The bot's own settings.
    """

    def __init__(self, database: Database, defaults: Settings) -> None:
        self._database = database
        self._defaults = defaults
        self._cache: dict[int, GuildSettings] = {}

    async def load(self) -> None:
        """Read the settings of all servers that have any."""
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM guild_settings"  # noqa: S608 - constant
        )
        self._cache = {row[0]: _guild_settings(row) for row in rows}

    def get(self, guild_id: int) -> GuildSettings:
        """Return the overrides of a server."""
        return self._cache.get(guild_id, GuildSettings())

    def rules(self, guild_id: int | None) -> Rules:
        """Return the settings in force in a server; None means outside servers."""
        overrides = GuildSettings() if guild_id is None else self.get(guild_id)
        defaults = self._defaults
        return Rules(
            channels=overrides.channels,
            max_chars=min(overrides.max_chars or defaults.max_chars, defaults.max_chars),
            cooldown=defaults.cooldown if overrides.cooldown is None else overrides.cooldown,
            temperature=overrides.temperature or defaults.default_temperature,
            buttons=overrides.buttons,
            default_chars=defaults.default_chars,
            allowed_roles=overrides.allowed_roles,
            denied_roles=overrides.denied_roles,
            answer_mentions=overrides.answer_mentions,
        )

    async def change(self, guild_id: int, **changes: Unpack[Changes]) -> None:
        """Store new values of some settings, all or none; the others keep theirs."""
        async with self._database.transaction() as statements:
            for column, value in changes.items():
                ids = value if isinstance(value, frozenset) else None
                stored = value if ids is None else " ".join(map(str, sorted(ids)))
                # The other columns stay, so that concurrent changes by two managers both succeed.
                await statements.run(
                    f"INSERT INTO guild_settings (guild_id, {column}) VALUES (?, ?)"  # noqa: S608
                    f" ON CONFLICT DO UPDATE SET {column} = excluded.{column}",
                    (guild_id, stored),
                )
            rows = await statements.fetch(
                f"SELECT {_COLUMNS} FROM guild_settings WHERE guild_id = ?",  # noqa: S608 - constant
                (guild_id,),
            )
        for row in rows:
            self._cache[guild_id] = _guild_settings(row)

    async def remove_channel(self, guild_id: int, channel_id: int) -> None:
        """Remove a deleted channel from those in which the bard may reply, unless it is the last.

        Without any, the bard might reply everywhere, which nobody has decided.
        """
        channels = self.get(guild_id).channels
        if channel_id in channels and len(channels) > 1:
            await self.change(guild_id, channels=channels - {channel_id})

    async def remove_role(self, guild_id: int, role_id: int) -> None:
        """Remove a deleted role, unless it is the last of those that may use the bard.

        Without any, everyone might, which nobody has decided.
        """
        settings = self.get(guild_id)
        allowed = settings.allowed_roles - {role_id}
        changes = Changes()
        if allowed and allowed != settings.allowed_roles:
            changes["allowed_roles"] = allowed
        if role_id in settings.denied_roles:
            changes["denied_roles"] = settings.denied_roles - {role_id}
        if changes:
            await self.change(guild_id, **changes)

    async def delete(self, guild_id: int) -> None:
        """Delete the settings of a server."""
        await self._database.run("DELETE FROM guild_settings WHERE guild_id = ?", (guild_id,))
        self._cache.pop(guild_id, None)


def _guild_settings(row: Iterable[Any]) -> GuildSettings:
    _, channels, max_chars, cooldown, temperature, buttons, allowed, denied, mentions = row
    return GuildSettings(
        channels=_ids(channels),
        allowed_roles=_ids(allowed),
        denied_roles=_ids(denied),
        max_chars=max_chars,
        cooldown=cooldown,
        temperature=temperature,
        buttons=buttons,
        answer_mentions=bool(mentions),
    )


def _ids(stored: str) -> frozenset[int]:
    return frozenset(map(int, stored.split()))
