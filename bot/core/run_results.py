"""Record how training runs end, and compare the weights of one with those before."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial

import noskgpt
from noskgpt.checkpoint import Checkpoint
from noskgpt.runs import SAMPLE_CHARS

from ..complaints import Complaints
from ..concurrency import Threads, Wait
from ..config import DEFAULT_TEMPERATURE
from ..errors import Reason, RejectedError
from ..storage.runs import Run, RunStore
from .active_run import ActiveRun
from .inference import Inference
from .promotions import Promotions, is_passing
from .run_folders import RunFolders
from .training_child import STOPPED

log = logging.getLogger(__name__)

_RETRY_SECONDS = (1.0, 60.0)
"""First and longest pause between attempts to record the end of a run."""
_INTERNAL = "Internal error; the log has the details."
_UNUSABLE = "The weights that the run wrote cannot be loaded."


class RunResults:
    """Record the ends of runs, and promote a better one if that is wanted.

    Args:
        runs: The stored runs.
        promotions: Activates weights.
        inference: Loads the weights of a finished run, and generates the samples.
        folders: The files of the runs.
        threads: Runs file operations.
        auto_promote: Whether a run with a lower loss on the same text is promoted by itself.
        wait: See `bot.concurrency.Wait`.
    """

    def __init__(
        self,
        runs: RunStore,
        promotions: Promotions,
        inference: Inference,
        folders: RunFolders,
        threads: Threads,
        *,
        auto_promote: bool,
        wait: Wait,
    ) -> None:
        self._runs = runs
        self._promotions = promotions
        self._inference = inference
        self._folders = folders
        self._threads = threads
        self._auto_promote = auto_promote
        self._wait = wait
        self._complaints = Complaints(log)

    async def record(self, active: ActiveRun, code: int) -> Run:
        """Record the end of a run, however long the database cannot be written.

        Args:
            active: The run.
            code: The exit code of its child.

        Returns:
            The run as it ended.
        """
        return await self._insist(partial(self._record, active, code))

    async def record_defect(self, run: Run) -> Run:
        """Record that a run failed for a defect of the bot, as `record` does."""
        return await self._insist(partial(self._runs.end, run.id, "failed", problem=_INTERNAL))

    async def recover(self, run: Run) -> Run:
        """Record the end of a run whose child outlived its bot."""
        if await self._threads.run(self._folders.weights(run.id).exists):
            run, _ = await self._finish(run)  # the child finished while the bot was killed
        else:
            run = await self._runs.end(run.id, "interrupted")
        await self._threads.run(self._folders.delete_start, run.id)
        log.info("Run %d: %s, found at startup", run.id, run.state)
        return run

    async def _insist(self, record: Callable[[], Awaitable[Run]]) -> Run:
        pause, longest = _RETRY_SECONDS
        complaints = Complaints(log)
        while True:
            try:
                return await record()
            except (sqlite3.Error, RejectedError) as error:  # that the file cannot be used now
                complaints.met("The end of a run cannot be recorded yet: %s", error)
            await self._wait(asyncio.sleep(pause))
            pause = min(2 * pause, longest)

    async def _record(self, active: ActiveRun, code: int) -> Run:
        run = active.run
        if active.finished:
            run, active.samples = await self._finish(run)
        else:
            state, problem = active.stopped_as, None
            if state is None and code == STOPPED:
                state = "interrupted"
            elif state is None:
                state, problem = "failed", await self._threads.run(self._cause, active, code)
            run = await self._runs.end(run.id, state, problem=problem, **active.columns())
        return run

    def _cause(self, active: ActiveRun, code: int) -> str:
        """Return why a child ended, without paths of the host."""
        if active.problem is not None:
            return self._folders.hide(active.run, active.problem)
        self._folders.log_errors(active.run.id, code)
        if code < 0:
            return f"The process was killed by signal {-code}, by somebody or for lack of memory."
        return f"The process ended with exit code {code}; the log has the details."

    async def _finish(self, run: Run) -> tuple[Run, tuple[str, str] | None]:
        """Load a run's weights and record its results.

        Returns:
            The run, and a text of the active weights beside one of the new weights.
        """
        old = self._inference.model
        try:
            new = await self._inference.read(self._folders.weights(run.id))
        except (noskgpt.NoskGPTError, OSError) as error:
            self._complaints.met("Run %d: %s", run.id, error, level=logging.ERROR)
            if is_passing(error):
                raise RejectedError(Reason.WEIGHTS_UNREADABLE) from error
            return await self._runs.end(run.id, "failed", problem=_UNUSABLE), None
        samples = (await self._sample(old), await self._sample(new))
        record, old_record = new.checkpoint.training, old.checkpoint.training
        old_loss = None
        if record.start_weights == old.name:
            old_loss = record.start_loss
        elif run.corpus is None and _measured_alike(new.checkpoint, old.checkpoint):
            # An attached text declares no held-out part, so it may be split differently.
            old_loss = old_record.held_out_loss
        run = await self._runs.end(
            run.id,
            "finished",
            step=record.steps,
            steps=record.steps,
            corpus_sha256=record.corpus_sha256,
            weights=new.name,
            loss=record.held_out_loss,
            old_weights=old.name,
            old_loss=old_loss,
            start_weights=record.start_weights,
            start_loss=record.start_loss,
            evaluated_fraction=record.evaluated_fraction,
        )
        if self._auto_promote and is_better(run):
            try:
                await self._promotions.promote(run.id, run.user_id)
            except RejectedError as error:
                log.warning("Run %d was not promoted: %s", run.id, error)
        return run, samples

    async def _sample(self, model: noskgpt.Generator) -> str:
        completion = await self._inference.generate(
            "", max_chars=SAMPLE_CHARS, temperature=DEFAULT_TEMPERATURE, seed=1, model=model
        )
        return completion.text


def is_better(run: Run) -> bool:
    """Return whether a run's loss is below that of the weights before, on the same text."""
    return run.loss is not None and run.old_loss is not None and run.loss < run.old_loss


def _measured_alike(one: Checkpoint, other: Checkpoint) -> bool:
    """Return whether the held-out losses in two records are over the same characters."""
    records = (one.training, other.training)
    return (
        one.training.corpus_sha256 == other.training.corpus_sha256
        and one.vocabulary == other.vocabulary  # the text is converted to it
        and all(record.evaluated_fraction == 1 for record in records)
    )
