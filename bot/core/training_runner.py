"""Start, follow and stop training runs, of which each is a child process."""

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import noskgpt
from noskgpt import coverage

from ..concurrency import Threads, Wait, plain_wait
from ..errors import Reason, RejectedError
from ..observation import Training, TrainingState
from ..storage.runs import Run, RunStore, State
from .active_run import ActiveRun
from .inference import Inference
from .promotions import Promotions
from .run_folders import RunFolders
from .run_results import RunResults
from .training_child import TrainingChild, start_child, thread_count

log = logging.getLogger(__name__)

GRACE_SECONDS = 5.0
"""Time, beyond that of one step, after which a child that was told to stop is killed."""

StartFrom = Literal["active weights", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """A request for a training run, with its place."""

    user_id: int
    guild_id: int | None
    channel_id: int
    preset: str
    minutes: float
    corpus: tuple[str, bytes] | None = None
    """File name and content of an attached text; None selects the configured corpus."""
    start_from: StartFrom | None = None
    """None selects the active weights for an attached text that fits them, else nothing."""


class TrainingRunner:
    """Start, follow and stop runs, one at a time, and delete the files of old ones.

    Args:
        runs: The stored runs.
        promotions: Activates weights.
        inference: Generates the samples of a finished run.
        threads: Runs file operations.
        folder: The folder of all runs.
        corpus: The text for runs without an attached one; None selects the bundled plays.
        keep: Number of runs that keep their files, besides those in use.
        auto_promote: Whether a run with a lower loss on the same text is promoted by itself.
        wait: See `bot.concurrency.Wait`.
    """

    def __init__(
        self,
        runs: RunStore,
        promotions: Promotions,
        inference: Inference,
        threads: Threads,
        *,
        folder: Path,
        corpus: Path | None,
        keep: int,
        auto_promote: bool,
        wait: Wait = plain_wait,
    ) -> None:
        self.active: ActiveRun | None = None
        self._runs = runs
        self._promotions = promotions
        self._inference = inference
        self._threads = threads
        self._folders = RunFolders(folder, corpus, keep)
        self._results = RunResults(
            runs,
            promotions,
            inference,
            self._folders,
            threads,
            auto_promote=auto_promote,
            wait=wait,
        )
        self._wait = wait
        self._starting = asyncio.Lock()
        self._closed = False

    async def recover(self) -> Run | None:
        """Record the end of a run whose child outlived its bot, and return the run."""
        run = await self._runs.running()
        if run is None or self.active is not None:
            return None
        return await self._results.recover(run)

    async def start(self, request: TrainingRequest) -> ActiveRun:
        """Start a run.

        Raises:
            RejectedError: Another run is active, the text does not fit the active weights that were
                asked for, the child could not be started, or the runner is closed.
        """
        async with self._start_alone():
            start, missing = await self._choose_start(request)
            run = await self._runs.start(
                user_id=request.user_id,
                guild_id=request.guild_id,
                channel_id=request.channel_id,
                preset=request.preset,
                minutes=request.minutes,
                corpus=request.corpus and request.corpus[0],
                start_weights=None if start is None else start.name,
            )
            options = ("--preset", request.preset, "--minutes", f"{request.minutes:g}")
            active = await self._launch(run, options, request.corpus and request.corpus[1], start)
            active.missing = missing
            return active

    async def _choose_start(
        self, request: TrainingRequest
    ) -> tuple[noskgpt.Generator | None, str | None]:
        """Return the model to start from, and the characters for which it is not the active one.

        Raises:
            RejectedError: The request is for the active weights, and they do not fit the text.
        """
        model = self._inference.model
        if request.start_from == "nothing" or (
            request.start_from is None and request.corpus is None
        ):
            return None, None
        if request.corpus is None:
            return model, None  # the child checks the configured corpus
        vocabulary = model.tokenizer.vocabulary
        left_out = await self._threads.run(_left_out, request.corpus[1], vocabulary)
        if left_out.fits:
            return model, None
        missing = coverage.describe(left_out.characters)
        if request.start_from is not None:
            raise RejectedError(Reason.TEXT_DOES_NOT_FIT, missing=missing)
        return None, missing

    async def resume(self, *, user_id: int, guild_id: int | None, channel_id: int) -> ActiveRun:
        """Resume the last run that did not finish, with its own plan.

        Raises:
            RejectedError: There is none, another is active, the child could not be started, or the
                runner is closed.
        """
        async with self._start_alone():
            run = await self._resumable()
            if run is None:
                raise RejectedError(Reason.NOTHING_TO_RESUME)
            run = await self._runs.resume(
                run.id, user_id=user_id, guild_id=guild_id, channel_id=channel_id
            )
            return await self._launch(run, ("--resume",), None, None)

    async def is_resumable(self, run: Run) -> bool:
        """Return whether `resume` continues this run."""
        resumable = await self._resumable()
        return resumable is not None and resumable.id == run.id

    async def _resumable(self) -> Run | None:
        """Return the last unfinished run that has a checkpoint."""
        for run in await self._runs.newest():
            unfinished = run.state in ("interrupted", "cancelled", "failed")
            if unfinished and await self._threads.run(self._folders.state(run.id).exists):
                return run
        return None

    async def cancel(self) -> Run:
        """Stop the active run with a checkpoint, from which `resume` continues.

        Raises:
            RejectedError: No run is active, or the runner was closed before the end was recorded.
        """
        active = self.active
        if active is None:
            raise RejectedError(Reason.NO_ACTIVE_RUN)
        await self._stop(active, "cancelled", self._wait)
        await self._wait(asyncio.wait({active.ended}))
        if active.ended.cancelled():
            raise RejectedError(Reason.CLOSING)
        return active.ended.result()

    async def discard(self, run_id: int) -> None:
        """Delete the files of a finished run.

        Raises:
            RejectedError: It has not finished, or a promotion or a voice refers to it.
        """
        async with self._promotions.lock:
            if not await self._runs.discard(run_id):
                run = await self._runs.get(run_id)
                if run.state == "finished":
                    raise RejectedError(Reason.RUN_IN_USE, run_id=run_id)
                raise RejectedError(
                    Reason.RUN_NOT_FINISHED, run_id=run_id, state=run.state, action="discarded"
                )
            await self._threads.run(self._folders.delete, run_id)

    async def chart(self, run_id: int) -> bytes | None:
        """Return the chart of a run's losses as a PNG; None if there is none."""
        try:
            return await self._threads.run(self._folders.chart(run_id).read_bytes)
        except OSError:
            return None

    async def close(self) -> None:
        """Reject new runs; stop the active one with a checkpoint and record it as interrupted.

        The child has the time of a step, and its record as long as it takes. If this is cancelled,
        the child is killed at once. A run whose end is not recorded then is recorded by the next
        `recover`.
        """
        self._closed = True
        async with self._starting:
            pass  # a run that was about to start is active now
        active = self.active
        if active is None:
            return
        try:
            # Not through `self._wait`: a shutdown is not one of the bot's own tasks.
            await self._stop(active, "interrupted", plain_wait)
            await asyncio.wait({active.ended})
        finally:
            if not active.ended.done():
                active.child.kill()
                active.ended.cancel()

    @asynccontextmanager
    async def _start_alone(self) -> AsyncIterator[None]:
        """Let nobody else start a run, or decide about weights and files of runs, meanwhile.

        Raises:
            RejectedError: Another run is active, or the runner is closed.
        """
        async with self._starting:
            self._require_open()
            if self.active is not None:  # its end may be stored already, but not its files deleted
                raise RejectedError(Reason.RUN_ACTIVE)
            await self.recover()
            async with self._promotions.lock:
                self._require_open()
                yield

    def snapshot(self) -> Training:
        """Return the state of the training; callable in any thread."""
        active = self.active
        if active is None:
            return Training()
        progress, running = active.progress, active.stopped_as is None
        return Training(
            state=TrainingState.RUNNING if running else TrainingState.STOPPING,
            step=None if progress is None else progress.step,
            steps=None if progress is None else progress.steps,
            train_loss=None if progress is None else progress.train_loss,
            held_out_loss=active.held_out_loss,
        )

    def kill(self) -> None:
        """Kill the active run's child, for a shutdown that cannot wait for its checkpoint."""
        if self.active is not None:
            self.active.child.kill()

    def _require_open(self) -> None:
        if self._closed:
            raise RejectedError(Reason.CLOSING)

    async def _launch(
        self,
        run: Run,
        options: tuple[str, ...],
        corpus: bytes | None,
        start: noskgpt.Generator | None,
    ) -> ActiveRun:
        if start is not None:
            options += ("--init-from", str(self._folders.start(run.id)))
        try:
            resumed = "--resume" in options
            log_file = await self._threads.run(
                self._folders.prepare, run, corpus, start, resumed=resumed
            )
            with log_file:
                child = await self._wait(self._spawn(run, options, log_file))
        except (OSError, noskgpt.CheckpointError) as error:
            # The text of an error of the operating system has the path of the file.
            problem = getattr(error, "strerror", None) or self._folders.hide(run, str(error))
            # The rejection shows this end.
            await self._runs.end(run.id, "failed", problem=problem, end_shown=True)
            raise RejectedError(Reason.RUN_NOT_STARTED, problem=problem) from error
        active = ActiveRun(run=run, child=child)
        active.ended = asyncio.create_task(self._run_to_end(active), name=f"run {run.id}")
        self.active = active
        return active

    def _spawn(
        self, run: Run, options: tuple[str, ...], errors: IO[bytes]
    ) -> Awaitable[TrainingChild]:
        threads, corpus = thread_count(), self._folders.corpus(run)
        arguments = (
            *options,
            *("--threads", str(threads), "--out", str(self._folders.weights(run.id))),
            *("--plot", str(self._folders.chart(run.id))),
            *(("--corpus", str(corpus)) if corpus is not None else ()),
        )
        return start_child(arguments, threads=threads, errors=errors)

    async def _run_to_end(self, active: ActiveRun) -> Run:
        """Read the child's events until it ends; return the run as it ended."""
        try:
            run = await self._follow(active)
            log.info("Run %d: %s at step %d", run.id, run.state, run.step)
            await self._tidy_up(run)
            return run
        finally:
            active.child.close_input()
            self.active = None

    async def _follow(self, active: ActiveRun) -> Run:
        try:
            await self._read_events(active)
            code = await self._wait(active.child.wait())
            return await self._results.record(active, code)
        except Exception:
            log.exception("Run %d could not be followed", active.run.id)
            return await self._results.record_defect(active.run)

    async def _read_events(self, active: ActiveRun) -> None:
        while True:
            try:
                line = await self._wait(active.child.read_line())
            except ValueError:
                log.warning("Run %d: ignored an event that is too long", active.run.id)
                continue
            if not line:
                return
            try:
                active.apply(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                log.warning("Run %d: ignored an invalid event: %s", active.run.id, error)

    async def _tidy_up(self, run: Run) -> None:
        """Delete files that nobody needs after the end of a run, as far as that succeeds."""
        try:
            await self._threads.run(self._folders.delete_start, run.id)
            await self._delete_old_files()
        except (OSError, sqlite3.Error, RejectedError):
            log.exception("Could not delete the files of old runs")

    async def _delete_old_files(self) -> None:
        async with self._promotions.lock:
            for newest in await self._runs.newest(1):
                used = await self._runs.in_use()
                await self._threads.run(self._folders.delete_old, newest.id, used)

    async def _stop(self, active: ActiveRun, state: State, wait: Wait) -> None:
        """Stop a child with a checkpoint, or kill it if that takes longer than a step."""
        seconds = GRACE_SECONDS + active.step_seconds
        if active.stopped_as is None:
            active.stopped_as = state
            active.child.stop()
        await wait(asyncio.wait({active.ended}, timeout=seconds))
        if not active.ended.done() and active.child.returncode is None:
            log.warning("Run %d did not stop and is killed", active.run.id)
            active.child.kill()


def _left_out(corpus: bytes, vocabulary: str) -> coverage.LeftOut:
    """Return what a vocabulary lacks of an attached text, which need not be a text."""
    return coverage.left_out(corpus.decode("utf-8-sig", errors="ignore"), vocabulary)
