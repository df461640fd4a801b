"""Open and close the bard's services together. Knows nothing of Discord."""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

from .concurrency import Threads, Wait, plain_wait
from .config import Settings
from .core.admission import Admission, Deliveries
from .core.daily_scenes import DailyScenes
from .core.inference import Inference
from .core.promotions import Promotions, Sharing
from .core.request_queue import RequestQueue
from .core.scenes import Scenes
from .core.schedule import Zones
from .core.shared_blocks import SharedBlocks
from .core.shared_deletions import SharedDeletions
from .core.shared_folder import SharedFolder
from .core.suggestions import Suggestions
from .core.training_runner import TrainingRunner
from .core.voice_promotions import VoicePromotions
from .core.voices import Voices
from .errors import RejectedError
from .languages import KnownLocales
from .observation import NO_OBSERVER, Observer, Snapshot
from .storage.backup import KEPT_DAYS, delete_old_backups
from .storage.blocks import BlockStore
from .storage.database import open_database
from .storage.departures import DepartureStore
from .storage.exports import ExportStore
from .storage.guild_settings import GuildSettingsStore
from .storage.lock import exclusive
from .storage.runs import RunStore
from .storage.schedules import ScheduleStore
from .storage.shared_deletions import SharedDeletionStore
from .storage.statistics import StatisticsStore
from .storage.turns import TurnStore
from .storage.voices import VoiceStore

log = logging.getLogger(__name__)

_Tasks = set[asyncio.Task[Any]]

GRACE_SECONDS = 7.0
"""Time that `Bard.drain` gives to requests in progress and to the checkpoint of a training run."""
CUT_SECONDS = 1.0
"""Time for each later step of an end that does not come by itself."""


class Bard:
    """The bard's services. `open` makes one, `close` ends all that it started.

    Attributes:
        settings: Its settings.
        wait: How its services wait; see `bot.concurrency.Wait`.
        observer: Is told what they do.
        opened_at: Time of `open`.
        closing: Whether it rejects new requests.
        turns: The stored turns.
        guild_settings: The settings of servers.
        blocks: The people whom the bot's owner has blocked.
        departures: The servers that were told that the bot leaves them.
        runs: The stored training runs.
        exports: All that is stored under a person's id.
        statistics: Totals over all turns.
        inference: The active model and its threads.
        queue: The requests for the model.
        admission: Accepts requests into the queue.
        deliveries: The interactions that were delivered.
        locales: Those of people who have used a command or button.
        scenes: Plays turns.
        suggestions: Suggests prompts.
        daily_scenes: The scenes that servers have played each day.
        promotions: Chooses the active weights.
        voice_store: The stored voices, and where new scenes begin in them.
        voices: Lends the models of voices.
        voice_promotions: Changes voices.
        shared_blocks: Blocks people, in all processes if there is a shared folder.
        shared_deletions: Deletes in other processes; None without a shared folder.
        training: Runs training.
    """

    deliveries: Deliveries
    locales: KnownLocales
    turns: TurnStore
    guild_settings: GuildSettingsStore
    blocks: BlockStore
    departures: DepartureStore
    runs: RunStore
    exports: ExportStore
    statistics: StatisticsStore
    inference: Inference
    queue: RequestQueue
    admission: Admission
    scenes: Scenes
    suggestions: Suggestions
    daily_scenes: DailyScenes
    promotions: Promotions
    voice_store: VoiceStore
    voices: Voices
    voice_promotions: VoicePromotions
    shared_blocks: SharedBlocks
    shared_deletions: SharedDeletions | None
    training: TrainingRunner

    def __init__(
        self, settings: Settings, wait: Wait = plain_wait, observer: Observer = NO_OBSERVER
    ) -> None:
        self.settings = settings
        self.wait = wait
        self.observer = observer
        self.opened_at = datetime.now(UTC)
        self.closing = False
        self._tasks: _Tasks = set()
        self._before_drain: list[Callable[[], None]] = []
        self._resources = AsyncExitStack()
        self._hastened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._grace_end = math.inf
        self._cancelled = False
        self._stopping: asyncio.Task[None] | None = None
        self._closed: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, settings: Settings, wait: Wait = plain_wait, observer: Observer = NO_OBSERVER
    ) -> "Bard":
        """Lock the files, open the database, load the weights, and return the services.

        Raises:
            StartupError: Another bot uses the files, or the database or the weights cannot be
                used; nothing stays open.
        """
        bard = cls(settings, wait, observer)
        async with AsyncExitStack() as stack:
            await bard._open(stack)
            bard._resources = stack.pop_all()
        log.info("Weights %s are active", bard.inference.model.name)
        return bard

    async def _open(self, stack: AsyncExitStack) -> None:
        settings, wait = self.settings, self.wait
        # First: without the locks, another bot may be at work on what is read and written below.
        stack.enter_context(exclusive(settings.database_path, settings.runs_path))
        database = await stack.enter_async_context(open_database(settings.database_path))
        threads = Threads(1, "noskgpt_bard-files")
        stack.push_async_callback(threads.close)
        self._database = database
        self._files = threads
        self.turns = TurnStore(database)
        await self.turns.parts.load()
        self.runs = RunStore(database)
        self.exports = ExportStore(database)
        self.statistics = StatisticsStore(database)
        self.guild_settings = GuildSettingsStore(database, settings)
        await self.guild_settings.load()
        self.blocks = BlockStore(database)
        await self.blocks.load()
        self.departures = DepartureStore(database)
        self.voice_store = VoiceStore(database)
        await self.voice_store.load()
        self.inference = Inference(settings.weights, settings.workers, wait, self.observer)
        stack.push_async_callback(self.inference.close)
        sharing = None
        if settings.shared_dir is not None:
            # Not those of other files: the folder may be on a server that does not answer.
            shared = Threads(1, "noskgpt_bard-shared")
            stack.push_async_callback(shared.close)
            sharing = Sharing(await shared.run(SharedFolder, settings.shared_dir), shared)
        self.promotions = Promotions(self.runs, self.inference, settings.runs_path, sharing)
        await self.promotions.load()
        folder = settings.runs_path
        self.shared_blocks = SharedBlocks(self.blocks, sharing)
        await self._follow_blocks()
        self.voices = Voices(self.voice_store, self.inference, folder, wait)
        self.voice_promotions = VoicePromotions(
            self.voice_store, self.runs, self.promotions, threads, folder
        )
        self.queue = RequestQueue(settings.workers, settings.queue, wait)
        self.shared_deletions = None
        if sharing is not None:
            self.shared_deletions = SharedDeletions(
                sharing,
                SharedDeletionStore(database),
                self.turns.deletions,
                self.queue,
            )
        self.admission = Admission(self.queue, self.blocks, self.observer)
        self.deliveries = Deliveries()
        self.locales = KnownLocales()
        self.scenes = Scenes(
            self.turns, self.inference, self.guild_settings.rules, self.voices, wait
        )
        self.suggestions = Suggestions(self.turns, threads)
        await self.suggestions.load(settings.corpus)
        self.daily_scenes = DailyScenes(ScheduleStore(database), await threads.run(Zones.read))
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
        self.observer.watch(self.snapshot)
        stack.callback(self.observer.watch, None)

    async def _follow_blocks(self) -> None:
        """Bind the blocks of other processes before the first request, as far as that is possible.

        The next look at the folder does the rest.
        """
        try:
            await self.shared_blocks.follow()
        except (OSError, RejectedError) as error:
            log.warning("Blocks of people by other processes are not known yet: %s", error)

    def snapshot(self) -> Snapshot:
        """Return the state of the services; callable in any thread."""
        waiting, running = self.queue.counts()
        return Snapshot(
            weights=self.inference.model.name,
            waiting=waiting,
            running=running,
            database_bytes=self._database.size(),
            training=self.training.snapshot(),
        )

    async def complete(self) -> None:
        """Record and erase what an earlier attempt could not, because the database was busy.

        Raises:
            RejectedError: The database still cannot be used.
        """
        await self.scenes.record_owed()
        if self._database.erasure_owed:
            await self._database.erase()

    async def delete_old_backups(self) -> None:
        """Delete the database's automatic backups once their words are old."""
        days = min(KEPT_DAYS, self.settings.retention_days or KEPT_DAYS)
        path = self.settings.database_path
        deleted = await self.wait(self._files.run(delete_old_backups, path, days))
        if deleted:
            log.info("Deleted %d automatic backups older than %d days", deleted, days)

    def track(self, task: asyncio.Task[Any]) -> None:
        """Let `close` wait for a task that answers a request or shows a training run."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def track_current_task(self) -> None:
        """Let `close` wait for the task that calls this, which answers a request or an event."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - called from a coroutine
        self.track(task)

    def before_drain(self, callback: Callable[[], None]) -> None:
        """Call a function when `drain` begins, so that its owner ends what would wait long."""
        self._before_drain.append(callback)

    async def drain(self) -> None:
        """Reject new requests, and let those in progress end, while they can still be answered.

        Requests that wait for a worker are rejected at once. Those that have one, the other
        tracked tasks, and a training run, which saves a checkpoint, have `GRACE_SECONDS`. After
        that, or when `hasten` is called, requests are rejected and the child that trains is
        killed; at last, tasks that still run are cancelled.

        A cancellation of the caller hastens this as well, and skips nothing: `close` raises it
        when all has ended.
        """
        self.closing = True
        for callback in self._before_drain:
            callback()
        self.queue.close()
        if self._stopping is None:
            self._set_grace(0.0 if self._hastened.done() else GRACE_SECONDS)
            self._stopping = asyncio.create_task(self.training.close(), name="end of training")
            self.track(self._stopping)
        await self._settle(self._others)
        if self._others():
            self.queue.cut_short()
            self.training.kill()
            await self._settle(self._others, CUT_SECONDS)
        if late := self._others():
            log.warning("Cancelled what had not ended in time: %d tasks", len(late))
            if self.training.active is not None:
                self.training.active.ended.cancel()
            for task in late:
                task.cancel()
            await self._settle(self._others, 2 * CUT_SECONDS)

    def hasten(self) -> None:
        """End the grace of `drain`, now or when it begins."""
        self._set_grace(0.0)
        if not self._hastened.done():
            self._hastened.set_result(None)

    async def close(self) -> None:
        """Drain, then end all services and release the files.

        It takes at most `GRACE_SECONDS` and three times `CUT_SECONDS`; a service that takes longer
        ends in the background. An error of one service, such as a full disk, is raised after the
        others have ended.
        """
        await self.drain()
        if self._closed is None:
            self._closed = asyncio.create_task(self._end_services(), name="end of the services")
        closed = self._closed
        await self._settle(lambda: set() if closed.done() else {closed}, 3 * CUT_SECONDS)
        if not closed.done():
            log.warning("The services did not end in time")
            closed.add_done_callback(_log_failure)  # nobody awaits it any more
        elif not closed.cancelled():
            closed.result()
        if self._cancelled:
            raise asyncio.CancelledError

    async def _end_services(self) -> None:
        async with self._resources:
            stopping = self._stopping
            if stopping is not None and stopping.done() and not stopping.cancelled():
                stopping.result()

    def _others(self) -> _Tasks:
        """Return the tracked tasks without the current one, which may close the bard."""
        return self._tasks - {asyncio.current_task()}

    def _set_grace(self, seconds: float) -> None:
        self._grace_end = min(self._grace_end, asyncio.get_running_loop().time() + seconds)

    async def _settle(self, pending: Callable[[], _Tasks], seconds: float = 0.0) -> None:
        """Wait until no task is pending, or until some time after the grace."""
        loop = asyncio.get_running_loop()
        while tasks := pending():
            left = self._grace_end + seconds - loop.time()
            if left <= 0:
                return
            hastened = () if self._hastened.done() else (self._hastened,)
            try:
                await asyncio.wait(
                    {*tasks, *hastened}, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
            except asyncio.CancelledError:
                self._cancelled = True
                self.hasten()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("The services ended with an error", exc_info=error)
