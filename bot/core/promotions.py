"""Choose the active weights: those of a promoted run, else the configured ones."""

import asyncio
import logging
from pathlib import Path

import noskgpt

from ..errors import Reason, RejectedError
from ..storage.runs import Run, RunStore
from .inference import Inference

log = logging.getLogger(__name__)


def weights_path(folder: Path, run_id: int) -> Path:
    """Return the path of a run's weights, given the folder of all runs."""
    return folder / str(run_id) / "weights.pth"


class Promotions:
    """Activate the weights of runs and roll back, step by step, across restarts.

    Args:
        runs: The stored runs.
        inference: Owns the active model.
        folder: The folder of all runs.

    Attributes:
        lock: Held by whoever decides about weights of runs and then loads or deletes their files,
            so that nobody else decides in between.
    """

    def __init__(self, runs: RunStore, inference: Inference, folder: Path) -> None:
        self.lock = asyncio.Lock()
        self._runs = runs
        self._inference = inference
        self._folder = folder

    async def load(self) -> None:
        """Activate the weights that were promoted last; end promotions that cannot be loaded.

        Raises:
            StartupError: The configured weights cannot be loaded either.
        """
        for promotion in await self._runs.promotions():
            if model := await self._read(promotion.run_id):
                self._inference.activate(model)
                return
            await self._runs.withdraw(promotion, 0)
        await self._inference.load()

    async def active(self) -> int | None:
        """Return the id of the run whose weights are active; None for the configured ones."""
        promotions = await self._runs.promotions()
        return promotions[0].run_id if promotions else None

    async def promote(self, run_id: int, user_id: int) -> Run:
        """Activate the weights of a finished run from the next request on.

        Raises:
            RejectedError: It has not finished, is active already, or its file was changed.
        """
        async with self.lock:
            run = await self._runs.get(run_id)
            _require_finished(run)
            if run_id == await self.active():
                raise RejectedError(Reason.RUN_PROMOTED_ALREADY, run_id=run_id)
            model = await self._read(run_id)
            if model is None or model.name != run.weights:
                raise RejectedError(Reason.RUN_DAMAGED, run_id=run_id)
            if not await self._runs.promote(run_id, user_id):  # it has looked at the state again
                _require_finished(await self._runs.get(run_id))
            self._inference.activate(model)
            log.info("Run %d was promoted: weights %s are active", run_id, model.name)
            return run

    async def roll_back(self, user_id: int) -> Run | None:
        """Activate the weights from before the last promotion.

        Weights that cannot be loaded any more are skipped.

        Returns:
            The run of these weights; None for the configured ones.

        Raises:
            RejectedError: No promotion is in force, or no earlier weights can be loaded.
        """
        async with self.lock:
            promotions = await self._runs.promotions()
            if not promotions:
                raise RejectedError(Reason.NOTHING_TO_ROLL_BACK)
            for steps in range(1, len(promotions) + 1):
                run_id = promotions[steps].run_id if steps < len(promotions) else None
                if model := await self._read(run_id):
                    break
            else:
                raise RejectedError(Reason.NO_EARLIER_WEIGHTS)
            await self._runs.withdraw(promotions[steps - 1], user_id)
            self._inference.activate(model)
            log.info("Rolled back: weights %s are active", model.name)
            return None if run_id is None else await self._runs.get(run_id)

    async def _read(self, run_id: int | None) -> noskgpt.Generator | None:
        """Return the model of a run, of None the configured one; None if it cannot be loaded."""
        path = None if run_id is None else weights_path(self._folder, run_id)
        try:
            return await self._inference.read(path)
        except (noskgpt.NoskGPTError, OSError) as error:
            log.error("Cannot load the weights of run %s: %s", run_id, error)  # noqa: TRY400
            return None


def _require_finished(run: Run) -> None:
    if run.state != "finished":
        raise RejectedError(
            Reason.RUN_NOT_FINISHED, run_id=run.id, state=run.state, action="promoted"
        )
