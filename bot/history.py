"""The turns of every scene, in SQLite."""

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass

import aiosqlite

TIMED_TURNS = 1000
"""Over how many of the last turns the median time is taken."""
_DELETED_AT_ONCE = 500

_COLUMNS = (
    "id, guild_id, channel_id, user_id, scene, prompt, reply,"
    " max_chars, temperature, seed, weights, seconds"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a person asked for, and where.

    `channel_id` names the scene: a thread or a direct message is a channel of its own.
    """

    guild_id: int | None
    channel_id: int
    user_id: int
    prompt: str | None
    """None lets the scene go on by itself."""
    max_chars: int
    temperature: float
    seed: int | None = None
    """None draws one."""
    fresh: bool = False
    """Start a new scene instead of continuing the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One stored request with its reply."""

    id: int
    guild_id: int | None
    channel_id: int
    user_id: int
    scene: int
    prompt: str | None
    reply: str
    max_chars: int
    temperature: float
    seed: int
    weights: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was done so far, removed turns included."""

    scenes: int
    characters: int
    """Of replies that were shown."""
    median_seconds: float | None
    """Of the last turns; None where there are none."""
    timed: int
    """How many turns the median is of."""


class History:
    """Reads and writes turns. Every write is committed when its call returns."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def scene(self, channel_id: int) -> int:
        """Return the number of the channel's current scene; 0 where none has begun.

        A turn that was never shown begins none.
        """
        async with self._connection.execute(
            "SELECT max(scene) FROM turns WHERE channel_id = ? AND state != 'pending'",
            (channel_id,),
        ) as cursor:
            row = await cursor.fetchone()
        return int(row[0] or 0) if row else 0

    async def tail(self, channel_id: int, scene: int, *, chars: int) -> list[Turn]:
        """Return the last shown turns of a scene, newest last.

        Stops at the turn that brings prompts and replies together to `chars` characters.
        """
        turns: list[Turn] = []
        async with self._connection.execute(
            f"SELECT {_COLUMNS} FROM turns"  # noqa: S608 - the names are ours
            " WHERE channel_id = ? AND scene = ? AND state = 'shown' ORDER BY id DESC",
            (channel_id, scene),
        ) as cursor:
            async for row in cursor:
                turns.append(_turn(row))
                chars -= len(turns[-1].prompt or "") + len(turns[-1].reply)
                if chars <= 0:
                    break
        return turns[::-1]

    async def add(
        self, ask: Ask, *, scene: int, reply: str, seed: int, weights: str, seconds: float
    ) -> Turn:
        """Store a pending turn and return it."""
        values = (
            ask.guild_id,
            ask.channel_id,
            ask.user_id,
            scene,
            ask.prompt,
            reply,
            ask.max_chars,
            ask.temperature,
            seed,
            weights,
            seconds,
        )
        async with self._connection.execute(
            "INSERT INTO turns (guild_id, channel_id, user_id, scene, prompt, reply, max_chars,"
            " temperature, seed, weights, seconds, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, time.time()),
        ) as cursor:
            return _turn((cursor.lastrowid, *values))

    async def show(self, turn: Turn, message_id: int) -> None:
        """Record the message that shows a turn: from now on the turn feeds its scene."""
        await self._write(
            "UPDATE turns SET state = 'shown', message_id = ? WHERE id = ?", (message_id, turn.id)
        )

    async def delete(self, channel_id: int, message_ids: Iterable[int]) -> int:
        """Take the turns of deleted messages out of their scene, words and all.

        Returns how many there were. The rows stay, so that scenes keep their numbers.
        """
        wanted = [(channel_id, message_id) for message_id in message_ids]
        deleted = 0
        for key in wanted:
            deleted += await self._write(
                "UPDATE turns SET state = 'deleted', prompt = NULL, reply = '', message_id = NULL"
                " WHERE channel_id = ? AND message_id = ?",
                key,
            )
        if deleted:
            await self._empty_log()
        return deleted

    async def unlink(self, guild_id: int) -> None:
        """Forget which messages show a server's turns, for a Discord whose messages are gone."""
        await self._write("UPDATE turns SET message_id = NULL WHERE guild_id = ?", (guild_id,))

    async def figures(self) -> Figures:
        """Return the totals, which the database keeps, and the median time of the last turns."""
        async with self._connection.execute("SELECT scenes, characters FROM totals") as cursor:
            row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - the migration has put it there
        async with self._connection.execute(
            "SELECT seconds FROM (SELECT seconds, state FROM turns ORDER BY id DESC LIMIT ?)"
            " WHERE state != 'pending'",
            (TIMED_TURNS,),
        ) as cursor:
            seconds = [seconds async for (seconds,) in cursor]
        return Figures(
            scenes=row[0],
            characters=row[1],
            median_seconds=statistics.median(seconds) if seconds else None,
            timed=len(seconds),
        )

    async def forget_guild(self, guild_id: int) -> int:
        """Remove every turn of a server; return how many there were."""
        return await self._remove("guild_id = ?", guild_id)

    async def forget_before(self, created_at: float) -> int:
        """Remove the turns older than a time, in seconds since 1970; return how many."""
        return await self._remove("created_at < ?", created_at)

    async def _remove(self, condition: str, value: float) -> int:
        removed = 0
        while True:
            # Not all at once: others want to read and write in between.
            count = await self._write(
                "DELETE FROM turns WHERE id IN"  # noqa: S608 - the condition is ours
                f" (SELECT id FROM turns WHERE {condition} LIMIT {_DELETED_AT_ONCE})",
                (value,),
            )
            removed += count
            if count < _DELETED_AT_ONCE:
                break
        if removed:
            await self._empty_log()
        return removed

    async def _empty_log(self) -> None:
        """Take what was removed out of the write-ahead log as well."""
        await self._connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")

    async def _write(self, sql: str, parameters: tuple[float, ...]) -> int:
        async with self._connection.execute(sql, parameters) as cursor:
            return cursor.rowcount


def _turn(row: Iterable[object]) -> Turn:
    return Turn(**dict(zip(Turn.__slots__, row, strict=True)))  # type: ignore[arg-type]
