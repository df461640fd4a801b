"""Block people and lift blocks, in every process of the bot if they share a folder."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import Reason, RejectedError
from ..storage.blocks import BlockStore
from .promotions import Sharing
from .shared_folder import BlockDecision, SharedFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Difference:
    """Hold what this process lacks of the decisions in the folder, and the other way round."""

    blocked: list[BlockDecision]
    lifted: list[int]
    """Those who are blocked here alone, by a decision before their lift."""
    unshared: list[int]
    lifts: dict[int, int]
    """The times of all lifts in the folder."""


class SharedBlocks:
    """Decide about blocks. The last decision of any process about a person holds for all.

    A block binds here at once, and is shared as soon as the folder can be written to. A lift is
    shared first, so that none is lost.

    Args:
        store: The blocks of this process.
        sharing: Where decisions are shared; None: with nobody.
    """

    def __init__(self, store: BlockStore, sharing: Sharing | None) -> None:
        self._store = store
        self._sharing = sharing
        self._lock = asyncio.Lock()
        """Held while decisions are compared with the folder or written to it."""
        self._lifts: dict[int, int] = {}
        """When each block was lifted, as far as this process knows."""

    async def block(self, user_id: int) -> bool:
        """Block a person; return False if they were blocked already.

        Raises:
            RejectedError: The database cannot be used.
        """
        # Later than the lift that it follows, whatever the clocks of the machines say.
        now = max(time.time(), self._lifts.get(user_id, 0) + 1)
        added = await self._store.add(user_id, now)
        if self._sharing is not None:
            try:
                async with self._lock:
                    await self._share(self._sharing, user_id, blocked=True)
            except OSError as error:
                log.warning("Other processes do not know of a block yet: %s", error)
        return added

    async def lift(self, user_id: int) -> bool:
        """Lift the block of a person; return False if they were not blocked.

        Raises:
            RejectedError: The folder cannot be written to, and the block stays; or the database
                cannot be used, and `follow` lifts it later.
        """
        if self._sharing is None:
            return await self._store.remove(user_id)
        async with self._lock:
            try:
                decision = await self._share(self._sharing, user_id, blocked=False)
            except OSError as error:
                log.warning("The lift of a block cannot be shared: %s", error)
                raise RejectedError(Reason.LIFT_NOT_SHARED) from error
            self._lifts[user_id] = decision.time
            return await self._store.remove(user_id)

    async def follow(self) -> None:
        """Carry out what other processes have decided, and share what they do not know.

        Raises:
            OSError: The shared folder cannot be used.
            RejectedError: The database cannot be used.
        """
        if self._sharing is None:
            return
        async with self._lock:
            before = self._store.all()
            found = await self._sharing.run(_compare, self._sharing.folder, before)
            self._lifts = found.lifts
            for decision in found.blocked:
                await self._store.add(decision.user_id, decision.time)
                log.info("Another process has blocked a person")
            for user_id in found.lifted:
                if self._store.blocked_at(user_id) != before[user_id]:
                    continue  # blocked again meanwhile
                await self._store.remove(user_id)
                log.info("Another process has lifted the block of a person")
            for user_id in found.unshared:
                await self._share(self._sharing, user_id, blocked=True)

    async def _share(self, sharing: Sharing, user_id: int, *, blocked: bool) -> BlockDecision:
        return await sharing.run(sharing.folder.decide_block, user_id, blocked=blocked)


def _compare(folder: SharedFolder, blocked: Mapping[int, float]) -> _Difference:
    """Compare the decisions in a folder with the people who are blocked, and since when."""
    decisions = folder.block_decisions()
    lifts = {user_id: one.time for user_id, one in decisions.items() if not one.blocked}
    held = {
        user_id for user_id in lifts.keys() & blocked.keys() if blocked[user_id] > lifts[user_id]
    }
    return _Difference(
        blocked=[one for one in decisions.values() if one.blocked and one.user_id not in blocked],
        lifted=sorted(lifts.keys() & blocked.keys() - held),
        unshared=sorted(blocked.keys() - decisions.keys() | held),
        lifts=lifts,
    )
