"""Training beside the bot: a child process at low priority, followed by its JSON lines.

The child is `noskgpt train`. It ends with a checkpoint when its input ends, so it outlives neither
a bot that stops nor one that is killed.
"""

import asyncio
import json
import logging
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import noskgpt
from noskgpt.training.recipe import PRESETS
from noskgpt.training.run_files import run_path
from noskgpt.training.trainer import SAMPLE_CHARS, Progress

from .errors import RefusedError
from .generation import Generation, Wait, plain_wait
from .guild_settings import DEFAULT_TEMPERATURE
from .runs import Run, Runs, State
from .succession import Succession, weights_path

log = logging.getLogger(__name__)

NICENESS = 19
"""How far a run stands back for all else; see `man 7 sched`."""
GRACE_SECONDS = 5.0
"""How long beyond one step a child that is told to stop has before it is killed."""
_LINE_LIMIT = 2**20
_STOPPED = 128 + signal.SIGTERM
"""What a child ends with that was told to stop."""

NOTHING_RUNS = "I am at no studies just now. `/train start` begins some."
NOTHING_TO_RESUME = "There is no unfinished run to go on with. Leave `resume` out to begin one."
BROKE_OFF = "Something failed on my side; the log knows more."
UNUSABLE = "The weights that it wrote cannot be used."


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the bot's owner wants learnt, and where they asked for it."""

    user_id: int
    guild_id: int | None
    channel_id: int
    preset: str
    minutes: float
    corpus: tuple[str, bytes] | None = None
    """The name and the content of an attached text; None for the bot's own."""


@dataclass(eq=False, kw_only=True)
class Live:
    """A run whose child process is at work."""

    run: Run
    process: Process
    progress: Progress | None = None
    """The newest."""
    held_out_loss: float | None = None
    """The newest; as the sample, it is measured now and then only."""
    sample: str | None = None
    samples: tuple[str, str] | None = None
    """When it has finished: a text of the weights that spoke, and one of the new ones."""
    stopped_as: State | None = None
    """How it is to be recorded, once it was told to stop."""
    problem: str | None = None
    finished: bool = False
    ended: "asyncio.Task[Run]" = field(init=False)
    """Follows the child; its result is the run as it ended."""

    @property
    def step_seconds(self) -> float:
        """How long a step takes; 0 before the first."""
        if self.progress is None:
            return 0.0
        characters = PRESETS[self.run.preset].batch * 256
        return characters / self.progress.characters_per_second


class Training:
    """Starts, follows and stops runs, one at a time, and clears old ones away.

    Args:
        runs: The stored runs.
        succession: What promotes them.
        generation: What speaks meanwhile.
        folder: Where each run has a folder of its own.
        corpus: The text to learn from if none is attached; None is the bundled plays.
        keep: How many runs keep their files, beside those in use.
        auto_promote: Whether a better run on the same text speaks without being asked.
        wait: See `bot.generation.Wait`.
    """

    def __init__(
        self,
        runs: Runs,
        succession: Succession,
        generation: Generation,
        *,
        folder: Path,
        corpus: Path | None,
        keep: int,
        auto_promote: bool,
        wait: Wait = plain_wait,
    ) -> None:
        self.live: Live | None = None
        self._runs = runs
        self._succession = succession
        self._generation = generation
        self._folder = folder.absolute()
        self._corpus = corpus
        self._keep = keep
        self._auto_promote = auto_promote
        self._wait = wait
        self._starting = asyncio.Lock()

    async def recover(self) -> Run | None:
        """Record the end of a run that nobody follows any more, and return it."""
        run = await self._runs.running()
        if run is None or self.live is not None:
            return None
        if await asyncio.to_thread(weights_path(self._folder, run.id).exists):
            run, _ = await self._finish(run)  # in the moments in which the bot was ended
        else:
            run = await self._runs.end(run.id, "interrupted")
        log.info("Run %d: %s, found at the start", run.id, run.state)
        return run

    async def start(self, order: Order) -> Live:
        """Begin a run.

        Raises:
            RefusedError: Another is under way, or the child could not be started.
        """
        async with self._starting:
            await self.recover()
            run = await self._runs.begin(
                user_id=order.user_id,
                guild_id=order.guild_id,
                channel_id=order.channel_id,
                preset=order.preset,
                minutes=order.minutes,
                corpus=order.corpus and order.corpus[0],
            )
            options = ("--preset", order.preset, "--minutes", f"{order.minutes:g}")
            return await self._launch(run, options, order.corpus and order.corpus[1])

    async def resume(self, *, user_id: int, guild_id: int | None, channel_id: int) -> Live:
        """Go on with the last run that was begun and not finished, as it was planned.

        Raises:
            RefusedError: There is none, another is under way, or it could not be started.
        """
        async with self._starting:
            await self.recover()
            for run in await self._runs.newest():
                unfinished = run.state in ("interrupted", "cancelled", "failed")
                if unfinished and await asyncio.to_thread(self._unfinished(run.id).exists):
                    break
            else:
                raise RefusedError(NOTHING_TO_RESUME)
            run = await self._runs.go_on(
                run.id, user_id=user_id, guild_id=guild_id, channel_id=channel_id
            )
            return await self._launch(run, ("--resume",), None)

    async def cancel(self) -> Run:
        """Stop the run; what it had learnt is kept for `resume`.

        Raises:
            RefusedError: None is under way.
        """
        if self.live is None:
            raise RefusedError(NOTHING_RUNS)
        return await self._stop(self.live, "cancelled", self._wait)

    async def discard(self, run_id: int) -> None:
        """Remove what a finished run made.

        Raises:
            RefusedError: It has not finished, or it is in use.
        """
        run = await self._runs.get(run_id)
        if run.state != "finished":
            msg = f"Run {run_id} is {run.state}: only one that has finished can be discarded."
            raise RefusedError(msg)
        if run_id in [promotion.run_id for promotion in await self._runs.promotions()]:
            msg = f"Run {run_id} speaks, or is what `/train rollback` goes back to."
            raise RefusedError(msg)
        await self._runs.discard(run_id)
        await asyncio.to_thread(shutil.rmtree, self._folder_of(run_id), ignore_errors=True)

    async def chart(self, run_id: int) -> bytes | None:
        """Return the picture of a run's losses, a PNG; None if there is none."""
        try:
            return await asyncio.to_thread(self._chart(run_id).read_bytes)
        except OSError:
            return None

    async def close(self) -> None:
        """Stop the run with a checkpoint, as an interrupted one."""
        if self.live is not None:
            # Not through the seam: whoever closes the bot is no part of it.
            await self._stop(self.live, "interrupted", plain_wait)

    def _folder_of(self, run_id: int) -> Path:
        return weights_path(self._folder, run_id).parent

    def _unfinished(self, run_id: int) -> Path:
        return run_path(weights_path(self._folder, run_id))

    def _chart(self, run_id: int) -> Path:
        return self._folder_of(run_id) / "losses.png"

    async def _launch(self, run: Run, options: tuple[str, ...], corpus: bytes | None) -> Live:
        try:
            log_file = await asyncio.to_thread(self._prepare, run, corpus)
            with log_file:
                process = await self._wait(self._spawn(run, options, log_file))
        except OSError as error:
            await self._runs.end(run.id, "failed", problem=str(error))
            msg = f"My studies could not begin: {error.strerror or error}."
            raise RefusedError(msg) from error
        _stand_back(process.pid)
        live = Live(run=run, process=process)
        live.ended = asyncio.create_task(self._follow(live), name=f"run {run.id}")
        self.live = live
        return live

    def _prepare(self, run: Run, corpus: bytes | None) -> IO[bytes]:
        """Make a run's folder; return the file for what its child says besides."""
        folder = self._folder_of(run.id)
        folder.mkdir(parents=True, exist_ok=True)
        if corpus is not None:
            (folder / "corpus.txt").write_bytes(corpus)
        return (folder / "stderr.txt").open("wb")

    def _spawn(self, run: Run, options: tuple[str, ...], errors: IO[bytes]) -> Awaitable[Process]:
        threads = max(1, (os.cpu_count() or 1) - 1)
        corpus = self._corpus if run.corpus is None else self._folder_of(run.id) / "corpus.txt"
        command = [
            *("-m", "noskgpt", "train", "--json", "--until-stdin-ends", *options),
            *("--threads", str(threads), "--out", str(weights_path(self._folder, run.id))),
            *("--plot", str(self._chart(run.id))),
            *(("--corpus", str(corpus.absolute())) if corpus is not None else ()),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        environment.pop("DISCORD_TOKEN", None)
        return asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            env=environment,
            stdin=PIPE,
            stdout=PIPE,
            stderr=errors,
            limit=_LINE_LIMIT,
            # Ctrl-C at the terminal is for the bot. A group and not a session: Linux weighs
            # priorities within a session only, where it groups them (man 7 sched, autogroup).
            process_group=0,
        )

    async def _follow(self, live: Live) -> Run:
        """Take in what the child says until it ends; return the run as it ended."""
        run_id, process = live.run.id, live.process
        try:
            await self._listen(live)
            code = await self._wait(process.wait())
            return await self._conclude(live, code)
        except Exception:
            log.exception("Run %d could not be followed", run_id)
            return await self._runs.end(run_id, "failed", problem=BROKE_OFF)
        finally:
            assert process.stdin is not None  # noqa: S101 - a pipe
            process.stdin.close()
            self.live = None

    async def _listen(self, live: Live) -> None:
        assert live.process.stdout is not None  # noqa: S101 - a pipe
        while True:
            try:
                line = await self._wait(live.process.stdout.readline())
            except ValueError:
                log.warning("Run %d said something endless", live.run.id)
                continue
            if not line:
                return
            try:
                _take_in(live, json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                log.warning("Run %d said something odd: %s", live.run.id, error)

    async def _conclude(self, live: Live, code: int) -> Run:
        run = live.run
        if live.finished:
            run, live.samples = await self._finish(run)
        else:
            state, problem = live.stopped_as, None
            if state is None and code == _STOPPED:
                state = "interrupted"
            elif state is None:
                state, problem = "failed", await asyncio.to_thread(self._explain, live, code)
            run = await self._runs.end(run.id, state, problem=problem, **_steps_of(live))
        log.info("Run %d: %s at step %d", run.id, run.state, run.step)
        await self._clear_away()
        return run

    async def _finish(self, run: Run) -> tuple[Run, tuple[str, str] | None]:
        """Look at what a run made; return it with a text of the old and one of the new weights."""
        old = self._generation.model
        try:
            new = await self._generation.read(weights_path(self._folder, run.id))
        except (noskgpt.NoskGPTError, OSError) as error:
            log.error("Run %d: %s", run.id, error)  # noqa: TRY400 - no defect of the bot
            return await self._runs.end(run.id, "failed", problem=UNUSABLE), None
        samples = (await self._sample(old), await self._sample(new))
        record, old_record = new.checkpoint.training, old.checkpoint.training
        # An attached text has no declared held-out part, so the same bytes may be split otherwise.
        same_text = run.corpus is None and record.corpus_sha256 == old_record.corpus_sha256
        run = await self._runs.end(
            run.id,
            "finished",
            step=record.steps,
            steps=record.steps,
            corpus_sha256=record.corpus_sha256,
            weights=new.name,
            loss=record.held_out_loss,
            old_weights=old.name,
            old_loss=old_record.held_out_loss if same_text else None,
        )
        if self._auto_promote and is_better(run):
            try:
                await self._succession.promote(run.id, run.user_id)
            except RefusedError as error:
                log.warning("Run %d was not promoted: %s", run.id, error)
        return run, samples

    async def _sample(self, model: noskgpt.Generator) -> str:
        result = await self._generation.generate(
            "", max_chars=SAMPLE_CHARS, temperature=DEFAULT_TEMPERATURE, seed=1, model=model
        )
        return result.text

    def _explain(self, live: Live, code: int) -> str:
        """Return why a child ended, for the bot's owner."""
        folder = self._folder_of(live.run.id)
        if live.problem is not None:
            name = live.run.corpus or "corpus.txt"
            return live.problem.replace(f"{folder / 'corpus.txt'}", name).replace(f"{folder}/", "")
        with suppress(OSError):
            said = (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace")
            log.error("Run %d ended with code %d and said: %s", live.run.id, code, said[-2000:])
        if code < 0:
            return f"It was killed by signal {-code}: by somebody, or because memory ran out."
        return f"It broke off with exit code {code}; the log knows more."

    async def _stop(self, live: Live, state: State, wait: Wait) -> Run:
        """End a child in good order, and if it does not, at once; return the run as it ended."""
        if live.stopped_as is None:  # a second signal would kill it
            live.stopped_as = state
            assert live.process.stdin is not None  # noqa: S101 - a pipe
            live.process.stdin.close()
            if os.name == "posix":  # elsewhere the first would
                with suppress(ProcessLookupError):
                    live.process.terminate()
        patience = GRACE_SECONDS + live.step_seconds
        await wait(asyncio.wait({live.ended}, timeout=patience))
        if not live.ended.done():
            log.warning("Run %d did not stop and is killed", live.run.id)
            with suppress(ProcessLookupError):
                live.process.kill()
            await wait(asyncio.wait({live.ended}))
        return live.ended.result()

    async def _clear_away(self) -> None:
        """Remove the files of runs beyond the last ones that are not in use."""
        in_use = {promotion.run_id for promotion in await self._runs.promotions()}
        await asyncio.to_thread(self._remove_old, in_use)

    def _remove_old(self, in_use: set[int]) -> None:
        kept = 0
        folders = [path for path in self._folder.iterdir() if path.name.isdecimal()]
        for folder in sorted(folders, key=lambda path: int(path.name), reverse=True):
            run_id = int(folder.name)
            if run_id in in_use:
                continue
            paths = (weights_path(self._folder, run_id), self._unfinished(run_id))
            kept += any(path.exists() for path in paths)
            if kept > self._keep or not any(path.exists() for path in paths):
                shutil.rmtree(folder, ignore_errors=True)


def is_better(run: Run) -> bool:
    """Return whether a run beats what spoke when it finished, over the same held-out text."""
    return run.loss is not None and run.old_loss is not None and run.loss < run.old_loss


def _take_in(live: Live, event: dict[str, Any]) -> None:
    kind = event.pop("event")
    if kind == "progress":
        live.progress = Progress(**event)
        if live.progress.held_out_loss is not None:
            live.held_out_loss = live.progress.held_out_loss
            live.sample = live.progress.sample
    elif kind == "finished":
        live.finished = True
    elif kind == "error":
        live.problem = str(event["problem"])
    elif kind == "not_saved":
        log.warning("Run %d: %s", live.run.id, event["problem"])


def _steps_of(live: Live) -> dict[str, int]:
    progress = live.progress
    return {} if progress is None else {"step": progress.step, "steps": progress.steps}


def _stand_back(pid: int) -> None:
    """Lower a child's priority before it has more threads than one, which inherit it."""
    # A sandbox may forbid it, and then it is only slower. Windows has no such call.
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, pid, NICENESS)
