"""A training run as a message that follows it, from its start to what came of it."""

import asyncio
import io
import logging
from typing import TYPE_CHECKING

import aiohttp
import discord

from ..core.training_runner import Live, is_better
from ..errors import RefusedError
from ..storage.runs import Run
from .components import Button, view_of
from .embeds import escape, one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..client import Bard

log = logging.getLogger(__name__)

EDIT_SECONDS = 5.0
BAR = 20
"""Characters of the progress bar."""
_SAMPLE_LINES = 8

OWNERS_ONLY = (
    "My schooling is for those who own me: the owner or team of this bot's application, or whom "
    "they named in BARD_OWNER_IDS. You are none of them; `/bard` is open to you."
)
PROMOTED = "Promoted: from the next request on I speak with these weights, {weights}."
DISCARDED = "Discarded: run {id} and its weights are gone."


async def require_owner(interaction: discord.Interaction["Bard"]) -> None:
    """Raise `RefusedError` unless the person owns the bot."""
    if not await interaction.client.is_owner(interaction.user):
        raise RefusedError(OWNERS_ONLY)


class LiveMessage:
    """Shows a run in the answer to an acknowledged interaction.

    Once the interaction's token has run out the message is edited as any of the channel's, and
    where the bot may not do that it stands still.
    """

    def __init__(self, interaction: discord.Interaction["Bard"], live: Live) -> None:
        self._interaction = interaction
        self._bot = interaction.client
        self._live = live
        self._message: discord.Message | None = None
        self._mute = False

    def begin(self) -> None:
        """Follow the run in a task of its own."""
        task = asyncio.create_task(self._follow(), name=f"message of run {self._live.run.id}")
        self._bot.watching.add(task)
        task.add_done_callback(self._bot.watching.discard)

    async def _follow(self) -> None:
        try:
            await self._show_until_ended()
        except Exception:
            log.exception("Run %d cannot be shown any more", self._live.run.id)

    async def _show_until_ended(self) -> None:
        shown = ""
        while not self._live.ended.done():
            text = describe(self._live)
            if text != shown and await self._show(text):
                shown = text
            await self._bot.wait(asyncio.wait({self._live.ended}, timeout=EDIT_SECONDS))
        run = self._live.ended.result()
        chart = await self._bot.training.chart(run.id) if run.state == "finished" else None
        speaks = await speaking(self._bot) == run.id
        text = conclude(run, self._live.samples, speaks=speaks)
        view = None if speaks else decision(run)
        if not await self._show(text, chart, view) and chart is not None:
            # It may lack the permission to attach files alone.
            self._mute = False
            await self._show(text, None, view)

    async def _show(
        self, text: str, chart: bytes | None = None, view: discord.ui.View | None = None
    ) -> bool:
        """Edit the message; return whether that worked."""
        if self._mute:
            return False
        files = []
        if chart is not None:
            files = [discord.File(io.BytesIO(chart), "losses.png", description=_CHART)]
        expired = self._interaction.is_expired()
        edit: Callable[..., Awaitable[discord.Message]] = self._interaction.edit_original_response
        if expired and self._message is not None:
            # By its channel: the message itself goes on using the interaction's token.
            channel = self._bot.get_partial_messageable(self._message.channel.id)
            edit = channel.get_partial_message(self._message.id).edit
        try:
            message = await edit(
                content=text,
                attachments=files,
                view=view,
                allowed_mentions=discord.AllowedMentions.none(),
            )
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            log.warning("Could not show run %d: %s", self._live.run.id, error)
            # What is forbidden or gone stays so, unless the token ran out this very moment.
            final = isinstance(error, discord.Forbidden | discord.NotFound)
            self._mute = final and expired == self._interaction.is_expired()
            return False
        if self._message is None:
            self._message = message
            await self._bot.runs.show(self._live.run.id, message.channel.id, message.id)
        return True


class Promote(Button, template=r"bard:promote:(?P<run>[0-9]+)"):
    """Lets a run speak. For the bot's owner."""

    async def press(self, interaction: discord.Interaction["Bard"]) -> None:
        """Load the weights, and say under the run that they speak."""
        await require_owner(interaction)
        await interaction.response.defer()
        run = await interaction.client.succession.promote(int(self["run"]), interaction.user.id)
        await _decided(interaction, PROMOTED.format(weights=run.weights))


class Discard(Button, template=r"bard:discard:(?P<run>[0-9]+)"):
    """Removes what a run made. For the bot's owner."""

    async def press(self, interaction: discord.Interaction["Bard"]) -> None:
        """Remove the files, and say so under the run."""
        await require_owner(interaction)
        await interaction.response.defer()
        await interaction.client.training.discard(int(self["run"]))
        await _decided(interaction, DISCARDED.format(id=self["run"]))


def decision(run: Run) -> discord.ui.View | None:
    """Return the buttons under a run that has finished."""
    if run.state != "finished":
        return None
    return view_of(
        Promote("Promote", f"bard:promote:{run.id}", discord.ButtonStyle.success),
        Discard("Discard", f"bard:discard:{run.id}", discord.ButtonStyle.danger),
    )


async def _decided(interaction: discord.Interaction["Bard"], text: str) -> None:
    assert interaction.message is not None  # noqa: S101 - buttons are on messages
    await interaction.edit_original_response(
        content=f"{interaction.message.content}\n{text}",
        view=None,
        allowed_mentions=discord.AllowedMentions.none(),
    )


async def speaking(bot: "Bard") -> int | None:
    """Return the run that speaks; None if it is the weights of the settings."""
    promotions = await bot.runs.promotions()
    return promotions[0].run_id if promotions else None


def describe(live: Live) -> str:
    """Return how a run stands, within Discord's 2000 characters."""
    run, progress = live.run, live.progress
    lines = [f"**Run {run.id}: I am learning.** {_plan(run)}"]
    if progress is None:
        lines.append("I am opening my books; the first figures come in a moment.")
        return "\n".join(lines)
    share = progress.step / progress.steps
    bar = ("#" * int(share * BAR)).ljust(BAR, "-")
    lines += [
        f"`[{bar}]` {share:.0%}: step {progress.step:,} of {progress.steps:,}",
        f"Training loss {progress.train_loss:.3f}, held-out loss {_loss(live.held_out_loss)}",
        f"{progress.characters_per_second:,.0f} characters a second",
        f"About {_duration(progress.seconds_left)} left",
    ]
    if live.sample is not None:
        lines.append(f"Latest sample:\n{_block(live.sample)}")
    if live.stopped_as is not None:
        lines.append("Told to stop: I finish the step that I am at.")
    return "\n".join(lines)


def conclude(run: Run, samples: tuple[str, str] | None = None, *, speaks: bool = False) -> str:
    """Return how a run ended, within Discord's 2000 characters."""
    lines = [f"**Run {run.id}: {run.state}.** {_plan(run)}"]
    if run.steps is not None:
        lines.append(f"Step {run.step:,} of {run.steps:,}.")
    match run.state:
        case "interrupted" | "cancelled":
            lines.append("What I had learnt is kept where it was saved: `resume` goes on with it.")
        case "failed":
            lines.append(f"It failed: {escape(one_line(run.problem or '', 500))}")
        case "finished":
            lines.append(compare(run))
    if samples is not None:
        old, new = samples
        lines += [
            f"As I speak now ({run.old_weights}):\n{_block(old)}",
            f"As I would speak ({run.weights}):\n{_block(new)}",
        ]
    if speaks:
        lines.append(PROMOTED.format(weights=run.weights))
    return "\n".join(lines)


def compare(run: Run) -> str:
    """Return the held-out loss of a finished run beside that of what spoke then."""
    new = f"Held-out loss: {_loss(run.loss)} (weights {run.weights})"
    if run.old_loss is None:
        return f"{new}; what spoke then was not measured on this text."
    verdict = "lower, so better" if is_better(run) else "not lower, so no better"
    return (
        f"{new}, {verdict} than the {_loss(run.old_loss)} of what spoke then ({run.old_weights})."
    )


_CHART = "A chart of the training loss and the held-out loss over the steps of the run."


def _plan(run: Run) -> str:
    text = "my usual text" if run.corpus is None else escape(one_line(run.corpus, 80))
    return f"Preset {run.preset}, {run.minutes:g} min, from {text}."


def _loss(loss: float | None) -> str:
    return "not measured yet" if loss is None else f"{loss:.3f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _block(sample: str) -> str:
    """Return a sample as a block that nothing in it ends or formats."""
    lines = sample.replace("`", "\N{MODIFIER LETTER GRAVE ACCENT}").strip().split("\n")
    return "```\n" + "\n".join(lines[:_SAMPLE_LINES]) + "\n```"
