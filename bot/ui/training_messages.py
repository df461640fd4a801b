"""Show training runs in messages: their progress, and their end until Discord has accepted it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import discord

from ..bard import Bard
from ..concurrency import Wait
from ..core.active_run import ActiveRun
from ..errors import RejectedError
from ..languages import Language, Text
from ..storage.runs import Run
from .hosts import Host, has_direct_messages
from .localisation import language_in, language_of, language_to
from .run_message import TRANSIENT, Content, RefusedError, RunMessage, describe, request
from .training_status import decision_view, describe_end, describe_progress

log = logging.getLogger(__name__)

EDIT_SECONDS = 5.0
"""Time between edits of a young message."""
YOUNG_SECONDS = 55 * 60.0
"""Age up to which a message is edited often: Discord limits the edits of one over an hour old."""
LATE_EDIT_SECONDS = 600.0
"""Time between edits of an old message."""
FIRST_PAUSE_SECONDS = 5.0
"""Pause after the first attempt to show an end; each further one is twice as long."""
LONGEST_PAUSE_SECONDS = 300.0

DECIDE_IN_SERVER = Text(
    "In the server where you started it, `/train promote` activates its weights."
)


class EndNotice:
    """Show the end of a run until Discord has accepted it, or has refused every way to show it.

    The ways, in this order: the run's message, a new message in its channel, a direct message to
    the person who started it. That the end was shown is stored, so that the next process goes on
    where this one ends.

    Args:
        client: Sends the requests.
        bard: The services.
        run: The run as it ended.
        message: Its message.
        language: That of the text, but in a direct message.
        active: The run while it was active; None if it ended in another process.
    """

    def __init__(
        self,
        client: Host,
        bard: Bard,
        run: Run,
        message: RunMessage,
        language: Language,
        active: ActiveRun | None = None,
    ) -> None:
        self._client = client
        self._bard = bard
        self._run = run
        self._message = message
        self._language = language
        self._active = active
        self._ending = False
        self._hastened: asyncio.Future[None] | None = None
        self._logged = ""

    async def deliver(self) -> None:
        """Try until nothing is left to do, or until `end`."""
        seconds = FIRST_PAUSE_SECONDS
        while True:
            try:
                if await self._attempt():
                    return
            except RejectedError as error:
                self._log_once("its end is not shown yet", [describe(error)])
            if not self._ending:
                self._hastened = asyncio.get_running_loop().create_future()
                await self._bard.wait(asyncio.wait({self._hastened}, timeout=seconds))
            if self._ending:
                return
            seconds = min(2 * seconds, LONGEST_PAUSE_SECONDS)

    def hasten(self) -> None:
        """Make the next attempt now: Discord can be reached again."""
        if self._hastened is not None and not self._hastened.done():
            self._hastened.set_result(None)

    def end(self) -> None:
        """Make no further attempt after the present one."""
        self._ending = True
        self.hasten()

    async def _attempt(self) -> bool:
        """Try the ways in turn; return whether nothing is left to do."""
        ways: list[Callable[[Content], Awaitable[None]]]
        ways = [self._message.edit, self._post, self._write_to_starter]
        run = await self._bard.runs.get(self._run.id)
        if run.ended_at == self._run.ended_at:
            self._run = run
        else:  # resumed: another message shows the run now, so this end concerns its own alone
            ways = ways[:1]
        content = await self._content(self._language)
        problems: list[str] = []
        for way in ways:
            try:
                await way(content)
                break
            except RefusedError as error:
                problems.append(str(error))
            except TRANSIENT as error:
                problems.append(describe(error))
                if way == self._message.edit and self._message.stalls:
                    continue
                self._log_once("its end is not shown yet", problems)
                return False
        else:
            self._log_once("its end cannot be shown", problems)
            problems = []
        if problems:
            self._log_once("its end is in a new message", problems)
        await self._bard.runs.set_end_shown(self._run)
        return True

    async def _content(self, language: Language) -> Content:
        run, active, training = self._run, self._active, self._bard.training
        chart = await training.chart(run.id) if run.state == "finished" else None
        promoted = await self._bard.promotions.active() == run.id
        text = describe_end(
            run,
            language,
            None if active is None else active.samples,
            promoted=promoted,
            missing=None if active is None else active.missing,
            resumable=await training.is_resumable(run),
        )
        view = None if promoted else decision_view(run, language)
        return Content(text=text, language=language, chart=chart, view=view)

    async def _post(self, content: Content) -> None:
        """Send the end as a new message to the channel of the run."""
        channel_id = self._run.channel_id
        if channel_id is None:
            raise RefusedError("its channel is not known")

        async def send(content: Content) -> None:
            channel = self._client.get_partial_messageable(channel_id, guild_id=self._run.guild_id)
            await channel.send(**content.of_new(), nonce=self._nonce)

        await request(send, content)

    async def _write_to_starter(self, _content: Content) -> None:
        """Send the end as a direct message to the person who started the run, in their language."""
        user_id, guild_id = self._run.user_id, self._run.guild_id
        if not user_id:
            raise RefusedError("it is not known who started it")
        guild = None if guild_id is None else self._client.get_guild(guild_id)
        language = language_to(discord.Object(user_id), self._bard, guild)
        content = await self._content(language)
        if content.view is not None and not has_direct_messages(self._client):
            # A press would reach another process, which has runs of its own.
            text = f"{content.text}\n{language(DECIDE_IN_SERVER)}"
            content = replace(content, view=None, text=text)

        async def send(content: Content) -> None:
            channel = await self._client.create_dm(discord.Object(user_id))
            await channel.send(**content.of_new(), nonce=self._nonce)

        await request(send, content)

    @property
    def _nonce(self) -> str:
        """Identifies the new message: Discord does not send it again if its answer was lost."""
        return f"{self._run.id}-{self._run.ended_at:.0f}"

    def _log_once(self, consequence: str, problems: list[str]) -> None:
        text = f"{consequence}: {'; '.join(problems)}"
        if text != self._logged:
            self._logged = text
            log.warning("Run %d: %s", self._run.id, text)


class RunMessages:
    """Keep the message of each run up to date, in a task for each run.

    Args:
        client: Sends the requests.
        bard: The services; it waits for the tasks when it is closed.
    """

    def __init__(self, client: Host, bard: Bard) -> None:
        self._client = client
        self._bard = bard
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._notices: set[EndNotice] = set()
        self._closed = False

    def follow(
        self, interaction: discord.Interaction[Any], active: ActiveRun, *, private: bool = False
    ) -> None:
        """Show an active run in the response to an interaction, until its end is shown.

        Args:
            interaction: Acknowledged.
            active: The run.
            private: Whether it was acknowledged for the sender alone.
        """
        message = self._message(active.run, interaction, private=private)
        language = language_of(interaction, private=False)
        self._start(active.run.id, partial(self._follow, message, active, language))

    async def take_up(self) -> None:
        """Show the ends that are not shown yet, now that Discord can be reached."""
        for notice in self._notices:
            notice.hasten()
        for run in await self._bard.runs.unshown():
            if run.id not in self._tasks and not self._closed:
                guild = None if run.guild_id is None else self._client.get_guild(run.guild_id)
                message, language = self._message(run), language_in(guild)
                notice = EndNotice(self._client, self._bard, run, message, language)
                self._start(run.id, partial(self._deliver, notice))

    def close(self) -> None:
        """End the attempts to show an end after the present one; the next process goes on."""
        self._closed = True
        for notice in self._notices:
            notice.end()

    def _message(
        self,
        run: Run,
        interaction: discord.Interaction[Any] | None = None,
        *,
        private: bool = False,
    ) -> RunMessage:
        return RunMessage(self._client, self._bard.runs, run, interaction, private=private)

    def _start(self, run_id: int, work: Callable[[], Awaitable[None]]) -> None:
        def forget(ended: asyncio.Task[None]) -> None:
            if self._tasks.get(run_id) is ended:
                del self._tasks[run_id]

        task = asyncio.create_task(_logged(run_id, work), name=f"message of run {run_id}")
        self._tasks[run_id] = task
        task.add_done_callback(forget)
        self._bard.track(task)

    async def _follow(self, message: RunMessage, active: ActiveRun, language: Language) -> None:
        # In a task of its own, which may sleep on a rate limit: the end does not wait for it.
        show = partial(_show_progress, message, active, language, self._bard.wait)
        progress = asyncio.create_task(_logged(active.run.id, show))
        try:
            await self._bard.wait(asyncio.wait({active.ended}))
        finally:
            progress.cancel()
            await asyncio.wait({progress})
            # A cancelled edit may leave the library's lock of the token locked, as long as its task
            # is known to anybody.
            del progress
        if not active.ended.cancelled():  # else the next process shows the end
            run = active.ended.result()
            notice = EndNotice(self._client, self._bard, run, message, language, active)
            await self._deliver(notice)

    async def _deliver(self, notice: EndNotice) -> None:
        self._notices.add(notice)
        try:
            if self._closed:
                notice.end()
            await notice.deliver()
        finally:
            self._notices.discard(notice)


async def _show_progress(
    message: RunMessage, active: ActiveRun, language: Language, wait: Wait
) -> None:
    """Edit the message of an active run until this is cancelled, or Discord refuses."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    shown = problem = ""
    while True:
        text = describe_progress(active, language)
        if text != shown:
            try:
                await message.edit(Content(text=text, language=language))
            except (RefusedError, *TRANSIENT) as error:
                if describe(error) != problem:
                    problem = describe(error)
                    log.warning("Run %d: could not show its progress: %s", active.run.id, problem)
                if isinstance(error, RefusedError):
                    return
            else:
                shown, problem = text, ""
        young = loop.time() - began < YOUNG_SECONDS
        await wait(asyncio.sleep(EDIT_SECONDS if young else LATE_EDIT_SECONDS))


async def _logged(run_id: int, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work of a task, and log its failure."""
    try:
        await work()
    except Exception:
        log.exception("Run %d cannot be shown any more", run_id)
