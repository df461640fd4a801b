"""A bot whose shards connect, break off and connect again independently of each other."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import discord
from discord.backoff import ExponentialBackoff
from discord.ext import commands
from discord.gateway import DiscordWebSocket
from discord.shard import EventItem, EventType, Shard

from .ui.interactions import NETWORK_ERRORS, brief

log = logging.getLogger(__name__)

IDENTIFY_SECONDS = 5.25
"""Time between two new sessions of a process; Discord allows one in 5 s for all processes."""
_UNREACHABLE = (discord.HTTPException, discord.GatewayNotFound, *NETWORK_ERRORS)
_SECOND_MILLISECONDS = 1000


class ShardedBot(commands.AutoShardedBot):
    """A bot that stays connected with every shard, also after an event that cannot be read.

    The library's own loop handles one shard after another, so that a shard which waits for its
    next attempt delays all others, and ends the bot at an event in which a key is missing. This
    one has a task for each shard.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - those of the library
        super().__init__(*args, **options)
        self._backoffs: defaultdict[int, ExponentialBackoff[Any]] = defaultdict(ExponentialBackoff)
        self._tasks: set[asyncio.Task[None]] = set()
        self._identifying = asyncio.Lock()
        self._identify_after = 0.0
        # The library makes it at the login, and needs it to close a bot that has not logged in.
        vars(self)["_AutoShardedClient__queue"] = asyncio.PriorityQueue()

    async def connect(self, *, reconnect: bool = True) -> None:
        """Stay connected until the bot is closed.

        Raises:
            ConnectionClosed: Discord closed the connection of a shard for good.
            PrivilegedIntentsRequired: The same, because of an intent.
        """
        self._reconnect = reconnect
        try:
            self._start(self._launch())
            while not self.is_closed():
                item = await self._queue.get()
                if item.type == EventType.clean_close:
                    return
                if item.type == EventType.close or _is_final(item, reconnect=reconnect):
                    await self.close()
                    if item.error is not None and getattr(item.error, "code", None) != 1000:  # noqa: PLR2004 - the code of an ordinary end
                        raise item.error
                    return
                self._start(self._revive(item))
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def launch_shards(self) -> None:
        """Connect every shard of this process that is not connected yet, one after another.

        Raises:
            GatewayNotFound: Discord could not be asked for the number of shards.
        """
        known: int | None = self.shard_count
        if known is None:
            self.shard_count, _, _ = await self.http.get_bot_gateway()
        ids = self._connection.shard_ids = self.shard_ids or range(self.shard_count)
        self._connection.shard_count = self.shard_count
        log.info("Connecting %d of %d shards", len(ids), self.shard_count)
        await self._await_starts(len(ids))
        for shard_id in ids:
            if shard_id not in self.shards:
                await self.launch_shard(DiscordWebSocket.DEFAULT_GATEWAY, shard_id)

    async def launch_shard(
        self,
        gateway: Any,  # noqa: ANN401 - an address, as the library keeps it
        shard_id: int,
        *,
        initial: bool = False,
    ) -> None:
        """Connect a shard, however long Discord cannot be reached."""
        backoff = self._backoffs[shard_id]
        while not self.is_closed():
            try:
                opening = DiscordWebSocket.from_client(
                    self, initial=initial, gateway=gateway, shard_id=shard_id
                )
                socket = await asyncio.wait_for(opening, self.shard_connect_timeout)
            except _UNREACHABLE as error:
                seconds = backoff.delay()
                log.warning(
                    "Shard %d cannot connect (%s); trying again in %.1f s",
                    *(shard_id, brief(error), seconds),
                )
                await asyncio.sleep(seconds)
            else:
                shard = Shard(socket, self, self._queue.put_nowait)
                self._by_id[shard_id] = shard
                shard.launch()
                return

    async def before_identify_hook(
        self,
        shard_id: int | None,  # noqa: ARG002 - the library passes it
        *,
        initial: bool = False,  # noqa: ARG002 - the first session of a process does not wait
    ) -> None:
        """Wait until this process may start a session again. Called by the library."""
        clock = asyncio.get_running_loop().time
        async with self._identifying:
            await asyncio.sleep(max(0.0, self._identify_after - clock()))
            self._identify_after = clock() + IDENTIFY_SECONDS

    async def _launch(self) -> None:
        """Connect every shard; after a failure, those that are not connected again."""
        backoff: ExponentialBackoff[Any] = ExponentialBackoff()
        while True:
            try:
                await self.launch_shards()
            except Exception as error:  # noqa: BLE001 - logged, or raised by `connect`
                if not self._reconnect:
                    self._queue.put_nowait(EventItem(EventType.terminate, None, error))
                    return
                seconds = backoff.delay()
                report = log.warning if isinstance(error, _UNREACHABLE) else log.exception
                report(
                    "Cannot connect to Discord (%s); trying again in %.1f s",
                    *(brief(error), seconds),
                )
                await asyncio.sleep(seconds)
            else:
                return

    async def _revive(self, item: EventItem) -> None:
        """Connect a shard again whose connection has ended."""
        shard, error = item.shard, item.error
        assert shard is not None  # noqa: S101 - each kind of item that comes here has one
        if item.type == EventType.resume:
            assert isinstance(error, discord.gateway.ReconnectWebSocket)  # noqa: S101
            await shard.reidentify(error)
            return
        dropped = item.type == EventType.reconnect
        if dropped and not isinstance(error, discord.ConnectionClosed) and shard.ws.session_id:
            # The library would start a new session, without what happened in the meantime.
            await shard.reidentify(discord.gateway.ReconnectWebSocket(shard.id, resume=True))
            return
        if not dropped:
            seconds = self._backoffs[shard.id].delay()
            if item.type == EventType.terminate:
                log.error(
                    "The connection of shard %d broke off; trying again in %.1f s",
                    *(shard.id, seconds),
                    exc_info=error,
                )
                self.dispatch("shard_disconnect", shard.id)  # the library does so for other ends
                # At once: Discord would send each event to this connection, too.
                with suppress(*NETWORK_ERRORS):
                    await shard.close()
            await asyncio.sleep(seconds)
        await self._await_starts(1)
        await shard.reconnect()

    async def _await_starts(self, count: int) -> None:
        """Wait until the bot may start some new sessions.

        Discord allows 1000 a day, of all processes together, and replaces the token of a bot that
        starts more.
        """
        while True:
            try:
                limits = await self.fetch_session_start_limits()
            except _UNREACHABLE as error:
                log.debug("Discord does not say how many sessions are left: %s", brief(error))
                return
            if limits.remaining >= min(count, limits.total):
                return
            seconds = limits.reset_after / _SECOND_MILLISECONDS + 1
            log.error(
                "Discord allows %d of %d needed sessions now; waiting %.0f minutes",
                *(limits.remaining, count, seconds / 60),
            )
            await asyncio.sleep(seconds)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="connection of a shard")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The library has no public way to learn which shard has broken off.

    @property
    def _queue(self) -> asyncio.PriorityQueue[EventItem]:
        queue: asyncio.PriorityQueue[EventItem] = vars(self)["_AutoShardedClient__queue"]
        return queue

    @property
    def _by_id(self) -> dict[int, Shard]:
        shards: dict[int, Shard] = vars(self)["_AutoShardedClient__shards"]
        return shards


def _is_final(item: EventItem, *, reconnect: bool) -> bool:
    """Return whether a connection has ended for a reason that another one does not mend."""
    final = (discord.ConnectionClosed, discord.PrivilegedIntentsRequired)
    return item.type == EventType.terminate and (not reconnect or isinstance(item.error, final))
