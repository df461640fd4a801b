"""Show training runs in messages: their progress, and their end until Discord has accepted it."""

import asyncio
import io
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Any

import discord
from discord.ext import commands

from ..bard import Bard
from ..concurrency import Wait
from ..core.training_runner import ActiveRun
from ..errors import RejectedError
from ..storage.runs import Run, RunStore
from .embeds import one_line
from .interactions import NETWORK_ERRORS
from .training_status import decision_view, describe_end, describe_progress

log = logging.getLogger(__name__)

EDIT_SECONDS = 5.0
"""Time between edits of a young message."""
YOUNG_SECONDS = 55 * 60.0
"""Age up to which a message is edited often: Discord limits the edits of one over an hour old."""
LATE_EDIT_SECONDS = 600.0
"""Time between edits of an old message."""
ANSWER_SECONDS = 20.0
"""Time after which a request is given up: the library sleeps inside it on a rate limit."""
FIRST_PAUSE_SECONDS = 5.0
"""Pause after the first attempt to show an end; each further one is twice as long."""
LONGEST_PAUSE_SECONDS = 300.0

SHOWN_BELOW = "The run has started. The message below shows it."

_CHART_ALT = "A chart of the training loss and the held-out loss over the steps of the run."
# Codes for a token that Discord no longer accepts.
_TOKEN_OVER = frozenset({10015, 10062, 50027})
_TOO_MANY_EDITS = 30046
# The bot may lack the permission to attach files alone, or the server may limit their size.
_FILE_REFUSED = (HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
_TRANSIENT = (
    *(discord.HTTPException, discord.RateLimited, *NETWORK_ERRORS),
    RejectedError,
)
"""Errors after which another attempt may succeed; a refusal for good is a `RefusedError`."""


class RefusedError(Exception):
    """Discord refuses a request, and would refuse it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a message of a run shows."""

    text: str
    view: discord.ui.View | None = None
    chart: bytes | None = None

    def of_edit(self) -> dict[str, Any]:
        """Return the arguments that replace the content of a message."""
        files = []
        if self.chart is not None:
            files = [discord.File(io.BytesIO(self.chart), "losses.png", description=_CHART_ALT)]
        return {
            "content": self.text,
            "attachments": files,
            "view": self.view,
            "allowed_mentions": discord.AllowedMentions.none(),
        }

    def of_new(self) -> dict[str, Any]:
        """Return the arguments that send a new message."""
        arguments = self.of_edit()
        arguments["files"] = arguments.pop("attachments")
        if self.view is None:
            del arguments["view"]
        return arguments


class RunMessage:
    """The message of a run, edited through its interaction's token and then through its channel.

    Args:
        client: Sends the requests.
        runs: Where the message's id is stored.
        run: The run.
        interaction: Acknowledged, its response is the message. None if only the stored id is known.
        private: Whether it was acknowledged for the sender alone: the message is then a follow-up.
    """

    def __init__(
        self,
        client: commands.Bot,
        runs: RunStore,
        run: Run,
        interaction: discord.Interaction[Any] | None = None,
        *,
        private: bool = False,
    ) -> None:
        self._client = client
        self._runs = runs
        self._run = run
        self._interaction = interaction
        self._private = private
        self._place: tuple[int, int] | None = None
        """Its channel and id."""
        if run.channel_id is not None and run.message_id is not None:
            self._place = run.channel_id, run.message_id
        self._refusal: str | None = None
        self._unanswered = 0

    @property
    def stalls(self) -> bool:
        """Whether the last two edits had no answer: the library may sleep on a rate limit."""
        return self._unanswered > 1

    async def edit(self, content: Content) -> None:
        """Show a content.

        Raises:
            RefusedError: Discord does not let the message be edited, now or at an earlier call.
            Exception: One of `_TRANSIENT`.
        """
        if self._refusal is not None:
            raise RefusedError(self._refusal)
        try:
            await _request(self._edit, content)
        except RefusedError as error:
            self._refusal = str(error)
            raise
        except TimeoutError:
            self._unanswered += 1
            raise
        self._unanswered = 0

    async def _edit(self, content: Content) -> None:
        if self._interaction is not None:
            try:
                message = await self._edit_by_token(self._interaction, content)
            except discord.HTTPException as error:
                # Discord decides when a token is over: the clock here may be wrong.
                if error.status != HTTPStatus.UNAUTHORIZED and error.code not in _TOKEN_OVER:
                    raise
                self._interaction = None
            else:
                if self._place is None:
                    await self._runs.set_message(self._run.id, message.channel.id, message.id)
                    self._place = message.channel.id, message.id
                return
        if self._place is None:
            raise RefusedError("its message is not known")
        channel_id, message_id = self._place
        channel = self._client.get_partial_messageable(channel_id, guild_id=self._run.guild_id)
        await channel.get_partial_message(message_id).edit(**content.of_edit())

    async def _edit_by_token(
        self, interaction: discord.Interaction[Any], content: Content
    ) -> discord.Message:
        if not self._private:
            return await interaction.edit_original_response(**content.of_edit())
        if self._place is not None:
            return await interaction.followup.edit_message(self._place[1], **content.of_edit())
        # A follow-up before this would become the response, and as private as it is.
        nobody = discord.AllowedMentions.none()
        await interaction.edit_original_response(content=SHOWN_BELOW, allowed_mentions=nobody)
        return await interaction.followup.send(**content.of_new(), wait=True)


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
        active: The run while it was active; None if it ended in another process.
    """

    def __init__(
        self,
        client: commands.Bot,
        bard: Bard,
        run: Run,
        message: RunMessage,
        active: ActiveRun | None = None,
    ) -> None:
        self._client = client
        self._bard = bard
        self._run = run
        self._message = message
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
                self._log_once("its end is not shown yet", [_describe(error)])
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
        content = await self._content()
        problems: list[str] = []
        for way in ways:
            try:
                await way(content)
                break
            except RefusedError as error:
                problems.append(str(error))
            except _TRANSIENT as error:
                problems.append(_describe(error))
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

    async def _content(self) -> Content:
        run, active, training = self._run, self._active, self._bard.training
        chart = await training.chart(run.id) if run.state == "finished" else None
        promoted = await self._bard.promotions.active() == run.id
        text = describe_end(
            run,
            None if active is None else active.samples,
            promoted=promoted,
            missing=None if active is None else active.missing,
            resumable=await training.is_resumable(run),
        )
        return Content(text=text, chart=chart, view=None if promoted else decision_view(run))

    async def _post(self, content: Content) -> None:
        """Send the end as a new message to the channel of the run."""
        channel_id = self._run.channel_id
        if channel_id is None:
            raise RefusedError("its channel is not known")

        async def send(content: Content) -> None:
            channel = self._client.get_partial_messageable(channel_id, guild_id=self._run.guild_id)
            await channel.send(**content.of_new(), nonce=self._nonce)

        await _request(send, content)

    async def _write_to_starter(self, content: Content) -> None:
        """Send the end as a direct message to the person who started the run."""
        user_id = self._run.user_id
        if not user_id:
            raise RefusedError("it is not known who started it")

        async def send(content: Content) -> None:
            channel = await self._client.create_dm(discord.Object(user_id))
            await channel.send(**content.of_new(), nonce=self._nonce)

        await _request(send, content)

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

    def __init__(self, client: commands.Bot, bard: Bard) -> None:
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
        self._start(active.run.id, partial(self._follow, message, active))

    async def take_up(self) -> None:
        """Show the ends that are not shown yet, now that Discord can be reached."""
        for notice in self._notices:
            notice.hasten()
        for run in await self._bard.runs.unshown():
            if run.id not in self._tasks and not self._closed:
                notice = EndNotice(self._client, self._bard, run, self._message(run))
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

    async def _follow(self, message: RunMessage, active: ActiveRun) -> None:
        # In a task of its own, which may sleep on a rate limit: the end does not wait for it.
        show = partial(_show_progress, message, active, self._bard.wait)
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
            await self._deliver(EndNotice(self._client, self._bard, run, message, active))

    async def _deliver(self, notice: EndNotice) -> None:
        self._notices.add(notice)
        try:
            if self._closed:
                notice.end()
            await notice.deliver()
        finally:
            self._notices.discard(notice)


async def _show_progress(message: RunMessage, active: ActiveRun, wait: Wait) -> None:
    """Edit the message of an active run until this is cancelled, or Discord refuses."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    shown = problem = ""
    while True:
        text = describe_progress(active)
        if text != shown:
            try:
                await message.edit(Content(text=text))
            except (RefusedError, *_TRANSIENT) as error:
                if _describe(error) != problem:
                    problem = _describe(error)
                    log.warning("Run %d: could not show its progress: %s", active.run.id, problem)
                if isinstance(error, RefusedError):
                    return
            else:
                shown, problem = text, ""
        young = loop.time() - began < YOUNG_SECONDS
        await wait(asyncio.sleep(EDIT_SECONDS if young else LATE_EDIT_SECONDS))


async def _request(way: Callable[[Content], Awaitable[None]], content: Content) -> None:
    """Make a request with a content; without its chart if Discord does not accept that.

    Raises:
        RefusedError: Discord refuses the request, and would refuse it again.
        Exception: One of `_TRANSIENT`.
    """
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await way(content)
    except TimeoutError:
        raise TimeoutError(f"no answer within {ANSWER_SECONDS:g} s") from None
    except discord.HTTPException as error:
        if content.chart is not None and error.status in _FILE_REFUSED:
            await _request(way, replace(content, chart=None))
        elif _is_final(error):
            raise RefusedError(_describe(error)) from error
        else:
            raise


def _is_final(error: discord.HTTPException) -> bool:
    """Return whether Discord would refuse the same request again."""
    status = HTTPStatus
    waiting = (status.UNAUTHORIZED, status.REQUEST_TIMEOUT, status.TOO_MANY_REQUESTS)
    transient = error.status in waiting or error.status >= status.INTERNAL_SERVER_ERROR
    return error.code == _TOO_MANY_EDITS or not transient


def _describe(error: BaseException) -> str:
    return one_line(str(error) or type(error).__name__, 200)


async def _logged(run_id: int, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work of a task, and log its failure."""
    try:
        await work()
    except Exception:
        log.exception("Run %d cannot be shown any more", run_id)
