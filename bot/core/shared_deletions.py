"""Delete the words of a person in every process of the bot."""

import logging

from ..storage.deletions import DeletionStore
from ..storage.shared_deletions import SharedDeletionStore
from .promotions import Sharing
from .request_queue import RequestQueue
from .shared_folder import new_request_id

log = logging.getLogger(__name__)


class SharedDeletions:
    """Request deletions from other processes, and carry out those that they request.

    Args:
        sharing: The shared folder.
        store: Remembers what was carried out.
        deletions: Deletes what is stored about a person.
        queue: The requests for the model, of which those of the person are stopped.
    """

    def __init__(
        self,
        sharing: Sharing,
        store: SharedDeletionStore,
        deletions: DeletionStore,
        queue: RequestQueue,
    ) -> None:
        self._sharing = sharing
        self._store = store
        self._deletions = deletions
        self._queue = queue

    async def request(self, user_id: int) -> None:
        """Let every other process delete a person's words.

        Raises:
            OSError: The shared folder cannot be written to.
            RejectedError: The database cannot be used.
        """
        request = new_request_id()
        await self._store.record(request)
        await self._sharing.run(self._sharing.folder.request_deletion, request, user_id)

    async def carry_out(self) -> None:
        """Delete what was requested and is not deleted yet.

        A database that was restored from a copy does so again.

        Raises:
            OSError: The shared folder cannot be read.
            RejectedError: The database cannot be used.
        """
        requests = await self._sharing.run(self._sharing.folder.deletions)
        for request in await self._store.open(requests):
            user_id = requests[request]
            self._queue.stop_user(user_id)
            deletion = await self._deletions.record("user", user_id)
            await self._store.record(request)
            deleted = await self._deletions.carry_out(deletion)
            log.info("Deleted the turns of a person who asked for it: %s", deleted)
