"""Read and write training runs, and the promotions of their weights."""

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import Reason, RejectedError
from .database import Database

_IN_USE = (
    "SELECT run_id FROM promotions WHERE withdrawn_at IS NULL"
    " UNION SELECT run_id FROM voices WHERE removed_at IS NULL"
)
State = Literal["running", "interrupted", "cancelled", "failed", "finished", "discarded"]

_COLUMNS = (
    "id, state, user_id, guild_id, channel_id, message_id, preset, minutes, corpus, step, steps,"
    " corpus_sha256, weights, loss, old_weights, old_loss, problem, started_at, ended_at,"
    " start_weights, start_loss, evaluated_fraction"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training run. Losses are nats per character; times are seconds since 1970 UTC."""

    id: int
    state: State
    user_id: int
    """The person who started or resumed it; 0 after their data was deleted."""
    guild_id: int | None
    channel_id: int | None
    message_id: int | None
    """The message that shows its status."""
    preset: str
    minutes: float
    corpus: str | None
    """The file name of an attached text; None for the configured corpus."""
    step: int
    steps: int | None
    """Planned number; None before the first report."""
    corpus_sha256: str | None
    weights: str | None
    """Short name of the weights it produced; None until it finished."""
    loss: float | None
    """Loss of these weights on the held-out text."""
    old_weights: str | None
    """Short name of the weights that were active when it finished."""
    old_loss: float | None
    """Their loss on the same text; None if it was not measured on that text."""
    problem: str | None
    """Cause of a failure."""
    started_at: float
    ended_at: float | None
    start_weights: str | None
    """Short name of the weights it started from; None if it started from nothing."""
    start_loss: float | None
    """Their loss on the held-out text before the first step; None before it is measured."""
    evaluated_fraction: float | None
    """The part of the held-out text over which `loss` and `start_loss` were measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """The decision to use a run's weights."""

    id: int
    run_id: int


class RunStore:
    """Read and write runs and promotions. Every write is committed when its call returns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(
        self,
        *,
        user_id: int,
        guild_id: int | None,
        channel_id: int,
        preset: str,
        minutes: float,
        corpus: str | None,
        start_weights: str | None = None,
    ) -> Run:
        """Store a new run as running.

        Raises:
            RejectedError: Another run is active.
        """
        return await self._claim(
            "INSERT INTO runs (user_id, guild_id, channel_id, preset, minutes, corpus,"
            " start_weights, started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (user_id, guild_id, channel_id, preset, minutes, corpus, start_weights, time.time()),
        )

    async def resume(
        self, run_id: int, *, user_id: int, guild_id: int | None, channel_id: int
    ) -> Run:
        """Store an ended run as running again, for the person who resumes it.

        Raises:
            RejectedError: Another run is active.
        """
        return await self._claim(
            "UPDATE runs SET state = 'running', user_id = ?, guild_id = ?, channel_id = ?,"
            " message_id = NULL, problem = NULL, ended_at = NULL, end_shown = 0 WHERE id = ?",
            (user_id, guild_id, channel_id, run_id),
        )

    async def _claim(self, sql: str, parameters: tuple[object, ...]) -> Run:
        try:
            rows = await self._database.change(f"{sql} RETURNING {_COLUMNS}", parameters)
        except sqlite3.IntegrityError as error:
            raise RejectedError(Reason.RUN_ACTIVE) from error
        (run,) = map(_run, rows)
        return run

    async def set_message(self, run_id: int, channel_id: int, message_id: int) -> None:
        """Record the message that shows a run's status, unless its place was erased meanwhile."""
        await self._database.run(
            "UPDATE runs SET channel_id = ?, message_id = ?"
            " WHERE id = ? AND channel_id IS NOT NULL",
            (channel_id, message_id, run_id),
        )

    async def end(self, run_id: int, state: State, **results: str | float | None) -> Run:
        """Record the end of a run and its results by column; return the run.

        A run that is not stored as running keeps its state: its end was recorded before.
        """
        columns = "".join(f", {column} = ?" for column in results)
        await self._database.run(
            f"UPDATE runs SET state = ?, ended_at = ?{columns}"  # noqa: S608 - all parts are constants
            " WHERE id = ? AND state = 'running'",
            (state, time.time(), *results.values(), run_id),
        )
        return await self.get(run_id)

    async def set_end_shown(self, run: Run) -> None:
        """Record that the end of a run was shown, unless the run was resumed meanwhile."""
        await self._database.run(
            "UPDATE runs SET end_shown = 1 WHERE id = ? AND ended_at = ?", (run.id, run.ended_at)
        )

    async def unshown(self) -> list[Run]:
        """Return the runs that have ended and whose end is still to be shown, oldest first."""
        return await self._runs("WHERE state != 'running' AND end_shown = 0 ORDER BY id", ())

    async def discard(self, run_id: int) -> bool:
        """Record that a run was discarded, if it has finished and its weights are not in use.

        Returns:
            Whether that is so.
        """
        discarded = await self._database.run(
            "UPDATE runs SET state = 'discarded' WHERE id = ? AND state = 'finished'"  # noqa: S608
            f" AND id NOT IN ({_IN_USE})",
            (run_id,),
        )
        return discarded > 0

    async def get(self, run_id: int) -> Run:
        """Return a run.

        Raises:
            RejectedError: It does not exist.
        """
        for run in await self._runs("WHERE id = ?", (run_id,)):
            return run
        raise RejectedError(Reason.UNKNOWN_RUN, run_id=run_id)

    async def running(self) -> Run | None:
        """Return the run that is stored as running, if any."""
        runs = await self._runs("WHERE state = 'running'", ())
        return runs[0] if runs else None

    async def newest(self, limit: int = -1) -> list[Run]:
        """Return the last runs, newest first; a limit of -1 returns all."""
        return await self._runs("ORDER BY id DESC LIMIT ?", (limit,))

    async def promote(self, run_id: int, user_id: int) -> bool:
        """Record that a run's weights are used from now on, if the run has finished.

        Returns:
            Whether it has.
        """
        promoted = await self._database.run(
            "INSERT INTO promotions (run_id, user_id, promoted_at)"
            " SELECT id, ?, ? FROM runs WHERE id = ? AND state = 'finished'",
            (user_id, time.time(), run_id),
        )
        return promoted > 0

    async def withdraw(self, promotion: Promotion, user_id: int) -> None:
        """Record that a promotion and all later ones have ended; user 0 is the bot itself."""
        await self._database.run(
            "UPDATE promotions SET withdrawn_by = ?, withdrawn_at = ?"
            " WHERE id >= ? AND withdrawn_at IS NULL",
            (user_id, time.time(), promotion.id),
        )

    async def promotions(self) -> list[Promotion]:
        """Return the promotions in force, newest first; the first run's weights are active."""
        rows = await self._database.fetch(
            "SELECT id, run_id FROM promotions WHERE withdrawn_at IS NULL ORDER BY id DESC"
        )
        return [Promotion(id=row[0], run_id=row[1]) for row in rows]

    async def in_use(self) -> set[int]:
        """Return the runs whose weights are those of a promotion in force or of a voice."""
        return {int(row[0]) for row in await self._database.fetch(_IN_USE)}

    async def _runs(self, condition: str, parameters: tuple[object, ...]) -> list[Run]:
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM runs {condition}",  # noqa: S608 - all parts are constants
            parameters,
        )
        return [_run(row) for row in rows]


def _run(row: Iterable[Any]) -> Run:
    return Run(**dict(zip(Run.__slots__, row, strict=True)))
