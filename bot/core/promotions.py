"""Choose the active weights: those of a promoted run, else the configured ones."""

import asyncio
import errno
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import noskgpt

from ..complaints import Complaints
from ..concurrency import Threads
from ..errors import Reason, RejectedError, StartupError, is_shortage
from ..storage.runs import Run, RunStore
from .inference import Inference
from .shared_folder import Decision, SharedFolder

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

ANSWER_SECONDS = 20.0
"""Time after which a use of the shared folder is given up: it may be on a server that does not
answer, and decisions about weights wait meanwhile."""


def is_passing(error: Exception) -> bool:
    """Return whether weights could not be read for a reason that says nothing about their file."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, PermissionError) or is_shortage(cause)


def weights_path(folder: Path, run_id: int) -> Path:
    """Return the path of a run's weights, given the folder of all runs."""
    return folder / str(run_id) / "weights.pth"


@dataclass(frozen=True, slots=True)
class Sharing:
    """The folder through which processes share their decisions, and the threads that use it."""

    folder: SharedFolder
    threads: Threads

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that uses the folder.

        Raises:
            OSError: As the function; or it has not ended after `ANSWER_SECONDS`.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self.threads.run(function, *args, **kwargs)
        except TimeoutError as error:
            raise OSError(errno.ETIMEDOUT, "The folder does not answer") from error


class Promotions:
    """Activate the weights of runs and roll back, step by step, across restarts.

    With a shared folder, the last decision of any process holds for all of them. A process records
    its own decisions only; a rollback restores the weights from before in that record.

    Args:
        runs: The stored runs.
        inference: Owns the active model.
        folder: The folder of all runs.
        sharing: Where decisions are shared; None: with nobody.

    Attributes:
        lock: Held by whoever decides about weights of runs and then loads or deletes their files,
            so that nobody else decides in between.
    """

    def __init__(
        self,
        runs: RunStore,
        inference: Inference,
        folder: Path,
        sharing: Sharing | None = None,
    ) -> None:
        self.lock = asyncio.Lock()
        self._runs = runs
        self._inference = inference
        self._folder = folder
        self._sharing = sharing
        self._followed: str | None = None  # the id of the last decision that was carried out
        self._foreign = False  # whether the active weights are another process's decision
        self._owed: tuple[int | None, str | None] | None = None  # a decision still to be shared
        self._complaints = Complaints(log)
        # There is such a file while a decision is still to be shared, also after a restart.
        self._owed_mark = folder / ".unshared"

    async def load(self) -> None:
        """Activate the weights that were promoted last; end promotions that cannot be loaded.

        Raises:
            StartupError: The configured weights cannot be loaded either, or promoted weights cannot
                be read at the moment.
        """
        await self._load_own()
        if self._sharing is not None and self._owed_mark.exists():
            own = await self._own()
            self._owed = (None, None) if own is None else (own.id, own.weights)
        await self.follow()

    async def follow(self) -> None:
        """Carry out the last decision of any process, as soon as its weights can be read."""
        if self._sharing is None:
            return
        async with self.lock:
            if self._owed is not None:
                await self._share(*self._owed)
                return
            try:
                await self._follow(self._sharing)
                self._complaints.over()
            except (noskgpt.NoskGPTError, OSError, ValueError) as error:
                self._complaints.met("Cannot use the shared weights yet: %s", error)

    async def _follow(self, sharing: Sharing) -> None:
        decision = await sharing.run(sharing.folder.decision)
        own = await self._own()
        if decision is None:
            if own is not None and self._followed is None:  # from before there was a shared folder
                await self._share(own.id, own.weights)
            return
        if decision.id == self._followed:
            return
        model = await self._decided(decision, sharing)
        self._foreign = decision.weights != (None if own is None else own.weights)
        self._followed = decision.id
        if model.name != self._inference.model.name:
            self._inference.activate(model)
            log.info("Another process has decided: weights %s are active", model.name)

    async def _decided(self, decision: Decision, sharing: Sharing) -> noskgpt.Generator:
        """Return the model that a decision is about.

        Raises:
            NoskGPTError: Its file is missing or damaged, or has other weights.
            OSError: It cannot be read.
        """
        if decision.weights is None:
            return await self._inference.read()
        if decision.weights == self._inference.model.name:
            return self._inference.model
        path = sharing.folder.path(decision.weights)
        model = await self._inference.read(path)
        if model.name != decision.weights:
            raise noskgpt.NoskGPTError(f"{path} has the weights {model.name}")
        return model

    async def _own(self) -> Run | None:
        """Return the run that this process promoted last, unless it was rolled back."""
        promotions = await self._runs.promotions()
        return await self._runs.get(promotions[0].run_id) if promotions else None

    async def _share(self, run_id: int | None, weights: str | None) -> None:
        """Let all processes use the weights of a run, now or once the folder can be written to."""
        self._foreign = False
        if self._sharing is None:
            return
        source = None if run_id is None else weights_path(self._folder, run_id)
        self._owed = run_id, weights  # first: the process may end while the folder does not answer
        self._mark_owed()
        try:
            decision = await self._sharing.run(self._sharing.folder.decide, weights, source)
        except OSError as error:
            self._complaints.met("Other processes do not have the weights yet: %s", error)
        else:
            self._owed, self._followed = None, decision.id
            self._complaints.over()
            self._mark_owed()
            log.info("Other processes will use the weights, too")

    def _mark_owed(self) -> None:
        with suppress(OSError):  # a full disk: the next process does not know of it then
            if self._owed is None:
                self._owed_mark.unlink(missing_ok=True)
            else:
                self._owed_mark.touch()

    async def _load_own(self) -> None:
        for promotion in await self._runs.promotions():
            try:
                model = await self._read(promotion.run_id)
            except RejectedError as error:
                raise StartupError(
                    f"Cannot read the weights of run {promotion.run_id}, which are promoted; if "
                    "their file is moved away, the bot uses the weights from before: "
                    f"{error.__cause__}"
                ) from error
            if model is not None:
                self._inference.activate(model)
                return
            await self._runs.withdraw(promotion, 0)
        await self._inference.load()

    async def active(self) -> int | None:
        """Return the id of the run whose weights are active.

        None stands for the configured ones, and for those of another process.
        """
        if self._foreign:
            return None
        promotions = await self._runs.promotions()
        return promotions[0].run_id if promotions else None

    async def promote(self, run_id: int, user_id: int) -> Run:
        """Activate the weights of a finished run from the next request on.

        Raises:
            RejectedError: It has not finished, is active already, or its file was changed or cannot
                be read at the moment.
        """
        async with self.lock:
            if run_id == await self.active():
                raise RejectedError(Reason.RUN_PROMOTED_ALREADY, run_id=run_id)
            run, model = await self.load_finished(run_id)
            if not await self._runs.promote(run_id, user_id):  # it has looked at the state again
                require_finished(await self._runs.get(run_id))
            self._inference.activate(model)
            log.info("Run %d was promoted: weights %s are active", run_id, model.name)
            await self._share(run_id, model.name)
            return run

    async def load_finished(self, run_id: int) -> tuple[Run, noskgpt.Generator]:
        """Return a finished run and its model; the caller holds the lock.

        Raises:
            RejectedError: It has not finished, or its file was changed or cannot be read at the
                moment.
        """
        run = await self._runs.get(run_id)
        require_finished(run)
        model = await self._read(run_id)
        if model is None or model.name != run.weights:
            raise RejectedError(Reason.RUN_DAMAGED, run_id=run_id)
        return run, model

    async def roll_back(self, user_id: int) -> Run | None:
        """Activate the weights from before the last promotion.

        Weights that cannot be loaded any more are skipped.

        Returns:
            The run of these weights; None for the configured ones.

        Raises:
            RejectedError: No promotion is in force, no earlier weights can be loaded, or they
                cannot be read at the moment.
        """
        async with self.lock:
            promotions = await self._runs.promotions()
            if not promotions and not self._foreign:
                raise RejectedError(Reason.NOTHING_TO_ROLL_BACK)
            # Weights of another process are not in the record; its last ones are from before them.
            for steps in range(0 if self._foreign else 1, len(promotions) + 1):
                run_id = promotions[steps].run_id if steps < len(promotions) else None
                if model := await self._read(run_id):
                    break
            else:
                raise RejectedError(Reason.NO_EARLIER_WEIGHTS)
            if steps:
                await self._runs.withdraw(promotions[steps - 1], user_id)
            self._inference.activate(model)
            log.info("Rolled back: weights %s are active", model.name)
            await self._share(run_id, None if run_id is None else model.name)
            return None if run_id is None else await self._runs.get(run_id)

    async def _read(self, run_id: int | None) -> noskgpt.Generator | None:
        """Return the model of a run, of None the configured one; None if it cannot be loaded.

        Raises:
            RejectedError: It cannot be read at the moment.
        """
        path = None if run_id is None else weights_path(self._folder, run_id)
        try:
            return await self._inference.read(path)
        except (noskgpt.NoskGPTError, OSError) as error:
            log.error("Cannot load the weights of run %s: %s", run_id, error)  # noqa: TRY400
            if is_passing(error):
                raise RejectedError(Reason.WEIGHTS_UNREADABLE) from error
            return None


def require_finished(run: Run) -> None:
    """Raise `RejectedError` unless the weights of a run can be promoted."""
    if run.state != "finished":
        raise RejectedError(
            Reason.RUN_NOT_FINISHED, run_id=run.id, state=run.state, action="promoted"
        )
