"""A stage with training runs: real ones in child processes, and ones that a test ends itself."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

from bot.concurrency import Wait
from bot.core.active_run import ActiveRun
from bot.rehearsal import DeclaredWait
from bot.storage.runs import Run, State
from tests.bot.conftest import Stage


class TrainingStage(Stage):
    """A stage whose bot Ann owns, with a clock that waits for child processes."""

    by_hand: ActiveRun
    """The last run that `start_runs_by_hand` has started."""

    def set_owner(self) -> None:
        self.bot.owner_ids = {self.ann.id}

    async def restart(self, wait: Wait | None = None) -> None:
        await super().restart(wait or DeclaredWait(self.env))

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait in real time for a condition."""
        async with asyncio.timeout(240):
            while not condition():  # noqa: ASYNC110 - it is another process's doing
                await asyncio.sleep(0.02)
        await self.env.settle()

    async def first_step(self) -> int:
        """Wait for the first progress event; return the process id of the child."""
        training = self.bard.training
        await self.until(lambda: training.active is None or training.active.progress is not None)
        assert training.active is not None
        return training.active.child.pid

    def message_tasks(self) -> list[str]:
        """Return the names of the tasks that show a run."""
        names = [task.get_name() for task in self.bard._tasks]
        return [name for name in names if name.startswith("message of run")]

    async def run_ended(self) -> None:
        """Wait until the run has ended and its message shows that."""
        await self.until(lambda: not self.message_tasks())
        assert self.bard.training.active is None

    def start_runs_by_hand(self) -> None:
        """Let `/train start` start runs without a child process, until `end_run`."""

        async def start(request: Any) -> ActiveRun:
            run = await self.bard.runs.start(
                user_id=request.user_id,
                guild_id=request.guild_id,
                channel_id=request.channel_id,
                preset=request.preset,
                minutes=request.minutes,
                corpus=None,
            )
            active = ActiveRun(run=run, child=Mock())
            active.ended = asyncio.get_running_loop().create_future()  # type: ignore[assignment]
            self.by_hand = active
            return active

        self.bard.training.start = start  # type: ignore[method-assign]

    async def end_run(self, state: State, **results: Any) -> Run:
        """Record the end of the run that was started by hand, and report it."""
        run = await self.bard.runs.end(self.by_hand.run.id, state, **results)
        self.by_hand.ended.set_result(run)
        await self.env.settle()
        return run
