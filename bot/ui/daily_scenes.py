"""Play daily scenes when they are due, and tell whoever made them when that fails."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

import discord

from ..bard import Bard
from ..complaints import Complaints
from ..core.daily_scenes import place_of, request_of
from ..core.request_queue import Request
from ..core.schedule import Due
from ..errors import Reason, RejectedError, StoppedError, UncertainError
from ..languages import Language
from ..storage.guild_settings import Rules
from ..storage.schedules import Outcome, Schedule
from .announcements import Announcement
from .hosts import Host
from .interactions import NETWORK_ERRORS, brief
from .localisation import language_in, language_to
from .permissions import missing_to_send
from .responses import is_from_proxy
from .schedule_texts import HEADLINE, channel_deleted, not_played

log = logging.getLogger(__name__)

LONGEST_SLEEP_SECONDS = 60.0
"""The clock may be set while the loop sleeps."""
IDLE_SECONDS = 86_400.0
"""Sleep while there are no schedules; adding one ends it."""
RETRY_SECONDS = 10.0
"""Time between attempts to start what is due and cannot start yet."""
RECORD_SECONDS = 2.0
"""Time between attempts to store what became of a scene."""
_READ = 50
"""Number of schedules that are due that are read at once."""

_BARRED: Mapping[Reason, Outcome] = {
    Reason.WRONG_CHANNEL: "not_allowed",
    Reason.BLOCKED: "blocked",
}
"""The outcomes of runs that the rules do not allow."""
_GONE = frozenset({10003, 10004})
"""Codes for an unknown channel or server."""

T = TypeVar("T")
_Channel = discord.abc.GuildChannel | discord.Thread


class DailyPlayer:
    """Play daily scenes, each once: its day is claimed before anything of it can be seen.

    If the process is killed between the claim and the message, that day has no scene; a scene that
    was rejected because the bot shuts down is given back, and played by the next process.

    Args:
        client: Sends the messages.
        bard: The services; it waits for scenes in progress when it is closed.
    """

    def __init__(self, client: Host, bard: Bard) -> None:
        self._client = client
        self._bard = bard
        self._daily = bard.daily_scenes
        self._running: dict[int, asyncio.Task[None]] = {}
        # Ids of the schedules that are due and for which the queue has had no place.
        self._postponed: set[int] = set()
        # Whether others are due that wait until one of `_running` ends.
        self._crowded = False
        self._nap: asyncio.Task[None] | None = None
        self._awake = True

    def wake(self) -> None:
        """Look at once what is due."""
        self._awake = True
        if self._nap is not None:
            self._nap.cancel()

    async def follow(self) -> None:
        """Play what is due, until this is cancelled."""
        aligned = False
        while True:
            seconds, self._awake = RETRY_SECONDS, False
            try:
                if not aligned:
                    await self._daily.realign()
                    aligned = True
                seconds = await self._start_due()
            except RejectedError as error:
                log.warning("Daily scenes cannot be looked up yet: %s", error)
            except Exception:  # an error would end the loop
                log.exception("Daily scenes cannot be looked up; the next attempt comes soon")
            await self._sleep(seconds)

    async def _sleep(self, seconds: float) -> None:
        if self._awake:
            return

        async def nap() -> None:
            await self._bard.wait(asyncio.sleep(seconds))

        self._nap = asyncio.create_task(nap(), name="sleep until the next daily scene")
        try:
            await asyncio.wait({self._nap})
        finally:
            self._nap.cancel()
            self._nap = None

    async def _start_due(self) -> float:
        """Start the runs that are due; return the seconds until the next look."""
        if self._bard.closing or not self._client.is_ready():
            return LONGEST_SLEEP_SECONDS
        now = discord.utils.utcnow().timestamp()
        due = await self._daily.store.due(now, _READ)
        free = self._bard.settings.workers - len(self._running)
        # Those that wait for a place must not keep others from theirs.
        due = [schedule for schedule in due if schedule.id not in self._running]
        due.sort(key=lambda schedule: schedule.id in self._postponed)
        self._crowded = len(due) > free
        for schedule in due[: max(free, 0)]:
            self._start(schedule)
        next_due_at = await self._daily.store.next_due_at()
        if next_due_at is None:
            return IDLE_SECONDS
        if next_due_at <= now:
            return RETRY_SECONDS
        return min(LONGEST_SLEEP_SECONDS, next_due_at - now)

    def _start(self, schedule: Schedule) -> None:
        def ended(_task: object) -> None:
            del self._running[schedule.id]
            if self._crowded and schedule.id not in self._postponed:
                self.wake()

        task = asyncio.create_task(self._run(schedule), name=f"daily scene {schedule.id}")
        self._running[schedule.id] = task
        task.add_done_callback(ended)
        self._bard.track(task)

    async def _run(self, schedule: Schedule) -> None:
        """Play a run that is due, or record why it is not played."""
        try:
            await self._play(schedule)
        except RejectedError as error:
            self._postpone(schedule, error)
        except Exception:  # nobody awaits this task
            self._postponed.add(schedule.id)
            log.exception("Daily scene %d failed", schedule.id)

    def _postpone(self, schedule: Schedule, error: RejectedError) -> None:
        self._postponed.add(schedule.id)
        log.info("Daily scene %d has to wait: %s", schedule.id, error)

    async def _play(self, schedule: Schedule) -> None:
        due = self._daily.due(schedule, discord.utils.utcnow())
        if due is None:  # the clock was set back, or the time zone has new rules
            await self._daily.correct(schedule)
            return
        outcome = self._obstacle(schedule, due)
        if outcome is None:
            outcome = await self._attempt(schedule, due)
        elif not await self._daily.claim(schedule, due.day, outcome):
            outcome = None
        if outcome is None:
            return
        self._postponed.discard(schedule.id)
        log.info("Daily scene %d of %s: %s", schedule.id, due.day, outcome)
        played = outcome
        settled = await self.insist(lambda: self._daily.store.settle(schedule, played))
        if settled is not None and settled.failures == 1:
            server = self._server(settled)
            await self._tell(settled, lambda shown: not_played(settled, played, server, shown))

    async def insist(self, change: Callable[[], Awaitable[T]]) -> T:
        """Change the database now, or as soon as it can be used.

        Raises:
            RejectedError: The bard shuts down before.
        """
        complaints = Complaints(log)
        while True:
            try:
                return await change()
            except RejectedError as error:
                if self._bard.closing:
                    raise
                complaints.met("A change of daily scenes is not stored yet: %s", error)
            await self._bard.wait(asyncio.sleep(RECORD_SECONDS))

    def _obstacle(self, schedule: Schedule, due: Due) -> Outcome | None:
        """Return why a scene cannot be played, as far as that is known without a request.

        Raises:
            RejectedError: It may be possible later.
        """
        if due.late:
            return "busy" if schedule.id in self._postponed else "away"
        if not self._bard.settings.serves(schedule.guild_id):
            return "not_served"
        rules, admission = self._rules(schedule), self._bard.admission
        try:
            admission.require_channel(place_of(schedule).channel_ids, rules)
            admission.require_person(schedule.user_id, frozenset(), rules)
        except RejectedError as error:
            return _BARRED[error.reason]
        guild = self._client.get_guild(schedule.guild_id)
        if guild is None:
            # Without the intent, servers are not known.
            return "gone" if self._client.intents.guilds else None
        if guild.unavailable:
            raise RejectedError(Reason.SERVER_UNAVAILABLE)
        channel = guild.get_channel_or_thread(schedule.channel_id)
        return "forbidden" if channel is not None and lacking(channel) else None

    async def _attempt(self, schedule: Schedule, due: Due) -> Outcome | None:
        """Claim a run and play it in its channel; return what became of it.

        Returns:
            None if it was claimed before, or if the schedule is deleted.

        Raises:
            RejectedError: The queue has no place for it, and it is not claimed.
        """
        claimed = False
        try:
            with self._admitted(schedule) as queued:
                claimed = await self._daily.claim(schedule, due.day)
                if not claimed:
                    return None
                display = Announcement(
                    self._client,
                    guild_id=schedule.guild_id,
                    channel_id=schedule.channel_id,
                    headline=HEADLINE,
                    language=self._language(schedule),
                    wait=self._bard.wait,
                )
                await self._bard.scenes.play(request_of(schedule), display, queued)
        except Exception as error:
            if isinstance(error, RejectedError) and not claimed:
                raise
            if isinstance(error, RejectedError) and error.reason is Reason.CLOSING:
                await self._daily.store.release(schedule, due.day)
                raise
            return _failure(schedule, error)
        return "played"

    def _admitted(self, schedule: Schedule) -> AbstractContextManager[Request]:
        return self._bard.admission.accept(
            -schedule.id,  # other requests have ids of Discord
            user_id=schedule.user_id,
            guild_id=schedule.guild_id,
            channels=place_of(schedule).channel_ids,
            rules=lambda: self._rules(schedule),
        )

    def _rules(self, schedule: Schedule) -> Rules:
        """Return the rules in force, without those for people who ask."""
        rules = self._bard.guild_settings.rules(schedule.guild_id)
        nobody: frozenset[int] = frozenset()
        return replace(rules, cooldown=0, allowed_roles=nobody, denied_roles=nobody)

    async def tell_of_deletion(self, schedules: Iterable[Schedule]) -> None:
        """Tell the people who made schedules that those have ended with their channel."""
        for schedule in schedules:
            await self._tell(schedule, partial(channel_deleted, schedule, self._server(schedule)))

    def _server(self, schedule: Schedule) -> str | None:
        guild = self._client.get_guild(schedule.guild_id)
        return None if guild is None else guild.name

    def _language(self, schedule: Schedule) -> Language:
        return language_in(self._client.get_guild(schedule.guild_id))

    async def _tell(self, schedule: Schedule, text: Callable[[Language], str]) -> None:
        """Send a text to the person who made a schedule, else to the server's system channel."""
        nobody, person = discord.AllowedMentions.none(), discord.Object(schedule.user_id)
        guild = self._client.get_guild(schedule.guild_id)
        try:
            conversation = await self._client.create_dm(person)
            private = text(language_to(person, self._bard, guild))
            await conversation.send(private, allowed_mentions=nobody)
        except (discord.HTTPException, *NETWORK_ERRORS) as error:
            log.info("Who made daily scene %d cannot be told: %s", schedule.id, brief(error))
        else:
            return
        if guild is None or guild.system_channel is None:
            return
        with suppress(discord.HTTPException, *NETWORK_ERRORS):
            await guild.system_channel.send(text(language_in(guild)), allowed_mentions=nobody)


def lacking(channel: _Channel) -> list[str]:
    """Return the library's names of permissions that the bot lacks to play in a channel.

    Empty if that is not known.
    """
    if isinstance(channel, discord.Thread) and channel.parent is None:
        return []  # a thread has the permissions of its channel
    permissions = channel.permissions_for(channel.guild.me)
    thread = isinstance(channel, discord.Thread)
    return missing_to_send(permissions, thread=thread, embeds=True)


def _failure(schedule: Schedule, error: Exception) -> Outcome:
    """Return what an error makes of a run, and log it."""
    match error:
        case UncertainError():
            return "uncertain"
        case RejectedError(reason=reason) if reason in _BARRED:
            return _BARRED[reason]
        case StoppedError() | RejectedError():
            log.warning("Daily scene %d is not played: %s", schedule.id, brief(error))
            return "failed"
        case discord.HTTPException():
            log.warning("Daily scene %d is refused: %s", schedule.id, brief(error))
            if error.code in _GONE:
                return "gone"
            forbidden = isinstance(error, discord.Forbidden) and not is_from_proxy(error)
            return "forbidden" if forbidden else "failed"
    log.error("Daily scene %d failed", schedule.id, exc_info=error)
    return "failed"
