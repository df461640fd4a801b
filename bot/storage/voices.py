"""Store the voices, which are weights under a name, and where new scenes begin in which of them.

A copy in memory answers reads without a query.
"""

import re
import time
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import Reason, RejectedError
from .database import Database
from .records import DEFAULT_VOICE, Place

MAX_VOICES = 23
"""Largest number of voices: a list of Discord has 25 entries, two of which are not a voice."""
DEFAULT_NAME = "default"
"""The name by which people choose the default voice."""
_SERVER = 0
"""Stands for all channels of a server."""
_NAME = re.compile(r"(?=.{1,32}$)[^\W_]+(?:[ -][^\W_]+)*")
_VOICES = (
    "SELECT voices.id, name, run_id, weights, loss, promoted_at, removed_at IS NOT NULL"
    " FROM voices JOIN runs ON runs.id = run_id ORDER BY key"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """The weights of a run under a name."""

    id: int
    name: str
    run_id: int
    weights: str | None
    """Short name of the weights."""
    loss: float | None
    """Their held-out loss in nats per character."""
    promoted_at: float
    """When the voice got these weights, in seconds since 1970 UTC."""
    removed: bool
    """Whether it speaks no more. Its name stays in the takes that it has."""


def normalized(name: str) -> str | None:
    """Return a voice's name as it is stored; None if it cannot be one.

    A name has 1 to 32 letters, digits, hyphens and spaces, none of the last two at its ends or
    beside another. The name of the default voice is reserved.
    """
    plain = " ".join(unicodedata.normalize("NFKC", name).split())
    return plain if _NAME.fullmatch(plain) and _key(plain) != DEFAULT_NAME else None


def _key(name: str) -> str:
    return name.casefold()


class VoiceStore:
    """The voices. `load` reads them once; a change takes effect when its call returns.

    Whoever changes a voice holds `Promotions.lock`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._voices: dict[int, Voice] = {}
        self._defaults: dict[tuple[int, int], int] = {}
        """The voices of new scenes, by server and channel."""

    async def load(self) -> None:
        """Read all voices, and where new scenes begin in them."""
        await self._read_voices()
        rows = await self._database.fetch("SELECT guild_id, channel_id, voice FROM default_voices")
        self._defaults = {(guild_id, channel_id): voice for guild_id, channel_id, voice in rows}

    async def _read_voices(self) -> None:
        voices = map(_voice, await self._database.fetch(_VOICES))
        self._voices = {voice.id: voice for voice in voices}

    def listed(self) -> list[Voice]:
        """Return the voices that speak, by name; the default one is not among them."""
        return [voice for voice in self._voices.values() if not voice.removed]

    def get(self, voice_id: int) -> Voice | None:
        """Return a voice, also a removed one; None for the default one and for unknown ones."""
        return self._voices.get(voice_id)

    def find(self, name: str) -> Voice | None:
        """Return the voice that speaks under a name, in any capitals."""
        plain = normalized(name)
        found = (voice for voice in self.listed() if plain and _key(voice.name) == _key(plain))
        return next(found, None)

    async def bind(self, name: str, run_id: int) -> bool:
        """Give the weights of a finished run to a new voice, or to the one that has the name.

        Args:
            name: The name, `normalized`.
            run_id: The run.

        Returns:
            Whether the run has finished.

        Raises:
            RejectedError: There are `MAX_VOICES` already.
        """
        finished = "FROM runs WHERE id = ? AND state = 'finished'"
        now = time.time()
        if (voice := self.find(name)) is not None:
            bound = await self._database.run(
                "UPDATE voices SET run_id = ?, promoted_at = ?"  # noqa: S608 - constants
                f" WHERE id = ? AND EXISTS (SELECT 1 {finished})",
                (run_id, now, voice.id, run_id),
            )
        elif len(self.listed()) >= MAX_VOICES:
            raise RejectedError(Reason.TOO_MANY_VOICES, most=MAX_VOICES)
        else:
            bound = await self._database.run(
                "INSERT INTO voices (name, key, run_id, promoted_at)"
                f" SELECT ?, ?, id, ? {finished}",
                (name, _key(name), now, run_id),
            )
        await self._read_voices()
        return bound > 0

    async def rename(self, voice_id: int, name: str) -> None:
        """Give a voice another name, which no other voice has.

        Args:
            voice_id: The voice.
            name: The name, `normalized`.
        """
        await self._database.run(
            "UPDATE voices SET name = ?, key = ? WHERE id = ?", (name, _key(name), voice_id)
        )
        await self._read_voices()

    async def remove(self, voice_id: int) -> None:
        """Remove a voice, also from where new scenes begin in it. Its takes stay."""
        async with self._database.transaction() as statements:
            await statements.run(
                "UPDATE voices SET removed_at = ? WHERE id = ? AND removed_at IS NULL",
                (time.time(), voice_id),
            )
            await statements.run("DELETE FROM default_voices WHERE voice = ?", (voice_id,))
        await self._read_voices()
        self._forget(self.places_of(voice_id))

    def default_in(self, guild_id: int, channel_id: int = _SERVER) -> int | None:
        """Return the voice of new scenes that was chosen for a channel or, without one, a server.

        None means that none was chosen, or that it was removed.
        """
        voice_id = self._defaults.get((guild_id, channel_id))
        if voice_id is None or voice_id == DEFAULT_VOICE:
            return voice_id
        voice = self.get(voice_id)  # a row may be later than the removal of its voice
        return None if voice is None or voice.removed else voice_id

    def default_of(self, place: Place) -> int:
        """Return the voice in which a place's new scenes begin.

        It is that of the channel or the thread's channel, else of the server, else the default one.
        """
        if place.guild_id is None:
            return DEFAULT_VOICE
        for channel_id in (place.channel_id, place.parent_id, _SERVER):
            if channel_id is not None:
                voice_id = self.default_in(place.guild_id, channel_id)
                if voice_id is not None:
                    return voice_id
        return DEFAULT_VOICE

    def channels_of(self, guild_id: int) -> list[tuple[int, int]]:
        """Return the channels of a server that have a voice of their own, each with the voice."""
        chosen = (
            (channel_id, self.default_in(guild_id, channel_id))
            for guild, channel_id in sorted(self._defaults)
            if guild == guild_id and channel_id != _SERVER
        )
        return [(channel_id, voice) for channel_id, voice in chosen if voice is not None]

    def places_of(self, voice_id: int) -> list[tuple[int, int]]:
        """Return where new scenes begin in a voice: servers, and channels or 0 for all."""
        return [place for place, voice in self._defaults.items() if voice == voice_id]

    async def set_default(
        self, guild_id: int, voice_id: int | None, channel_id: int = _SERVER
    ) -> None:
        """Let new scenes of a server, or of one of its channels, begin in a voice.

        Args:
            guild_id: The server.
            voice_id: The voice; None undoes the choice.
            channel_id: The channel.
        """
        place = (guild_id, channel_id)
        if voice_id is None:
            await self._database.run(
                "DELETE FROM default_voices WHERE guild_id = ? AND channel_id = ?", place
            )
            self._forget([place])
            return
        await self._database.run(
            "INSERT INTO default_voices (guild_id, channel_id, voice) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET voice = excluded.voice",
            (*place, voice_id),
        )
        self._defaults[place] = voice_id

    async def delete_guild(self, guild_id: int) -> None:
        """Delete the voices of new scenes of a server and of its channels."""
        await self._database.run("DELETE FROM default_voices WHERE guild_id = ?", (guild_id,))
        self._forget([place for place in self._defaults if place[0] == guild_id])

    def _forget(self, places: Iterable[tuple[int, int]]) -> None:
        for place in places:
            self._defaults.pop(place, None)


def _voice(row: Iterable[Any]) -> Voice:
    voice_id, name, run_id, weights, loss, promoted_at, removed = row
    return Voice(
        id=voice_id,
        name=name,
        run_id=run_id,
        weights=weights,
        loss=loss,
        promoted_at=promoted_at,
        removed=bool(removed),
    )
