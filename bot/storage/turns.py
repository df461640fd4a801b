"""Read and write the turns of every scene."""

import statistics
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace

import aiosqlite

TIMED_TURNS = 1000
"""Number of the newest turns from which the median time is computed."""
_ROWS_PER_DELETE = 500

_COLUMNS = (
    "id, guild_id, channel_id, user_id, scene, prompt, reply,"
    " max_chars, temperature, seed, weights, seconds, take,"
    " max(1, (SELECT count(*) FROM takes WHERE turn_id = turns.id))"
)
_DELETE = (
    "UPDATE turns SET state = 'deleted', user_id = 0, prompt = NULL, reply = '', message_id = NULL"
)
_EXPORT = """
SELECT id, json_object(
    'server_id', CAST(guild_id AS TEXT), 'channel_id', CAST(channel_id AS TEXT),
    'message_id', CAST(message_id AS TEXT), 'user_id', CAST(user_id AS TEXT),
    'asked_at', strftime('%Y-%m-%dT%H:%M:%SZ', created_at, 'unixepoch'), 'state', state,
    'scene', scene, 'prompt', prompt, 'reply', reply, 'max_chars', max_chars,
    'temperature', temperature, 'seed', seed, 'weights', weights, 'seconds', seconds, 'take', take,
    'takes', (
        SELECT json_group_array(json_object(
            'number', number, 'reply', reply, 'seed', seed, 'weights', weights, 'seconds', seconds,
            'asked_at', strftime('%Y-%m-%dT%H:%M:%SZ', created_at, 'unixepoch')
        )) FROM takes WHERE turn_id = turns.id
    )
) FROM turns WHERE user_id = ? AND state != 'deleted' AND id > ? ORDER BY id LIMIT ?"""
_MAX_ID = 2**63 - 1
_ROWS_PER_READ = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRequest:
    """A request for a turn, with its place and its limits.

    `channel_id` selects the scene: a thread or a direct message is a channel of its own.
    """

    guild_id: int | None
    channel_id: int
    user_id: int
    prompt: str | None
    """None continues the scene without new words."""
    max_chars: int
    temperature: float
    seed: int | None = None
    """None draws a random one."""
    fresh: bool = False
    """Start a new scene instead of continuing the current one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A stored request with the take of its reply that its message shows."""

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
    take: int = 1
    """Number of the shown take, from 1."""
    takes: int = 1
    """Number of takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Totals since the database was created, deleted turns included."""

    scenes: int
    characters: int
    """Characters of all replies that were shown."""
    median_seconds: float | None
    """Median generation time of the newest turns; None without any."""
    timed: int
    """Number of turns that the median covers."""


class TurnStore:
    """Read and write turns. Every write is committed when its call returns.

    Each read fetches all of its rows in one call, so that no cursor is open when deleted text is
    erased from the write-ahead log.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def scene(self, channel_id: int) -> int:
        """Return the number of the channel's current scene; 0 if it has none.

        A turn that was never shown starts no scene.
        """
        ((number,),) = await self._connection.execute_fetchall(
            "SELECT max(scene) FROM turns WHERE channel_id = ? AND state != 'pending'",
            (channel_id,),
        )
        return int(number or 0)

    async def tail(
        self, channel_id: int, scene: int, *, chars: int, before: int = _MAX_ID
    ) -> list[Turn]:
        """Return the last shown turns of a scene with ids below `before`, newest last.

        Stops at the turn with which prompts and replies reach `chars` characters.
        """
        turns: list[Turn] = []
        while chars > 0:
            chunk = await self._turns(
                "channel_id = ? AND scene = ? AND state = 'shown' AND id < ?"
                " ORDER BY id DESC LIMIT ?",
                (channel_id, scene, turns[-1].id if turns else before, _ROWS_PER_READ),
            )
            for turn in chunk:
                turns.append(turn)
                chars -= len(turn.prompt or "") + len(turn.reply)
                if chars <= 0:
                    break
            if len(chunk) < _ROWS_PER_READ:
                break
        return turns[::-1]

    async def find(self, turn_id: int, *, channel_id: int, message_id: int) -> Turn | None:
        """Return a shown turn; None if the message does not, or no longer, show it.

        The id alone is not enough: SQLite reuses the id of a deleted row.
        """
        turns = await self._turns(
            "id = ? AND channel_id = ? AND message_id = ? AND state = 'shown'",
            (turn_id, channel_id, message_id),
        )
        return turns[0] if turns else None

    async def lengths(self, channel_id: int, scene: int) -> list[tuple[int, int]]:
        """Return id and length in characters of each shown turn of a scene, oldest first."""
        rows = await self._connection.execute_fetchall(
            "SELECT id, length(coalesce(prompt, '')) + length(reply) FROM turns"
            " WHERE channel_id = ? AND scene = ? AND state = 'shown' ORDER BY id",
            (channel_id, scene),
        )
        return [(int(row[0]), int(row[1])) for row in rows]

    async def between(
        self, channel_id: int, scene: int, first: int = 0, last: int = _MAX_ID
    ) -> list[Turn]:
        """Return the shown turns of a scene with ids from `first` to `last`, oldest first."""
        return await self._turns(
            "channel_id = ? AND scene = ? AND state = 'shown' AND id BETWEEN ? AND ? ORDER BY id",
            (channel_id, scene, first, last),
        )

    async def prompts(self, channel_id: int) -> list[str]:
        """Return the distinct prompts among the channel's last turns, newest first."""
        rows = await self._connection.execute_fetchall(
            "SELECT prompt, state FROM turns WHERE channel_id = ?"
            " ORDER BY scene DESC, id DESC LIMIT ?",
            (channel_id, _ROWS_PER_READ),
        )
        shown = (prompt for prompt, state in rows if state == "shown" and prompt is not None)
        return list(dict.fromkeys(shown))

    async def export(self, user_id: int) -> AsyncIterator[str]:
        """Yield each turn that a person requested as a JSON object, oldest first.

        Ids are strings: many JSON parsers round such large numbers.
        """
        rows: Sequence[aiosqlite.Row] = ()
        while True:
            after = rows[-1][0] if rows else 0
            rows = list(
                await self._connection.execute_fetchall(_EXPORT, (user_id, after, _ROWS_PER_READ))
            )
            for row in rows:
                yield row[1]
            if len(rows) < _ROWS_PER_READ:
                return

    async def add(
        self,
        request: TurnRequest,
        *,
        scene: int,
        reply: str,
        seed: int,
        weights: str,
        seconds: float,
    ) -> Turn:
        """Store a turn as pending and return it."""
        values = (
            request.guild_id,
            request.channel_id,
            request.user_id,
            scene,
            request.prompt,
            reply,
            request.max_chars,
            request.temperature,
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
            return _turn((cursor.lastrowid, *values, 1, 1))

    async def show(self, turn: Turn, message_id: int) -> None:
        """Record the message that shows a turn, which makes the turn part of its scene.

        A turn that was deleted meanwhile stays deleted.
        """
        await self._write(
            "UPDATE turns SET state = 'shown', message_id = ? WHERE id = ? AND state != 'deleted'",
            (message_id, turn.id),
        )

    async def add_take(
        self, turn: Turn, *, reply: str, seed: int, weights: str, seconds: float
    ) -> Turn | None:
        """Store another take and return the turn with it; None if it was deleted meanwhile."""
        await self._write(
            "INSERT OR IGNORE INTO takes"
            " SELECT id, take, reply, seed, weights, seconds, created_at FROM turns"
            " WHERE id = ? AND state = 'shown'",
            (turn.id,),
        )
        rows = await self._connection.execute_fetchall(
            "INSERT INTO takes SELECT id,"
            " (SELECT max(number) FROM takes WHERE turn_id = turns.id) + 1, ?, ?, ?, ?, ?"
            " FROM turns WHERE id = ? AND state = 'shown' RETURNING number",
            (reply, seed, weights, seconds, time.time(), turn.id),
        )
        for (number,) in rows:
            return replace(
                turn,
                reply=reply,
                seed=seed,
                weights=weights,
                seconds=seconds,
                take=number,
                takes=number,
            )
        return None

    async def take(self, turn: Turn, number: int) -> Turn | None:
        """Return a turn with another of its takes; None if the take does not exist."""
        rows = await self._connection.execute_fetchall(
            "SELECT reply, seed, weights, seconds FROM takes WHERE turn_id = ? AND number = ?",
            (turn.id, number),
        )
        for reply, seed, weights, seconds in rows:
            return replace(
                turn, reply=reply, seed=seed, weights=weights, seconds=seconds, take=number
            )
        return None

    async def show_take(self, turn: Turn) -> None:
        """Record the take that a turn's message shows, which makes it part of the scene."""
        await self._write(
            "UPDATE turns SET (take, reply, seed, weights, seconds) ="
            " (SELECT number, reply, seed, weights, seconds FROM takes"
            " WHERE turn_id = turns.id AND number = ?) WHERE id = ? AND state = 'shown'",
            (turn.take, turn.id),
        )

    async def start_scene(self, guild_id: int | None, channel_id: int, scene: int) -> None:
        """Start a scene before its first turn, with a row that has neither text nor user."""
        await self._write(
            "INSERT INTO turns (guild_id, channel_id, user_id, scene, reply, max_chars,"
            " temperature, seed, weights, seconds, created_at, state)"
            " VALUES (?, ?, 0, ?, '', 0, 0, 0, '', 0, ?, 'deleted')",
            (guild_id, channel_id, scene, time.time()),
        )

    async def delete(self, channel_id: int, message_ids: Iterable[int]) -> int:
        """Delete the turns of deleted messages; return their number.

        Deletion erases a turn's text, takes and user from the file. The row stays, so that
        scenes keep their numbers.
        """
        deleted = 0
        for message_id in list(message_ids):
            deleted += await self._write(
                f"{_DELETE} WHERE channel_id = ? AND message_id = ?", (channel_id, message_id)
            )
        return await self._erase(deleted)

    async def delete_channel(self, channel_id: int) -> int:
        """Delete all turns of a channel; return their number."""
        return await self._erase(
            await self._write(
                f"{_DELETE} WHERE channel_id = ? AND state != 'deleted'", (channel_id,)
            )
        )

    async def delete_user(self, user_id: int) -> int:
        """Delete all turns that a person requested, in every channel; return their number."""
        return await self._erase(
            await self._write(f"{_DELETE} WHERE user_id = ? AND state != 'deleted'", (user_id,))
        )

    async def unlink(self, guild_id: int) -> None:
        """Clear the message ids of a server, for a simulated one whose messages are gone."""
        await self._write("UPDATE turns SET message_id = NULL WHERE guild_id = ?", (guild_id,))

    async def statistics(self) -> Statistics:
        """Return the totals and the median time of the last turns."""
        async with self._connection.execute("SELECT scenes, characters FROM totals") as cursor:
            row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - the migration has put it there
        async with self._connection.execute(
            "SELECT seconds"
            " FROM (SELECT seconds, state, weights FROM turns ORDER BY id DESC LIMIT ?)"
            " WHERE state != 'pending' AND weights != ''",
            (TIMED_TURNS,),
        ) as cursor:
            seconds = [seconds async for (seconds,) in cursor]
        return Statistics(
            scenes=row[0],
            characters=row[1],
            median_seconds=statistics.median(seconds) if seconds else None,
            timed=len(seconds),
        )

    async def delete_guild(self, guild_id: int) -> int:
        """Remove every row of a server; return their number."""
        return await self._remove_rows("guild_id = ?", guild_id)

    async def delete_before(self, created_at: float) -> int:
        """Remove the rows older than a time, in seconds since 1970 UTC; return their number."""
        return await self._remove_rows("created_at < ?", created_at)

    async def _remove_rows(self, condition: str, value: float) -> int:
        removed = 0
        while True:
            # In small portions, so that other requests are served in between.
            count = await self._write(
                "DELETE FROM turns WHERE id IN"  # noqa: S608 - the condition is a constant
                f" (SELECT id FROM turns WHERE {condition} LIMIT {_ROWS_PER_DELETE})",
                (value,),
            )
            removed += count
            if count < _ROWS_PER_DELETE:
                break
        return await self._erase(removed)

    async def _turns(self, where: str, parameters: tuple[object, ...]) -> list[Turn]:
        rows = await self._connection.execute_fetchall(
            f"SELECT {_COLUMNS} FROM turns WHERE {where}",  # noqa: S608 - all parts are constants
            parameters,
        )
        return [_turn(row) for row in rows]

    async def _write(self, sql: str, parameters: tuple[object, ...]) -> int:
        async with self._connection.execute(sql, parameters) as cursor:
            return cursor.rowcount

    async def _erase(self, deleted: int) -> int:
        """Truncate the write-ahead log, which still contains the text of deleted rows."""
        if deleted:
            await self._connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        return deleted


def _turn(row: Iterable[object]) -> Turn:
    return Turn(**dict(zip(Turn.__slots__, row, strict=True)))  # type: ignore[arg-type]
