"""Run training in a child process at low priority, and follow it by its JSON events.

The child is `noskgpt train`. It saves a checkpoint and ends when its standard input ends, so it
does not outlive a bot that exits or is killed.
"""

import asyncio
import json
import logging
import os
import re
import shutil
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import noskgpt
from noskgpt import checkpoint as checkpoints
from noskgpt import coverage
from noskgpt.runs import SAMPLE_CHARS, Progress, run_path

from ..concurrency import Threads, Wait, plain_wait
from ..config import DEFAULT_TEMPERATURE
from ..errors import Reason, RejectedError
from ..observation import Training, TrainingState
from ..storage.runs import Run, RunStore, State
from .inference import Inference
from .promotions import Promotions, weights_path

log = logging.getLogger(__name__)

NICENESS = 19
"""Niceness of the child process; see `man 7 sched`."""
GRACE_SECONDS = 5.0
"""Time, beyond that of one step, after which a child that was told to stop is killed."""
RECORD_SECONDS = 2.0
"""Time that `TrainingRunner.close` gives to the record of a run whose child has ended."""
_RETRY_SECONDS = (1.0, 60.0)
"""First and longest pause between attempts to record the end of a run."""
_LINE_LIMIT = 2**20
"""Longest event in bytes."""
_JOIN_GROUP = "import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Python code that runs a command in a process group of its own. asyncio has an argument for
that, which uvloop, the event loop of some hosts, rejects."""
_STOPPED = 128 + signal.SIGTERM
"""Exit code of a child that was told to stop."""

StartFrom = Literal["active weights", "nothing"]

_FOLDERS = re.compile(r"(?<![\w./:~-])(?:[A-Za-z]:)?[/\\](?=[^\s/\\])(?:[^\s/\\'\"]+[/\\])*")
"""The folders of an absolute path."""
_INTERNAL = "Internal error; the log has the details."
_UNUSABLE = "The weights that the run wrote cannot be loaded."


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


@dataclass(eq=False, kw_only=True)
class ActiveRun:
    """A run whose child process is alive."""

    run: Run
    process: Process
    progress: Progress | None = None
    """The newest progress event."""
    characters_per_step: int = 0
    """Known from the start of the training on."""
    missing: str | None = None
    """The characters of an attached text for which it starts from nothing and not from weights."""
    start_loss: float | None = None
    """Held-out loss of the weights that the run started from."""
    evaluated_fraction: float = 1.0
    """The part of the held-out text that is evaluated."""
    held_out_loss: float | None = None
    """The newest one; like the sample, it is measured on some steps only."""
    sample: str | None = None
    samples: tuple[str, str] | None = None
    """After the run has finished: a text of the weights active until then, and one of the new."""
    stopped_as: State | None = None
    """The state to record, once the run was told to stop."""
    problem: str | None = None
    finished: bool = False
    ended: "asyncio.Task[Run]" = field(init=False)
    """The task that follows the child; its result is the run as it ended."""

    @property
    def step_seconds(self) -> float:
        """The duration of a step; 0 before the first."""
        if self.progress is None:
            return 0.0
        return self.characters_per_step / self.progress.characters_per_second


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
        self._folder = folder.absolute()
        self._corpus = corpus
        self._keep = keep
        self._auto_promote = auto_promote
        self._wait = wait
        self._starting = asyncio.Lock()
        self._closed = False

    async def recover(self) -> Run | None:
        """Record the end of a run whose child outlived its bot, and return the run."""
        run = await self._runs.running()
        if run is None or self.active is not None:
            return None
        if await self._threads.run(weights_path(self._folder, run.id).exists):
            run, _ = await self._finish(run)  # the child finished while the bot was killed
        else:
            run = await self._runs.end(run.id, "interrupted")
        await self._threads.run(self._start_path(run.id).unlink, missing_ok=True)
        log.info("Run %d: %s, found at startup", run.id, run.state)
        return run

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
            if unfinished and await self._threads.run(self._state_path(run.id).exists):
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
        await self._stop(active, "cancelled", GRACE_SECONDS + active.step_seconds, self._wait)
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
            await self._threads.run(shutil.rmtree, self._run_folder(run_id), ignore_errors=True)

    async def chart(self, run_id: int) -> bytes | None:
        """Return the chart of a run's losses as a PNG; None if there is none."""
        try:
            return await self._threads.run(self._chart_path(run_id).read_bytes)
        except OSError:
            return None

    async def close(self, seconds: float | None = None) -> None:
        """Reject new runs; stop the active one with a checkpoint and record it as interrupted.

        If this is cancelled, the child is killed at once. A run whose end could not be recorded in
        time is recorded by the next `recover`.

        Args:
            seconds: The time after which the child is killed; `RECORD_SECONDS` later this returns.
                None gives the child the time of a step, and its record as long as it takes.
        """
        self._closed = True
        began = asyncio.get_running_loop().time()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._starting:
                pass  # a run that was about to start is active now
        active = self.active
        if active is None:
            return
        if seconds is None:
            left = GRACE_SECONDS + active.step_seconds
        else:
            left = max(0.0, began + seconds - asyncio.get_running_loop().time())
        try:
            # Not through `self._wait`: a shutdown is not one of the bot's own tasks.
            await self._stop(active, "interrupted", left, plain_wait)
            record_seconds = None if seconds is None else RECORD_SECONDS
            await asyncio.wait({active.ended}, timeout=record_seconds)
        finally:
            if not active.ended.done():
                _kill(active)
                active.ended.cancel()
        await asyncio.wait({active.ended})

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
            _kill(self.active)

    def _require_open(self) -> None:
        if self._closed:
            raise RejectedError(Reason.CLOSING)

    def _run_folder(self, run_id: int) -> Path:
        return weights_path(self._folder, run_id).parent

    def _state_path(self, run_id: int) -> Path:
        return run_path(weights_path(self._folder, run_id))

    def _start_path(self, run_id: int) -> Path:
        """Return the path of the weights that a run starts from, while its child needs them."""
        return self._run_folder(run_id) / "start.pth"

    def _chart_path(self, run_id: int) -> Path:
        return self._run_folder(run_id) / "losses.png"

    async def _launch(
        self,
        run: Run,
        options: tuple[str, ...],
        corpus: bytes | None,
        start: noskgpt.Generator | None,
    ) -> ActiveRun:
        if start is not None:
            options += ("--init-from", str(self._start_path(run.id)))
        try:
            log_file = await self._threads.run(self._prepare, run, corpus, start)
            with log_file:
                process = await self._wait(self._spawn(run, options, log_file))
        except (OSError, noskgpt.CheckpointError) as error:
            # The text of an error of the operating system has the path of the file.
            problem = getattr(error, "strerror", None) or self._without_folders(run, str(error))
            # The rejection shows this end.
            await self._runs.end(run.id, "failed", problem=problem, end_shown=True)
            raise RejectedError(Reason.RUN_NOT_STARTED, problem=problem) from error
        _lower_priority(process.pid)
        active = ActiveRun(run=run, process=process)
        active.ended = asyncio.create_task(self._run_to_end(active), name=f"run {run.id}")
        self.active = active
        return active

    def _prepare(
        self, run: Run, corpus: bytes | None, start: noskgpt.Generator | None
    ) -> IO[bytes]:
        """Create a run's folder; return the file for the child's standard error."""
        folder = self._run_folder(run.id)
        folder.mkdir(parents=True, exist_ok=True)
        if corpus is not None:
            (folder / "corpus.txt").write_bytes(corpus)
        if start is not None:
            # Not the file of the active weights, which may have changed since it was loaded.
            checkpoints.save(start.checkpoint, self._start_path(run.id))
        return (folder / "stderr.txt").open("wb")

    def _spawn(self, run: Run, options: tuple[str, ...], errors: IO[bytes]) -> Awaitable[Process]:
        threads = max(1, (os.cpu_count() or 1) - 1)
        corpus = self._corpus if run.corpus is None else self._run_folder(run.id) / "corpus.txt"
        # Ctrl-C at the terminal is for the bot alone. A process group and not a session: where
        # Linux groups sessions (man 7 sched, autogroup), niceness counts within one.
        grouped = (sys.executable, "-I", "-S", "-c", _JOIN_GROUP) if os.name == "posix" else ()
        command = [
            *(*grouped, sys.executable, "-P", "-m", "noskgpt"),
            *("train", "--json", "--until-stdin-ends", *options),
            *("--threads", str(threads), "--out", str(weights_path(self._folder, run.id))),
            *("--plot", str(self._chart_path(run.id))),
            *(("--corpus", str(corpus.absolute())) if corpus is not None else ()),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        environment.pop("DISCORD_TOKEN", None)
        return asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=PIPE,
            stdout=PIPE,
            stderr=errors,
            limit=_LINE_LIMIT,
        )

    async def _run_to_end(self, active: ActiveRun) -> Run:
        """Read the child's events until it ends; return the run as it ended."""
        try:
            run = await self._follow(active)
            log.info("Run %d: %s at step %d", run.id, run.state, run.step)
            await self._tidy_up(run)
            return run
        finally:
            assert active.process.stdin is not None  # noqa: S101 - a pipe
            active.process.stdin.close()
            self.active = None

    async def _follow(self, active: ActiveRun) -> Run:
        try:
            await self._read_events(active)
            code = await self._wait(active.process.wait())
            return await self._insist(partial(self._record_end, active, code))
        except Exception:
            log.exception("Run %d could not be followed", active.run.id)
            end = partial(self._runs.end, active.run.id, "failed", problem=_INTERNAL)
            return await self._insist(end)

    async def _insist(self, record: Callable[[], Awaitable[Run]]) -> Run:
        """Record the end of a run, however long the database cannot be written."""
        pause, longest = _RETRY_SECONDS
        problem = None
        while True:
            try:
                return await record()
            except (sqlite3.Error, RejectedError) as error:  # that the file cannot be used now
                if str(error) != problem:
                    problem = str(error)
                    log.warning("The end of a run cannot be recorded yet: %s", problem)
            await self._wait(asyncio.sleep(pause))
            pause = min(2 * pause, longest)

    async def _read_events(self, active: ActiveRun) -> None:
        assert active.process.stdout is not None  # noqa: S101 - a pipe
        while True:
            try:
                line = await self._wait(active.process.stdout.readline())
            except ValueError:
                log.warning("Run %d: ignored an event that is too long", active.run.id)
                continue
            if not line:
                return
            try:
                _apply_event(active, json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                log.warning("Run %d: ignored an invalid event: %s", active.run.id, error)

    async def _record_end(self, active: ActiveRun, code: int) -> Run:
        run = active.run
        if active.finished:
            run, active.samples = await self._finish(run)
        else:
            state, problem = active.stopped_as, None
            if state is None and code == _STOPPED:
                state = "interrupted"
            elif state is None:
                state, problem = "failed", await self._threads.run(self._cause, active, code)
            run = await self._runs.end(run.id, state, problem=problem, **_steps(active))
        return run

    async def _tidy_up(self, run: Run) -> None:
        """Delete files that nobody needs after the end of a run, as far as that succeeds."""
        try:
            await self._threads.run(self._start_path(run.id).unlink, missing_ok=True)
            await self._delete_old_files()
        except (OSError, sqlite3.Error, RejectedError):
            log.exception("Could not delete the files of old runs")

    async def _finish(self, run: Run) -> tuple[Run, tuple[str, str] | None]:
        """Load a run's weights and record its results.

        Returns:
            The run, and a text of the active weights beside one of the new weights.
        """
        old = self._inference.model
        try:
            new = await self._inference.read(weights_path(self._folder, run.id))
        except (noskgpt.NoskGPTError, OSError) as error:
            log.error("Run %d: %s", run.id, error)  # noqa: TRY400 - no defect of the bot
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

    def _without_folders(self, run: Run, text: str) -> str:
        """Return a text with the names of files alone: the folders are the host's."""
        folder = self._run_folder(run.id)
        names = {f"{folder / 'corpus.txt'}": run.corpus or "corpus.txt", f"{folder}{os.sep}": ""}
        if self._corpus is not None:
            names[f"{self._corpus.absolute()}"] = self._corpus.name
        for path, name in names.items():  # these may have spaces
            text = text.replace(path, name)
        return _FOLDERS.sub("", text)

    def _cause(self, active: ActiveRun, code: int) -> str:
        """Return why a child ended, without paths of the host."""
        folder = self._run_folder(active.run.id)
        if active.problem is not None:
            return self._without_folders(active.run, active.problem)
        with suppress(OSError):
            output = (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace")
            log.error("Run %d ended with code %d: %s", active.run.id, code, output[-2000:])
        if code < 0:
            return f"The process was killed by signal {-code}, by somebody or for lack of memory."
        return f"The process ended with exit code {code}; the log has the details."

    async def _stop(self, active: ActiveRun, state: State, seconds: float, wait: Wait) -> None:
        """Stop a child with a checkpoint, or kill it if that takes longer."""
        if active.stopped_as is None:  # a second signal would kill it
            active.stopped_as = state
            assert active.process.stdin is not None  # noqa: S101 - a pipe
            active.process.stdin.close()
            if os.name == "posix":  # elsewhere the first would
                with suppress(ProcessLookupError):
                    active.process.terminate()
        await wait(asyncio.wait({active.ended}, timeout=seconds))
        if not active.ended.done() and active.process.returncode is None:
            log.warning("Run %d did not stop and is killed", active.run.id)
            _kill(active)

    async def _delete_old_files(self) -> None:
        """Delete the files of all but the newest runs and those in use."""
        async with self._promotions.lock:
            await self._threads.run(self._delete_folders, await self._runs.in_use())

    def _delete_folders(self, used: set[int]) -> None:
        kept = 0
        folders = [path for path in self._folder.iterdir() if path.name.isdecimal()]
        for folder in sorted(folders, key=lambda path: int(path.name), reverse=True):
            run_id = int(folder.name)
            if run_id in used:
                continue
            paths = (weights_path(self._folder, run_id), self._state_path(run_id))
            kept += any(path.exists() for path in paths)
            if kept > self._keep or not any(path.exists() for path in paths):
                shutil.rmtree(folder, ignore_errors=True)


def _kill(active: ActiveRun) -> None:
    with suppress(ProcessLookupError):
        active.process.kill()


def is_better(run: Run) -> bool:
    """Return whether a run's loss is below that of the weights before, on the same text."""
    return run.loss is not None and run.old_loss is not None and run.loss < run.old_loss


def _measured_alike(one: checkpoints.Checkpoint, other: checkpoints.Checkpoint) -> bool:
    """Return whether the held-out losses in two records are over the same characters."""
    records = (one.training, other.training)
    return (
        one.training.corpus_sha256 == other.training.corpus_sha256
        and one.vocabulary == other.vocabulary  # the text is converted to it
        and all(record.evaluated_fraction == 1 for record in records)
    )


def _left_out(corpus: bytes, vocabulary: str) -> coverage.LeftOut:
    """Return what a vocabulary lacks of an attached text, which need not be a text."""
    return coverage.left_out(corpus.decode("utf-8-sig", errors="ignore"), vocabulary)


def _apply_event(active: ActiveRun, event: dict[str, Any]) -> None:
    kind = event.pop("event")
    if kind == "started":
        active.characters_per_step = event["characters_per_step"]
        active.start_loss = event["start_loss"]
        active.evaluated_fraction = event["evaluated_characters"] / event["held_out_characters"]
    elif kind == "progress":
        active.progress = Progress(**event)
        if active.progress.held_out_loss is not None:
            active.held_out_loss = active.progress.held_out_loss
            active.sample = active.progress.sample
    elif kind == "finished":
        active.finished = True
    elif kind == "error":
        active.problem = str(event["problem"])
    elif kind == "not_saved":
        log.warning("Run %d: %s", active.run.id, event["problem"])


def _steps(active: ActiveRun) -> dict[str, float | None]:
    """Return the columns that are known of a run which has not finished."""
    progress = active.progress
    if progress is None:
        return {}
    return {
        "step": progress.step,
        "steps": progress.steps,
        "start_loss": active.start_loss,
        "evaluated_fraction": active.evaluated_fraction,
    }


def _lower_priority(pid: int) -> None:
    """Lower a child's priority while it has one thread, from which later ones inherit it."""
    # A sandbox may forbid it, and Windows has no such call; replies are then slower.
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, pid, NICENESS)
