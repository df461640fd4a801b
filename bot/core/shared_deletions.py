"""Delete the words of a person in every process of the bot."""

import logging

from ..concurrency import Threads
from ..storage.deletions import DeletionStore
from ..storage.runs import RunStore
from ..storage.shared_deletions import SharedDeletionStore
from .request_queue import RequestQueue
from .shared_folder import SharedFolder, new_request_id

log = logging.getLogger(__name__)


class SharedDeletions:
    """Request deletions from other processes, and carry out those that they request.

    Args:
        folder: The shared folder.
        store: Remembers what was carried out.
        deletions: Deletes turns.
        runs: The stored training runs.
        queue: The requests for the model, of which those of the person are stopped.
        threads: Read and write files.
    """

    def __init__(
        self,
        folder: SharedFolder,
        store: SharedDeletionStore,
        deletions: DeletionStore,
        runs: RunStore,
        queue: RequestQueue,
        threads: Threads,
    ) -> None:
        self._folder = folder
        self._store = store
        self._deletions = deletions
        self._runs = runs
        self._queue = queue
        self._threads = threads

    async def request(self, user_id: int) -> None:
        """Let every other process delete a person's words.

        Raises:
            OSError: The shared folder cannot be written to.
            RejectedError: The database cannot be used.
        """
        request = new_request_id()
        await self._store.record(request)
        await self._threads.run(self._folder.request_deletion, request, user_id)

    async def carry_out(self) -> None:
        """Delete what was requested and is not deleted yet.

        A database that was restored from a copy does so again.

        Raises:
            OSError: The shared folder cannot be read.
            RejectedError: The database cannot be used.
        """
        requests = await self._threads.run(self._folder.deletions)
        for request in await self._store.open(requests):
            user_id = requests[request]
            self._queue.stop_user(user_id)
            await self._runs.delete_user(user_id)
            deletion = await self._deletions.record("user", user_id)
            await self._store.record(request)
            deleted = await self._deletions.carry_out(deletion)
            log.info("Deleted the turns of a person who asked for it: %s", deleted)
