"""Delete turns, and erase their text from the file.

A deletion of all turns of a person, a channel or a server is recorded first and carried out in
pieces, between which other statements run. A turn that was requested before such a deletion is not
stored after it. With the last turn of a place, triggers delete what is stored about the place.
"""

import logging
from collections.abc import Collection, Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal

from ..errors import RejectedError, StoppedError
from .database import Database, Statements
from .records import TurnRequest

log = logging.getLogger(__name__)

_ROWS_PER_DELETE = 50
"""Size of the pieces of long deletions."""
_NEXT_SCENE = "UPDATE places SET scene = scene + 1, counted = 0"
_LEAVE_PLACE = "UPDATE runs SET guild_id = NULL, channel_id = NULL, message_id = NULL"

Scope = Literal["user", "channel", "guild"]


@dataclass(frozen=True, slots=True)
class Deletion:
    """A confirmed deletion of turns."""

    id: int
    scope: Scope
    target: int
    """The id of the person, channel or server."""
    newest: int
    """Turns with higher ids are later than the deletion."""
    marks: int = 0
    """Number of rows about other things than turns and daily scenes that it has changed already."""
    schedules: int = 0
    """Number of daily scenes that it has deleted already."""


class Watch:
    """Whether a deletion that concerns a request was recorded since the request was accepted."""

    def __init__(self, request: TurnRequest) -> None:
        self._request = request
        self._overtaken = False

    def notice(self, scope: Scope, targets: Container[int]) -> None:
        """Note deletions if one of them concerns the request."""
        place = self._request.place
        ids = {
            "user": self._request.user_id,
            "channel": place.channel_id,
            "guild": place.guild_id,
        }
        self._overtaken |= ids[scope] in targets

    def check(self) -> None:
        """Refuse to store a turn of the request after such a deletion.

        Called in the transaction that stores it, so that no deletion can be recorded in between.

        Raises:
            StoppedError: There was such a deletion.
        """
        if self._overtaken:
            raise StoppedError


class DeletionStore:
    """Delete turns. Every deletion is committed when its call returns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Ids of the deletions that are being carried out.
        self._running: set[int] = set()
        # Whether others may be recorded: those of an earlier process, or after an error.
        self._interrupted = True
        # Of the requests whose turns are not stored yet.
        self._watches: set[Watch] = set()

    @contextmanager
    def watch(self, request: TurnRequest) -> Iterator[Watch]:
        """Notice deletions that concern a request, until its turn is stored."""
        watch = Watch(request)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

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

    async def delete_messages(self, message_ids: Collection[int]) -> int:
        """Delete the turns of messages, and erase their text; return the number of turns.

        They are found in every channel, because a turn may not have the id of its own: Discord's
        ids of messages are unique.
        Most messages of a channel have no turn. Those do not need the database for themselves.
        """
        found = []
        for message_id in message_ids:
            found += await self._database.fetch(
                "SELECT id FROM turns WHERE message_id = ?", (message_id,)
            )
        if not found:
            return 0
        async with self._database.transaction() as statements:
            for row in found:
                await statements.run("DELETE FROM turns WHERE id = ?", row)
        return await self._erase(len(found))

    async def delete_before(self, created_at: float) -> int:
        """Delete turns older than a time, in seconds since 1970 UTC; return their number."""
        return await self._erase(await self._delete_pieces("created_at < ?", (created_at,)))

    async def record(self, scope: Scope, target: int, *, gone: bool = False) -> Deletion:
        """Record that all turns of a person, a channel or a server are to be deleted.

        What else is stored about them is deleted at once: parts, the person's id in training runs
        and promotions, the person's daily scenes, and the runs' place and the daily scenes of a
        channel or a server that is gone.

        `carry_out` does it, and `resume` if that is interrupted. New scenes start at once, so that
        nothing is continued that is about to be deleted.

        Args:
            scope: What `target` is.
            target: The id of the person, channel or server.
            gone: Whether the channel or server was deleted itself.
        """
        async with self._database.transaction() as statements:
            deletion = await self._record(statements, scope, target, gone=gone)
            if gone and scope == "channel":
                await self._record_threads(statements, target)
            elif gone:
                await statements.run("DELETE FROM threads WHERE guild_id = ?", (target,))
        # Those of threads, and this one if what is to be done before it fails. Not earlier:
        # `resume` might not read them yet, and count them as read.
        self._interrupted |= gone
        return deletion

    async def carry_out(self, deletion: Deletion) -> int | None:
        """Carry out a recorded deletion; return the number of turns. Later turns stay.

        Returns:
            None if the database cannot be used for the time being: `resume` does the rest.
        """
        self._running.add(deletion.id)
        try:
            deleted = await self._delete_pieces(
                f"{deletion.scope}_id = ? AND id <= ?", (deletion.target, deletion.newest)
            )
            await self._database.run("DELETE FROM erasures WHERE id = ?", (deletion.id,))
            return await self._erase(deleted)
        except RejectedError as error:
            log.warning("Deletion %d is not complete yet: %s", deletion.id, error)
            self._interrupted = True
            return None
        finally:
            self._running.discard(deletion.id)

    async def resume(self) -> None:
        """Carry out the deletions that an error or the end of a process has interrupted."""
        if not self._interrupted:
            return
        # Before the read: a deletion that is recorded meanwhile may not be among its rows.
        self._interrupted = False
        try:
            rows = await self._database.fetch("SELECT id, scope, target, newest FROM erasures")
        except BaseException:
            self._interrupted = True
            raise
        for row in rows:
            deletion = Deletion(*row)
            if deletion.id not in self._running:
                await self.carry_out(deletion)

    async def _record(
        self, statements: Statements, scope: Scope, target: int, *, gone: bool
    ) -> Deletion:
        # Whoever deletes a channel that stays holds its lock: a later turn belongs to a new scene.
        if gone or scope == "user":
            for watch in self._watches:
                watch.notice(scope, {target})
        marks = await statements.run(f"DELETE FROM parts WHERE {scope}_id = ?", (target,))  # noqa: S608
        column = "audience" if scope == "user" else f"{scope}_id"
        change = "DELETE FROM places" if gone else _NEXT_SCENE
        await statements.run(f"{change} WHERE {column} = ? AND {column} != 0", (target,))
        if scope == "channel":
            marks += await statements.run(
                "DELETE FROM continuations WHERE thread_id = ? OR channel_id = ?", (target, target)
            )
        schedules = 0
        if gone or scope == "user":
            marks += await _leave_runs(statements, scope, target)
            schedules = await _remove_schedules(statements, scope, target)
        self._database.erasure_owed |= marks + schedules > 0
        rows = await statements.fetch(
            "INSERT INTO erasures (scope, target, newest)"
            " SELECT ?, ?, coalesce(max(id), 0) FROM turns RETURNING id, scope, target, newest",
            (scope, target),
        )
        return replace(Deletion(*rows[0]), marks=marks, schedules=schedules)

    async def _record_threads(self, statements: Statements, channel_id: int) -> None:
        """Record that all turns of the threads of a channel that is gone are to be deleted.

        A forum may have thousands of them, so each statement is about all.
        """
        await statements.run("DELETE FROM threads WHERE id = ?", (channel_id,))
        of_channel = "(SELECT id FROM threads WHERE parent_id = ?)"
        rows = await statements.fetch(
            "INSERT INTO erasures (scope, target, newest)"
            " SELECT 'channel', id, (SELECT coalesce(max(id), 0) FROM turns)"
            " FROM threads WHERE parent_id = ? RETURNING target",
            (channel_id,),
        )
        threads = {int(row[0]) for row in rows}
        for watch in self._watches:
            watch.notice("channel", threads)
        for table, column in (
            ("parts", "channel_id"),
            ("places", "channel_id"),
            ("continuations", "thread_id"),
        ):
            deleted = await statements.run(
                f"DELETE FROM {table} WHERE {column} IN {of_channel}",  # noqa: S608 - constants
                (channel_id,),
            )
            self._database.erasure_owed |= deleted > 0
        await statements.run(
            f"{_LEAVE_PLACE} WHERE channel_id IN {of_channel}",
            (channel_id,),
        )
        await statements.run("DELETE FROM threads WHERE parent_id = ?", (channel_id,))

    async def _delete_pieces(self, condition: str, values: tuple[float, ...]) -> int:
        deleted = 0
        while count := await self._database.run(
            "DELETE FROM turns WHERE id IN"  # noqa: S608 - the condition is a constant
            f" (SELECT id FROM turns WHERE {condition} LIMIT {_ROWS_PER_DELETE})",
            values,
            in_background=True,
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


async def _leave_runs(statements: Statements, scope: Scope, target: int) -> int:
    """Remove a person, or a place that is gone, from runs; return the number of changed rows."""
    if scope != "user":
        return await statements.run(f"{_LEAVE_PLACE} WHERE {scope}_id = ?", (target,))
    runs = await statements.run("UPDATE runs SET user_id = 0 WHERE user_id = ?", (target,))
    return runs + await statements.run(
        "UPDATE promotions SET user_id = iif(user_id = ?, 0, user_id),"
        " withdrawn_by = iif(withdrawn_by = ?, 0, withdrawn_by)"
        " WHERE ? IN (user_id, withdrawn_by)",
        (target, target, target),
    )


async def _remove_schedules(statements: Statements, scope: Scope, target: int) -> int:
    """Delete the daily scenes of a person, or of a channel or server that is gone."""
    condition = "? IN (channel_id, parent_id)" if scope == "channel" else f"{scope}_id = ?"
    return await statements.run(f"DELETE FROM schedules WHERE {condition}", (target,))  # noqa: S608
