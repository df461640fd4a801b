"""Open and close the bard's services together. Knows nothing of Discord."""

import asyncio
import logging
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

from .concurrency import Threads, Wait, plain_wait
from .config import Settings
from .core.admission import Admission, Deliveries
from .core.inference import Inference
from .core.promotions import Promotions
from .core.request_queue import RequestQueue
from .core.scenes import Scenes
from .core.suggestions import Suggestions
from .core.training_runner import TrainingRunner
from .storage.database import open_database
from .storage.guild_settings import GuildSettingsStore
from .storage.runs import RunStore
from .storage.turns import TurnStore

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
"""Time that `Bard.close` gives to requests in progress."""


class Bard:
    """The bard's services. `open` makes one, `close` ends all that it started.

    Attributes:
        settings: Its settings.
        wait: How its services wait; see `bot.concurrency.Wait`.
        opened_at: Time of `open`.
        closing: Whether it rejects new requests.
        turns: The stored turns.
        guild_settings: The settings of servers.
        runs: The stored training runs.
        inference: The active model and its threads.
        queue: The requests for the model.
        admission: Accepts requests into the queue.
        deliveries: The interactions that were delivered.
        scenes: Plays turns.
        suggestions: Suggests prompts.
        promotions: Chooses the active weights.
        training: Runs training.
    """

    deliveries: Deliveries
    turns: TurnStore
    guild_settings: GuildSettingsStore
    runs: RunStore
    inference: Inference
    queue: RequestQueue
    admission: Admission
    scenes: Scenes
    suggestions: Suggestions
    promotions: Promotions
    training: TrainingRunner

    def __init__(self, settings: Settings, wait: Wait = plain_wait) -> None:
        self.settings = settings
        self.wait = wait
        self.opened_at = datetime.now(UTC)
        self.closing = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._resources = AsyncExitStack()

    @classmethod
    async def open(cls, settings: Settings, wait: Wait = plain_wait) -> "Bard":
        """Open the database, load the weights, and return the services.

        Raises:
            StartupError: The database or the weights cannot be used; nothing stays open.
        """
        bard = cls(settings, wait)
        async with AsyncExitStack() as stack:
            await bard._open(stack)
            bard._resources = stack.pop_all()
        log.info("Weights %s are active", bard.inference.model.name)
        return bard

    async def _open(self, stack: AsyncExitStack) -> None:
        settings, wait = self.settings, self.wait
        database = await stack.enter_async_context(open_database(settings.database_path))
        threads = Threads(1, "noskgpt_bard-files")
        stack.push_async_callback(threads.close)
        self._database = database
        self.turns = TurnStore(database)
        self.runs = RunStore(database)
        self.guild_settings = GuildSettingsStore(database, settings)
        await self.guild_settings.load()
        self.inference = Inference(settings.weights, settings.workers, wait)
        stack.push_async_callback(self.inference.close)
        self.promotions = Promotions(self.runs, self.inference, settings.runs_path)
        await self.promotions.load()
        self.queue = RequestQueue(settings.workers, settings.queue, wait)
        self.admission = Admission(self.queue)
        self.deliveries = Deliveries()
        self.scenes = Scenes(self.turns, self.inference, self.guild_settings.rules, wait)
        self.suggestions = Suggestions(self.turns, threads)
        await self.suggestions.load(settings.corpus)
        self.training = TrainingRunner(
            self.runs,
            self.promotions,
            self.inference,
            threads,
            folder=settings.runs_path,
            corpus=settings.corpus,
            keep=settings.keep_runs,
            auto_promote=settings.auto_promote,
            wait=wait,
        )
        stack.push_async_callback(self.training.close)

    async def complete(self) -> None:
        """Record and erase what an earlier attempt could not, because the database was busy.

        Raises:
            RejectedError: The database still cannot be used.
        """
        await self.scenes.record_owed()
        if self._database.erasure_owed:
            await self._database.erase()

    def track(self, task: asyncio.Task[Any]) -> None:
        """Let `close` wait for a task that answers a request or shows a training run."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def track_current_task(self) -> None:
        """Let `close` wait for the task that calls this, which answers a request or an event."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - called from a coroutine
        self.track(task)

    async def close(self) -> None:
        """Reject new requests, finish those in progress, stop training, and end all services.

        Tasks that take longer than `DRAIN_SECONDS` are cancelled. An error of one service, such
        as a full disk, is raised after the others have ended.
        """
        self.closing = True
        async with self._resources:
            try:
                await self.training.close()
            finally:
                await self._drain()

    async def _drain(self) -> None:
        """Wait for the tracked tasks and for those that they start."""
        loop = asyncio.get_running_loop()
        end = loop.time() + DRAIN_SECONDS
        while tasks := self._tasks - {asyncio.current_task()}:
            _, late = await asyncio.wait(tasks, timeout=max(0.0, end - loop.time()))
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
