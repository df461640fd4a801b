"""The stored training runs: how each stands or ended, and which of them speak."""

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import aiosqlite

from ..errors import RefusedError

State = Literal["running", "interrupted", "cancelled", "failed", "finished", "discarded"]

UNDER_WAY = (
    "I am at my studies already, and can learn but one part at a time: "
    "`/train status` shows how it goes, `/train cancel` ends it."
)

_COLUMNS = (
    "id, state, user_id, guild_id, channel_id, message_id, preset, minutes, corpus, step, steps,"
    " corpus_sha256, weights, loss, old_weights, old_loss, problem, started_at, ended_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training run. Losses are nats per character; times are seconds since 1970 UTC."""

    id: int
    state: State
    user_id: int
    """Who asked for it; 0 once that is forgotten."""
    guild_id: int | None
    channel_id: int | None
    message_id: int | None
    """The live message."""
    preset: str
    minutes: float
    corpus: str | None
    """The name of an attached text; None for the bot's own."""
    step: int
    steps: int | None
    """Planned; None until it began."""
    corpus_sha256: str | None
    weights: str | None
    """Short name of what it made; None until it finished."""
    loss: float | None
    """Over the held-out text."""
    old_weights: str | None
    """Which spoke when it finished."""
    old_loss: float | None
    """Of those, over the same text; None where that is not known."""
    problem: str | None
    """Why it failed."""
    started_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """A run whose weights were made to speak."""

    id: int
    run_id: int
    user_id: int
    promoted_at: float


class Runs:
    """Reads and writes runs and promotions. Every write is committed when its call returns."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def begin(
        self,
        *,
        user_id: int,
        guild_id: int | None,
        channel_id: int,
        preset: str,
        minutes: float,
        corpus: str | None,
    ) -> Run:
        """Store a new run as running.

        Raises:
            RefusedError: Another is.
        """
        return await self._claim(
            "INSERT INTO runs (user_id, guild_id, channel_id, preset, minutes, corpus, started_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (user_id, guild_id, channel_id, preset, minutes, corpus, time.time()),
        )

    async def go_on(
        self, run_id: int, *, user_id: int, guild_id: int | None, channel_id: int
    ) -> Run:
        """Store an ended run as running again, for whoever asks for that now.

        Raises:
            RefusedError: Another is.
        """
        return await self._claim(
            "UPDATE runs SET state = 'running', user_id = ?, guild_id = ?, channel_id = ?,"
            " message_id = NULL, problem = NULL, ended_at = NULL WHERE id = ?",
            (user_id, guild_id, channel_id, run_id),
        )

    async def _claim(self, sql: str, parameters: tuple[object, ...]) -> Run:
        try:
            rows = await self._connection.execute_fetchall(
                f"{sql} RETURNING {_COLUMNS}", parameters
            )
        except sqlite3.IntegrityError as error:
            raise RefusedError(UNDER_WAY) from error
        (run,) = map(_run, rows)
        return run

    async def show(self, run_id: int, channel_id: int, message_id: int) -> None:
        """Record which message shows a run."""
        await self._write(
            "UPDATE runs SET channel_id = ?, message_id = ? WHERE id = ?",
            (channel_id, message_id, run_id),
        )

    async def end(self, run_id: int, state: State, **found: str | float | None) -> Run:
        """Record how a run ended, with what was found out of it, by column.

        One that is no longer running keeps its state: its end was recorded by another.
        """
        columns = "".join(f", {column} = ?" for column in found)
        await self._write(
            f"UPDATE runs SET state = ?, ended_at = ?{columns}"  # noqa: S608 - all of it is ours
            " WHERE id = ? AND state = 'running'",
            (state, time.time(), *found.values(), run_id),
        )
        return await self.get(run_id)

    async def discard(self, run_id: int) -> None:
        """Record that a finished run is not wanted."""
        await self._write("UPDATE runs SET state = 'discarded' WHERE id = ?", (run_id,))

    async def get(self, run_id: int) -> Run:
        """Return a run.

        Raises:
            RefusedError: There is none of this number.
        """
        for run in await self._runs("WHERE id = ?", (run_id,)):
            return run
        msg = f"I know of no run {run_id}. `/train history` lists them."
        raise RefusedError(msg)

    async def running(self) -> Run | None:
        """Return the run that is stored as running."""
        runs = await self._runs("WHERE state = 'running'", ())
        return runs[0] if runs else None

    async def newest(self, limit: int = -1) -> list[Run]:
        """Return the last runs, newest first; -1 for all of them."""
        return await self._runs("ORDER BY id DESC LIMIT ?", (limit,))

    async def promote(self, run_id: int, user_id: int) -> None:
        """Record that a run's weights speak from now on."""
        await self._write(
            "INSERT INTO promotions (run_id, user_id, promoted_at) VALUES (?, ?, ?)",
            (run_id, user_id, time.time()),
        )

    async def withdraw(self, promotion: Promotion, user_id: int) -> None:
        """Record that a promotion holds no longer; user 0 is the bot itself."""
        await self._write(
            "UPDATE promotions SET withdrawn_by = ?, withdrawn_at = ? WHERE id = ?",
            (user_id, time.time(), promotion.id),
        )

    async def promotions(self) -> list[Promotion]:
        """Return those that hold, newest first: the first speaks."""
        rows = await self._connection.execute_fetchall(
            "SELECT id, run_id, user_id, promoted_at FROM promotions"
            " WHERE withdrawn_at IS NULL ORDER BY id DESC"
        )
        return [
            Promotion(id=row[0], run_id=row[1], user_id=row[2], promoted_at=row[3]) for row in rows
        ]

    async def forget_guild(self, guild_id: int) -> None:
        """Forget in which server, channel and message its runs were shown."""
        await self._write(
            "UPDATE runs SET guild_id = NULL, channel_id = NULL, message_id = NULL"
            " WHERE guild_id = ?",
            (guild_id,),
        )

    async def forget_user(self, user_id: int) -> None:
        """Forget that it was this person who asked for runs, and promoted or withdrew them."""
        for table, column in (
            ("runs", "user_id"),
            ("promotions", "user_id"),
            ("promotions", "withdrawn_by"),
        ):
            await self._write(
                f"UPDATE {table} SET {column} = 0 WHERE {column} = ?",  # noqa: S608 - ours
                (user_id,),
            )

    async def _runs(self, condition: str, parameters: tuple[object, ...]) -> list[Run]:
        rows = await self._connection.execute_fetchall(
            f"SELECT {_COLUMNS} FROM runs {condition}",  # noqa: S608 - all of it is ours
            parameters,
        )
        return [_run(row) for row in rows]

    async def _write(self, sql: str, parameters: tuple[object, ...]) -> None:
        await self._connection.execute_fetchall(sql, parameters)


def _run(row: Iterable[Any]) -> Run:
    return Run(**dict(zip(Run.__slots__, row, strict=True)))
