"""Read and write the turns of every scene.

A turn is stored before its message shows it, with the take that the message is about to show: its
intent. The intent is settled once it is known whether the message shows it.
"""

import logging
import statistics
import time
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from ..errors import RejectedError
from .database import Database, Statements

log = logging.getLogger(__name__)

TIMED_TURNS = 100
"""Number of the newest turns from which the median time is computed."""
_ROWS_PER_DELETE = 100
_ROWS_PER_READ = 50
"""Sizes of the pieces of long operations; other statements run between pieces."""

_TURN = (
    "id, guild_id, channel_id, audience, user_id, scene, prompt, max_chars, temperature,"
    " message_id, turns.take, intent, token, number, reply, seed, weights, seconds,"
    " (SELECT count(*) FROM takes WHERE turn_id = id)"
)
_JOIN = f"SELECT {_TURN} FROM turns JOIN takes ON turn_id = id AND number"  # noqa: S608
# Without the hint, SQLite reads all turns in the order of their ids.
_UNSETTLED = (
    f"SELECT {_TURN} FROM turns INDEXED BY unsettled_turns"  # noqa: S608
    " JOIN takes ON turn_id = id AND number = intent"
)
_IN_PLACE = "channel_id = ? AND audience = ?"
_EXPORT = """
SELECT id, json_object(
    'server_id', CAST(guild_id AS TEXT), 'channel_id', CAST(channel_id AS TEXT),
    'message_id', CAST(message_id AS TEXT), 'user_id', CAST(user_id AS TEXT),
    'private', json(iif(audience, 'true', 'false')),
    'asked_at', strftime('%Y-%m-%dT%H:%M:%SZ', created_at, 'unixepoch'),
    'scene', scene, 'prompt', prompt, 'max_chars', max_chars, 'temperature', temperature,
    'shown_take', take,
    'takes', (
        SELECT json_group_array(json_object(
            'number', number, 'reply', reply, 'seed', seed, 'weights', weights, 'seconds', seconds,
            'asked_at', strftime('%Y-%m-%dT%H:%M:%SZ', created_at, 'unixepoch')
        )) FROM takes WHERE turn_id = turns.id
    )
) FROM turns WHERE user_id = ? AND id > ? ORDER BY id LIMIT ?"""
_MAX_ID = 2**63 - 1

Scope = Literal["user", "channel", "guild"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a scene is played: a channel, and the people in it who see the replies.

    A thread or a direct message is a channel of its own.
    """

    guild_id: int | None
    channel_id: int
    parent_id: int | None = field(default=None, compare=False)
    """The channel that a thread belongs to; None for others, and for the place of a stored turn."""
    audience: int = 0
    """0 for everyone in the channel, else the only person who sees the replies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRequest:
    """A request for a turn. Options of None take the defaults of the place."""

    place: Place
    user_id: int
    prompt: str | None
    """None continues the scene without new words."""
    max_chars: int | None = None
    temperature: float | None = None
    seed: int | None = None
    """None draws a random one."""
    fresh: bool = False
    """Start a new scene instead of continuing the current one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """A reply and how it was generated."""

    reply: str
    seed: int
    weights: str
    """Short name of the weights."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A stored request with one take of its reply."""

    id: int
    place: Place
    user_id: int
    scene: int
    prompt: str | None
    max_chars: int
    temperature: float
    message_id: int | None
    """The message that shows it, or will; None until it is known."""
    shown: int | None
    """Number of the take that the message shows; None if it is not known to show any."""
    intent: int | None
    """Number of the take that the message was about to show, if the outcome is not known."""
    token: str | None
    """The token of the interaction that was about to show it."""
    number: int
    """Number of this take, from 1."""
    take: Take
    takes: int
    """Number of takes."""

    @property
    def reply(self) -> str:
        """The text of this take."""
        return self.take.reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some consecutive turns of a scene, oldest first."""

    scene: int
    turns: list[Turn]
    has_earlier: bool
    has_later: bool


@dataclass(frozen=True, slots=True)
class Deletion:
    """A confirmed deletion of turns."""

    id: int
    scope: Scope
    target: int
    """The id of the person, channel or server."""
    newest: int
    """Turns with higher ids are later than the deletion."""


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
    """Read and write turns. Every write is committed when its call returns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Ids of the deletions that are being carried out.
        self._deleting: set[int] = set()
        # Whether others may be recorded: those of an earlier process, or after an error.
        self._interrupted = True

    async def scene(self, place: Place) -> int:
        """Return the number of the place's current scene; 0 if it has none.

        A turn that was never shown starts no scene.
        """
        rows = await self._database.fetch(
            f"SELECT scene FROM places WHERE {_IN_PLACE}",  # noqa: S608 - a constant
            (place.channel_id, place.audience),
        )
        return int(rows[0][0]) if rows else 0

    async def has_scene(self, channel_id: int) -> bool:
        """Return whether a scene that is played in a channel has had a turn, or may have had.

        That is a scene of everyone or of one person, and a turn that may have been shown counts.
        """
        rows = await self._database.fetch(
            "SELECT EXISTS (SELECT 1 FROM places WHERE channel_id = ? AND counted)"
            " OR EXISTS (SELECT 1 FROM turns WHERE channel_id = ? AND intent IS NOT NULL)",
            (channel_id, channel_id),
        )
        return bool(rows[0][0])

    async def next_scene(self, place: Place) -> int:
        """Return the number of a new scene: no turn has it, not even one of unknown outcome."""
        rows = await self._database.fetch(
            f"SELECT max(scene) FROM turns WHERE {_IN_PLACE}",  # noqa: S608 - a constant
            (place.channel_id, place.audience),
        )
        return max(await self.scene(place), rows[0][0] or 0) + 1

    async def start_scene(self, place: Place) -> None:
        """Start a new scene in a place, before its first turn."""
        await self._database.run(
            "INSERT INTO places (channel_id, audience, guild_id, scene) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET scene = excluded.scene, counted = 0",
            (place.channel_id, place.audience, place.guild_id, await self.next_scene(place)),
        )

    async def tail(
        self, place: Place, scene: int, *, chars: int, before: int = _MAX_ID
    ) -> list[Turn]:
        """Return the last shown turns of a scene with ids below `before`, newest last.

        Stops at the turn with which prompts and replies reach `chars` characters.
        """
        turns: list[Turn] = []
        while chars > 0:
            chunk = await self._before(place, scene, turns[-1].id if turns else before)
            for turn in chunk:
                turns.append(turn)
                chars -= _length(turn)
                if chars <= 0:
                    break
            if len(chunk) < _ROWS_PER_READ:
                break
        return turns[::-1]

    async def find(self, turn_id: int) -> Turn | None:
        """Return a turn with its shown take, else with the intended one; None if deleted."""
        turns = await self._turns(
            f"{_JOIN} = coalesce(turns.take, intent) WHERE id = ?", (turn_id,)
        )
        return turns[0] if turns else None

    async def intended(self, turn_id: int) -> Turn | None:
        """Return a turn with its intended take; None if it is deleted or settled."""
        turns = await self._turns(f"{_JOIN} = intent WHERE id = ?", (turn_id,))
        return turns[0] if turns else None

    async def take(self, turn: Turn, number: int) -> Turn | None:
        """Return a turn with another of its takes; None if there is no such turn or take."""
        turns = await self._turns(f"{_JOIN} = ? WHERE id = ?", (number, turn.id))
        return turns[0] if turns else None

    async def page(
        self,
        place: Place,
        scene: int,
        *,
        turns: int,
        chars: int,
        before: int = _MAX_ID,
        after: int | None = None,
    ) -> Page:
        """Return shown turns of a scene: the last ones before an id, or the first after one.

        Args:
            place: The place.
            scene: The scene.
            turns: Most turns of a page.
            chars: Most characters of a page with more than one turn.
            before: Ids of the turns are lower than this.
            after: Ids of the turns are higher than this, if given.
        """
        if after is None:
            found = await self._before(place, scene, before, turns + 1)
        else:
            found = await self._after(place, scene, after, turns + 1)
        size = 0
        for count, turn in enumerate(found):
            size += _length(turn)
            if count == turns or (count and size > chars):
                break
        else:
            count = len(found)
        more, kept = len(found) > count, found[:count]
        if after is not None:
            earlier = bool(await self._before(place, scene, kept[0].id, 1)) if kept else False
            return Page(scene=scene, turns=kept, has_earlier=earlier, has_later=more)
        later = bool(await self._after(place, scene, kept[0].id, 1)) if kept else False
        return Page(scene=scene, turns=kept[::-1], has_earlier=more, has_later=later)

    async def script(self, place: Place, scene: int) -> AsyncIterator[list[Turn]]:
        """Yield the shown turns of a scene in pieces, oldest first."""
        last = 0
        while piece := await self._after(place, scene, last):
            yield piece
            last = piece[-1].id

    async def prompts(self, place: Place) -> list[str]:
        """Return the distinct prompts among the place's last turns, newest first."""
        rows = await self._database.fetch(
            f"SELECT prompt, take FROM turns WHERE {_IN_PLACE}"  # noqa: S608 - a constant
            " ORDER BY scene DESC, id DESC LIMIT ?",
            (place.channel_id, place.audience, _ROWS_PER_READ),
        )
        return list(dict.fromkeys(prompt for prompt, take in rows if prompt and take))

    async def export(self, user_id: int) -> AsyncIterator[str]:
        """Yield each turn that a person requested as a JSON object, oldest first.

        Ids are strings: many JSON parsers round such large numbers.
        """
        last = 0
        while rows := await self._database.fetch(_EXPORT, (user_id, last, _ROWS_PER_READ)):
            for last, text in rows:  # noqa: B007 - used by the next query
                yield text

    async def add(
        self,
        request: TurnRequest,
        take: Take,
        *,
        scene: int,
        max_chars: int,
        temperature: float,
        message_id: int | None,
        token: str | None = None,
    ) -> Turn:
        """Store a turn whose message is about to show its first take, and return it.

        Args:
            request: The request.
            take: The reply.
            scene: The scene that the turn belongs to once it is shown.
            max_chars: The limit of the reply.
            temperature: The temperature of the reply.
            message_id: The message that will show it, if it is known already.
            token: The token of the interaction, through which the message can be looked at.
        """
        place, now = request.place, time.time()
        async with self._database.transaction() as statements:
            ((turn_id,),) = await statements.fetch(
                "INSERT INTO turns (guild_id, channel_id, audience, user_id, scene, prompt,"
                " max_chars, temperature, created_at, message_id, token, intent)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1) RETURNING id",
                (
                    place.guild_id,
                    place.channel_id,
                    place.audience,
                    request.user_id,
                    scene,
                    request.prompt,
                    max_chars,
                    temperature,
                    now,
                    message_id,
                    token,
                ),
            )
            await _insert_take(statements, turn_id, 1, take, now)
            if place.parent_id is not None:
                await statements.run(
                    "INSERT OR IGNORE INTO threads (id, parent_id, guild_id) VALUES (?, ?, ?)",
                    (place.channel_id, place.parent_id, place.guild_id),
                )
        return Turn(
            id=turn_id,
            place=place,
            user_id=request.user_id,
            scene=scene,
            prompt=request.prompt,
            max_chars=max_chars,
            temperature=temperature,
            message_id=message_id,
            shown=None,
            intent=1,
            token=token,
            number=1,
            take=take,
            takes=1,
        )

    async def add_take(self, turn: Turn, take: Take, token: str | None = None) -> Turn | None:
        """Store another take, which the message is about to show; return the turn with it.

        Returns None if the turn was deleted meanwhile.
        """
        async with self._database.transaction() as statements:
            rows = await statements.fetch(
                "UPDATE turns SET token = ?,"
                " intent = (SELECT max(number) + 1 FROM takes WHERE turn_id = id)"
                " WHERE id = ? AND take IS NOT NULL RETURNING intent, take",
                (token, turn.id),
            )
            if not rows:
                return None
            ((number, shown),) = rows
            await _insert_take(statements, turn.id, number, take, time.time())
        return replace(
            turn, number=number, shown=shown, intent=number, token=token, take=take, takes=number
        )

    async def intend(self, turn: Turn, token: str | None = None) -> bool:
        """Record that the message is about to show this take; return False if deleted."""
        return bool(
            await self._database.run(
                "UPDATE turns SET intent = ?, token = ? WHERE id = ?", (turn.number, token, turn.id)
            )
        )

    async def show(self, turn: Turn, message_id: int, audience: int | None = None) -> None:
        """Record that a message shows this take, which makes it part of its scene.

        A turn that was deleted meanwhile stays deleted.

        Args:
            turn: The turn with the take.
            message_id: The message.
            audience: The people who see the message, if they are others than those of the
                turn's place: the turn then belongs to the current scene of those.
        """
        place = turn.place
        async with self._database.transaction() as statements:
            if audience is not None and audience != place.audience:
                await statements.run(
                    "UPDATE turns SET audience = ?, scene = coalesce((SELECT scene FROM places"  # noqa: S608
                    f" WHERE {_IN_PLACE}), 1) WHERE id = ?",
                    (audience, place.channel_id, audience, turn.id),
                )
            await statements.run(
                "UPDATE turns SET take = ?, intent = NULL, token = NULL, message_id = ?"
                " WHERE id = ?",
                (turn.number, message_id, turn.id),
            )

    async def withdraw(
        self, turn: Turn, *, before: int | None = None, keep_take: bool = False
    ) -> None:
        """Record that the message does not show the intended take, and never will.

        A turn that was never shown is deleted; so is a take that was stored to be shown.

        Args:
            turn: The turn with the intended take.
            before: The intent that this one has replaced, if that was not settled.
            keep_take: Whether the take was shown before, so that it stays.
        """
        async with self._database.transaction() as statements:
            await statements.run("DELETE FROM turns WHERE id = ? AND take IS NULL", (turn.id,))
            if not keep_take:
                await statements.run(
                    "DELETE FROM takes WHERE turn_id = ? AND number = ? AND number > 1"
                    " AND number = (SELECT max(number) FROM takes WHERE turn_id = ?)"
                    " AND EXISTS (SELECT 1 FROM turns WHERE id = ? AND intent = ? AND take != ?)",
                    (turn.id, turn.number, turn.id, turn.id, turn.number, turn.number),
                )
            await statements.run(
                "UPDATE turns SET intent = ?, token = NULL WHERE id = ?", (before, turn.id)
            )

    async def unsettled(self, channel_id: int | None = None) -> list[Turn]:
        """Return the turns with an intent, with the intended take, of one channel or of all."""
        where = "intent IS NOT NULL" + ("" if channel_id is None else " AND channel_id = ?")
        return await self._turns(
            f"{_UNSETTLED} WHERE {where} ORDER BY id",
            () if channel_id is None else (channel_id,),
        )

    async def forget_unseen(self, created_before: float) -> int:
        """Delete turns that are still not known to be shown; return their number.

        Args:
            created_before: Turns from before this time, in seconds since 1970 UTC.
        """
        return await self._erase(
            await self._database.run(
                # Without the hint, SQLite reads all turns from before that time.
                "DELETE FROM turns INDEXED BY unsettled_turns"
                " WHERE intent IS NOT NULL AND take IS NULL AND created_at < ?",
                (created_before,),
            )
        )

    async def delete(self, turn_id: int) -> int:
        """Delete a turn, and erase its text from the file; return the number of turns deleted."""
        return await self._erase(
            await self._database.run("DELETE FROM turns WHERE id = ?", (turn_id,))
        )

    async def delete_messages(self, channel_id: int, message_ids: Collection[int]) -> int:
        """Delete the turns of messages, and erase their text; return the number of turns.

        Most messages of a channel have no turn. Those do not need the database for themselves.
        """
        found = []
        for message_id in message_ids:
            found += await self._database.fetch(
                "SELECT id FROM turns WHERE channel_id = ? AND message_id = ?",
                (channel_id, message_id),
            )
        if not found:
            return 0
        async with self._database.transaction() as statements:
            for row in found:
                await statements.run("DELETE FROM turns WHERE id = ?", row)
        return await self._erase(len(found))

    async def record_deletion(self, scope: Scope, target: int, *, gone: bool = False) -> Deletion:
        """Record that all turns of a person, a channel or a server are to be deleted.

        `delete_all` does it, and `resume_deletions` if that is interrupted. New scenes start at
        once, so that nothing is continued that is about to be deleted.

        Args:
            scope: What `target` is.
            target: The id of the person, channel or server.
            gone: Whether the channel or server was deleted itself.
        """
        async with self._database.transaction() as statements:
            deletion = await _record(statements, scope, target, gone=gone)
            for thread in await _remove_threads(statements, scope, target) if gone else ():
                await _record(statements, "channel", thread, gone=True)
                self._interrupted = True
        return deletion

    async def delete_all(self, deletion: Deletion) -> int | None:
        """Carry out a recorded deletion; return the number of turns.

        It is done in pieces, between which other statements run. Later turns stay.

        Returns:
            None if the database cannot be used for the time being: `resume_deletions` does the
            rest.
        """
        self._deleting.add(deletion.id)
        try:
            deleted = await self._delete_pieces(
                f"{deletion.scope}_id = ? AND id <= ?", (deletion.target, deletion.newest)
            )
            async with self._database.transaction() as statements:
                if deletion.scope == "user":
                    await statements.run(_FORGET_PLACES, (deletion.target,))
                await statements.run("DELETE FROM erasures WHERE id = ?", (deletion.id,))
            return await self._erase(deleted)
        except RejectedError as error:
            log.warning("Deletion %d is not complete yet: %s", deletion.id, error)
            self._interrupted = True
            return None
        finally:
            self._deleting.discard(deletion.id)

    async def resume_deletions(self) -> None:
        """Carry out the deletions that an error or the end of a process has interrupted."""
        if not self._interrupted:
            return
        rows = await self._database.fetch("SELECT id, scope, target, newest FROM erasures")
        self._interrupted = False
        for row in rows:
            deletion = Deletion(*row)
            if deletion.id not in self._deleting:
                await self.delete_all(deletion)

    async def delete_before(self, created_at: float) -> int:
        """Delete turns older than a time, in seconds since 1970 UTC; return their number."""
        return await self._erase(await self._delete_pieces("created_at < ?", (created_at,)))

    async def unlink(self, guild_id: int) -> None:
        """Clear the message ids of a server, for a simulated one whose messages are gone."""
        await self._database.run(
            "UPDATE turns SET message_id = NULL WHERE guild_id = ?", (guild_id,)
        )

    async def statistics(self) -> Statistics:
        """Return the totals and the median time of the last turns."""
        ((scenes, characters),) = await self._database.fetch(
            "SELECT scenes, characters FROM totals"
        )
        rows = await self._database.fetch(
            "SELECT seconds FROM (SELECT id, take FROM turns ORDER BY id DESC LIMIT ?) AS newest"
            " JOIN takes ON turn_id = newest.id AND number = take",
            (TIMED_TURNS,),
        )
        seconds = [row[0] for row in rows]
        return Statistics(
            scenes=scenes,
            characters=characters,
            median_seconds=statistics.median(seconds) if seconds else None,
            timed=len(seconds),
        )

    async def _before(
        self, place: Place, scene: int, turn_id: int, limit: int = _ROWS_PER_READ
    ) -> list[Turn]:
        """Return shown turns with lower ids, newest first."""
        return await self._turns(
            f"{_JOIN} = turns.take WHERE {_IN_PLACE} AND scene = ? AND id < ?"
            " ORDER BY id DESC LIMIT ?",
            (place.channel_id, place.audience, scene, turn_id, limit),
        )

    async def _after(
        self, place: Place, scene: int, turn_id: int, limit: int = _ROWS_PER_READ
    ) -> list[Turn]:
        """Return shown turns with higher ids, oldest first."""
        return await self._turns(
            f"{_JOIN} = turns.take WHERE {_IN_PLACE} AND scene = ? AND id > ? ORDER BY id LIMIT ?",
            (place.channel_id, place.audience, scene, turn_id, limit),
        )

    async def _turns(self, sql: str, parameters: tuple[object, ...]) -> list[Turn]:
        return [_turn(*row) for row in await self._database.fetch(sql, parameters)]

    async def _delete_pieces(self, condition: str, values: tuple[float, ...]) -> int:
        deleted = 0
        while count := await self._database.run(
            "DELETE FROM turns WHERE id IN"  # noqa: S608 - the condition is a constant
            f" (SELECT id FROM turns WHERE {condition} LIMIT {_ROWS_PER_DELETE})",
            values,
        ):
            deleted += count
            self._database.erasure_owed = True
        return deleted

    async def _erase(self, deleted: int) -> int:
        """Erase deleted text from the write-ahead log too, also that of an earlier deletion."""
        if deleted or self._database.erasure_owed:
            with suppress(RejectedError):  # it stays owed
                await self._database.erase()
        return deleted


async def _record(
    statements: Statements, scope: Scope, target: int, *, gone: bool = False
) -> Deletion:
    column = "audience" if scope == "user" else f"{scope}_id"
    change = "DELETE FROM places" if gone else _NEXT_SCENE
    await statements.run(f"{change} WHERE {column} = ? AND {column} != 0", (target,))
    rows = await statements.fetch(
        "INSERT INTO erasures (scope, target, newest)"
        " SELECT ?, ?, coalesce(max(id), 0) FROM turns RETURNING id, scope, target, newest",
        (scope, target),
    )
    return Deletion(*rows[0])


async def _remove_threads(statements: Statements, scope: Scope, target: int) -> list[int]:
    """Remove a channel or server that is gone from the list of threads.

    Returns:
        The ids of a channel's threads, whose turns are to be deleted, too; those of a server are
        deleted with it.
    """
    if scope == "guild":
        await statements.run("DELETE FROM threads WHERE guild_id = ?", (target,))
        return []
    await statements.run("DELETE FROM threads WHERE id = ?", (target,))
    rows = await statements.fetch("DELETE FROM threads WHERE parent_id = ? RETURNING id", (target,))
    return [int(row[0]) for row in rows]


_NEXT_SCENE = "UPDATE places SET scene = scene + 1, counted = 0"
_FORGET_PLACES = """
DELETE FROM places WHERE audience = ? AND audience != 0 AND NOT EXISTS (
    SELECT 1 FROM turns WHERE turns.channel_id = places.channel_id
        AND turns.audience = places.audience
)"""


async def _insert_take(
    statements: Statements, turn_id: int, number: int, take: Take, created_at: float
) -> None:
    await statements.run(
        "INSERT INTO takes (turn_id, number, reply, seed, weights, seconds, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (turn_id, number, take.reply, take.seed, take.weights, take.seconds, created_at),
    )


def _length(turn: Turn) -> int:
    return len(turn.prompt or "") + len(turn.reply)


def _turn(
    turn_id: int,
    guild_id: int | None,
    channel_id: int,
    audience: int,
    user_id: int,
    scene: int,
    prompt: str | None,
    max_chars: int,
    temperature: float,
    message_id: int | None,
    shown: int | None,
    intent: int | None,
    token: str | None,
    number: int,
    reply: str,
    seed: int,
    weights: str,
    seconds: float,
    takes: int,
) -> Turn:
    return Turn(
        id=turn_id,
        place=Place(guild_id=guild_id, channel_id=channel_id, audience=audience),
        user_id=user_id,
        scene=scene,
        prompt=prompt,
        max_chars=max_chars,
        temperature=temperature,
        message_id=message_id,
        shown=shown,
        intent=intent,
        token=token,
        number=number,
        take=Take(reply=reply, seed=seed, weights=weights, seconds=seconds),
        takes=takes,
    )
