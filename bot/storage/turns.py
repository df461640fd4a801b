"""The turns of every scene, in SQLite."""

import statistics
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace

import aiosqlite

TIMED_TURNS = 1000
"""Over how many of the last turns the median time is taken."""
_DELETED_AT_ONCE = 500

_COLUMNS = (
    "id, guild_id, channel_id, user_id, scene, prompt, reply,"
    " max_chars, temperature, seed, weights, seconds, take,"
    " max(1, (SELECT count(*) FROM takes WHERE turn_id = turns.id))"
)
_FORGET = (
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
_NEWEST = 2**63 - 1
"""No id of a turn is above it."""
_CHUNK = 50


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
    """One stored request with the take of its reply that is shown."""

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
    """The number of the take."""
    takes: int = 1
    """How many there are."""


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
    """Reads and writes turns. Every write is committed when its call returns.

    Each reading is done in one step, so that none is under way when words are wiped out.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def scene(self, channel_id: int) -> int:
        """Return the number of the channel's current scene; 0 where none has begun.

        A turn that was never shown begins none.
        """
        ((number,),) = await self._connection.execute_fetchall(
            "SELECT max(scene) FROM turns WHERE channel_id = ? AND state != 'pending'",
            (channel_id,),
        )
        return int(number or 0)

    async def tail(
        self, channel_id: int, scene: int, *, chars: int, before: int = _NEWEST
    ) -> list[Turn]:
        """Return the last shown turns of a scene, newest last, of those with ids below `before`.

        Stops at the turn that brings prompts and replies together to `chars` characters.
        """
        turns: list[Turn] = []
        while chars > 0:
            chunk = await self._turns(
                "channel_id = ? AND scene = ? AND state = 'shown' AND id < ?"
                " ORDER BY id DESC LIMIT ?",
                (channel_id, scene, turns[-1].id if turns else before, _CHUNK),
            )
            for turn in chunk:
                turns.append(turn)
                chars -= len(turn.prompt or "") + len(turn.reply)
                if chars <= 0:
                    break
            if len(chunk) < _CHUNK:
                break
        return turns[::-1]

    async def find(self, turn_id: int, *, channel_id: int, message_id: int) -> Turn | None:
        """Return a shown turn; None if it is not, or no longer, what the message shows.

        The id alone would not do: SQLite gives one that has become free to another turn.
        """
        turns = await self._turns(
            "id = ? AND channel_id = ? AND message_id = ? AND state = 'shown'",
            (turn_id, channel_id, message_id),
        )
        return turns[0] if turns else None

    async def lengths(self, channel_id: int, scene: int) -> list[tuple[int, int]]:
        """Return the id and the characters of each shown turn of a scene, oldest first."""
        rows = await self._connection.execute_fetchall(
            "SELECT id, length(coalesce(prompt, '')) + length(reply) FROM turns"
            " WHERE channel_id = ? AND scene = ? AND state = 'shown' ORDER BY id",
            (channel_id, scene),
        )
        return [(int(row[0]), int(row[1])) for row in rows]

    async def between(
        self, channel_id: int, scene: int, first: int = 0, last: int = _NEWEST
    ) -> list[Turn]:
        """Return the shown turns of a scene with ids from `first` to `last`, oldest first."""
        return await self._turns(
            "channel_id = ? AND scene = ? AND state = 'shown' AND id BETWEEN ? AND ? ORDER BY id",
            (channel_id, scene, first, last),
        )

    async def prompts(self, channel_id: int) -> list[str]:
        """Return the different prompts among the channel's last turns, newest first."""
        rows = await self._connection.execute_fetchall(
            "SELECT prompt, state FROM turns WHERE channel_id = ?"
            " ORDER BY scene DESC, id DESC LIMIT ?",
            (channel_id, _CHUNK),
        )
        shown = (prompt for prompt, state in rows if state == "shown" and prompt is not None)
        return list(dict.fromkeys(shown))

    async def export(self, user_id: int) -> AsyncIterator[str]:
        """Yield all that is stored of a person's turns, oldest first, each as a JSON object.

        Ids are strings there: many readers of JSON would round such large numbers.
        """
        rows: Sequence[aiosqlite.Row] = ()
        while True:
            after = rows[-1][0] if rows else 0
            rows = list(await self._connection.execute_fetchall(_EXPORT, (user_id, after, _CHUNK)))
            for row in rows:
                yield row[1]
            if len(rows) < _CHUNK:
                return

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
            return _turn((cursor.lastrowid, *values, 1, 1))

    async def show(self, turn: Turn, message_id: int) -> None:
        """Record the message that shows a turn: from now on the turn feeds its scene.

        One that was forgotten meanwhile stays so.
        """
        await self._write(
            "UPDATE turns SET state = 'shown', message_id = ? WHERE id = ? AND state != 'deleted'",
            (message_id, turn.id),
        )

    async def add_take(
        self, turn: Turn, *, reply: str, seed: int, weights: str, seconds: float
    ) -> Turn | None:
        """Store another take and return the turn with it; None if it was forgotten meanwhile."""
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
        """Return a turn with another of its takes; None if there is no such take."""
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
        """Record which take a turn's message shows: from now on that one feeds the scene."""
        await self._write(
            "UPDATE turns SET (take, reply, seed, weights, seconds) ="
            " (SELECT number, reply, seed, weights, seconds FROM takes"
            " WHERE turn_id = turns.id AND number = ?) WHERE id = ? AND state = 'shown'",
            (turn.take, turn.id),
        )

    async def begin(self, guild_id: int | None, channel_id: int, scene: int) -> None:
        """Begin a scene before its first turn, by a turn that has neither words nor a person."""
        await self._write(
            "INSERT INTO turns (guild_id, channel_id, user_id, scene, reply, max_chars,"
            " temperature, seed, weights, seconds, created_at, state)"
            " VALUES (?, ?, 0, ?, '', 0, 0, 0, '', 0, ?, 'deleted')",
            (guild_id, channel_id, scene, time.time()),
        )

    async def delete(self, channel_id: int, message_ids: Iterable[int]) -> int:
        """Forget the turns of deleted messages; return how many there were.

        To forget is to wipe a turn's words, takes and person out of the file. The row stays, so
        that scenes keep their numbers.
        """
        deleted = 0
        for message_id in list(message_ids):
            deleted += await self._write(
                f"{_FORGET} WHERE channel_id = ? AND message_id = ?", (channel_id, message_id)
            )
        return await self._wipe(deleted)

    async def forget_channel(self, channel_id: int) -> int:
        """Forget all turns of a channel, whoever asked; return how many there were."""
        return await self._wipe(
            await self._write(
                f"{_FORGET} WHERE channel_id = ? AND state != 'deleted'", (channel_id,)
            )
        )

    async def forget_user(self, user_id: int) -> int:
        """Forget all turns that a person asked for, wherever; return how many there were."""
        return await self._wipe(
            await self._write(f"{_FORGET} WHERE user_id = ? AND state != 'deleted'", (user_id,))
        )

    async def unlink(self, guild_id: int) -> None:
        """Forget which messages show a server's turns, for a Discord whose messages are gone."""
        await self._write("UPDATE turns SET message_id = NULL WHERE guild_id = ?", (guild_id,))

    async def figures(self) -> Figures:
        """Return the totals, which the database keeps, and the median time of the last turns."""
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
        return await self._wipe(removed)

    async def _turns(self, where: str, parameters: tuple[object, ...]) -> list[Turn]:
        rows = await self._connection.execute_fetchall(
            f"SELECT {_COLUMNS} FROM turns WHERE {where}",  # noqa: S608 - all of it is ours
            parameters,
        )
        return [_turn(row) for row in rows]

    async def _write(self, sql: str, parameters: tuple[object, ...]) -> int:
        async with self._connection.execute(sql, parameters) as cursor:
            return cursor.rowcount

    async def _wipe(self, forgotten: int) -> int:
        """Carry what was forgotten from the write-ahead log, which still has the words, over."""
        if forgotten:
            await self._connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        return forgotten


def _turn(row: Iterable[object]) -> Turn:
    return Turn(**dict(zip(Turn.__slots__, row, strict=True)))  # type: ignore[arg-type]
