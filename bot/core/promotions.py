"""Which weights speak: those of a promoted run, else those of the settings."""

import asyncio
import logging
from pathlib import Path

import noskgpt

from ..errors import RefusedError
from ..storage.runs import Run, Runs
from .inference import Generation

log = logging.getLogger(__name__)

NO_STEP_BACK = "There is no step back: I speak with the weights that I was set up with."
NOTHING_LEFT = "What I spoke with before is gone or damaged, so I speak on as now."
DAMAGED = "The weights of run {id} are gone or damaged, so I speak on as before."


def weights_path(folder: Path, run_id: int) -> Path:
    """Return where a run writes its weights, given the folder of all runs."""
    return folder / str(run_id) / "weights.pth"


class Succession:
    """Makes weights speak and goes back from them, step by step, also across restarts.

    Args:
        runs: The stored runs.
        generation: What speaks.
        folder: Where runs keep their files.
    """

    def __init__(self, runs: Runs, generation: Generation, folder: Path) -> None:
        self._runs = runs
        self._generation = generation
        self._folder = folder
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Speak with what was promoted last; a promotion whose weights cannot be used ends here.

        Raises:
            StartupError: Neither can those of the settings.
        """
        for promotion in await self._runs.promotions():
            if model := await self._read(promotion.run_id):
                self._generation.speak_with(model)
                return
            await self._runs.withdraw(promotion, 0)
        await self._generation.load()

    async def promote(self, run_id: int, user_id: int) -> Run:
        """Let a finished run speak from the next request on.

        Raises:
            RefusedError: It has not finished, speaks already, or its file is not what it wrote.
        """
        async with self._changing:
            run = await self._runs.get(run_id)
            if run.state != "finished":
                msg = f"Run {run_id} is {run.state}: only one that has finished can be promoted."
                raise RefusedError(msg)
            if run_id in [promotion.run_id for promotion in (await self._runs.promotions())[:1]]:
                msg = f"Run {run_id} speaks already."
                raise RefusedError(msg)
            model = await self._read(run_id)
            if model is None or model.name != run.weights:
                raise RefusedError(DAMAGED.format(id=run_id))
            await self._runs.promote(run_id, user_id)
            self._generation.speak_with(model)
            log.info("Run %d was promoted: speaking with weights %s", run_id, model.name)
            return run

    async def roll_back(self, user_id: int) -> Run | None:
        """Let what spoke before the last promotion speak; return its run, None for the settings'.

        What cannot be used any more is passed over.

        Raises:
            RefusedError: Nothing is promoted, or nothing before it can be used.
        """
        async with self._changing:
            promotions = await self._runs.promotions()
            if not promotions:
                raise RefusedError(NO_STEP_BACK)
            for steps in range(1, len(promotions) + 1):
                run_id = promotions[steps].run_id if steps < len(promotions) else None
                if model := await self._read(run_id):
                    break
            else:
                raise RefusedError(NOTHING_LEFT)
            for promotion in promotions[:steps]:
                await self._runs.withdraw(promotion, user_id)
            self._generation.speak_with(model)
            log.info("Rolled back: speaking with weights %s", model.name)
            return None if run_id is None else await self._runs.get(run_id)

    async def _read(self, run_id: int | None) -> noskgpt.Generator | None:
        """Return the model of a run, or with None that of the settings; None if it has none."""
        path = None if run_id is None else weights_path(self._folder, run_id)
        try:
            return await self._generation.read(path)
        except (noskgpt.NoskGPTError, OSError) as error:
            log.error("Cannot speak with the weights of run %s: %s", run_id, error)  # noqa: TRY400
            return None
