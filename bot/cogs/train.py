"""`/train`: the bot's owner has it learn, and decides which weights speak."""

import logging
from typing import TYPE_CHECKING, Literal

import discord
from discord import app_commands
from discord.ext import commands

from ..core.training_runner import NOTHING_RUNS, Order
from ..errors import RefusedError
from ..storage.runs import UNDER_WAY, Run
from ..ui.embeds import escape, one_line
from ..ui.training_status import (
    PROMOTED,
    Discard,
    LiveMessage,
    Promote,
    conclude,
    describe,
    require_owner,
    speaking,
)

if TYPE_CHECKING:
    from ..client import Bard

log = logging.getLogger(__name__)

CORPUS_BYTES = 8 * 2**20
MAX_MINUTES = 7 * 24 * 60.0
LISTED = 8

NOT_A_TEXT = "A corpus is a text file, .txt in UTF-8, of at most 8 MB. This one is not."
RESUME_ALONE = "A run is resumed with the text that it began with: leave `corpus` out."
NO_RUNS = "I was never schooled yet. `/train start` begins it."
BACK = "I speak as before: with the weights of {whose}, {weights}."

Preset = Literal["quick", "default", "best", "original"]


class TrainCog(commands.Cog):
    """The commands of training, for the bot's owner alone."""

    train = app_commands.Group(
        name="train",
        description="Have the bard learn. For the bot's owner.",
        # Hidden from all but administrators; each command looks for itself who asks.
        default_permissions=discord.Permissions.none(),
    )

    def __init__(self, bot: "Bard") -> None:
        self.bot = bot

    async def cog_load(self) -> None:
        """Listen to the buttons, and tell of a run that the last end of the bot interrupted."""
        self.bot.add_dynamic_items(Promote, Discard)
        run = await self.bot.training.recover()
        if run is None or run.channel_id is None or run.message_id is None:
            return
        channel = self.bot.get_partial_messageable(run.channel_id, guild_id=run.guild_id)
        try:
            await channel.get_partial_message(run.message_id).edit(
                content=conclude(run), view=None, allowed_mentions=discord.AllowedMentions.none()
            )
        except discord.HTTPException as error:
            log.warning("Could not show that run %d was interrupted: %s", run.id, error)

    @train.command(name="start", description="Begin to learn, or go on where I was interrupted.")
    @app_commands.describe(
        minutes="How long to learn",
        preset="The kind of run; default if not given",
        resume="Go on with the last unfinished run, as it was planned",
        corpus="A text of your own, .txt in UTF-8, up to 8 MB",
    )
    async def start(
        self,
        interaction: discord.Interaction["Bard"],
        minutes: app_commands.Range[float, 0.1, MAX_MINUTES],
        preset: Preset = "default",
        resume: bool = False,  # noqa: FBT001, FBT002 - an option of the command
        corpus: discord.Attachment | None = None,
    ) -> None:
        """Start a run, and show it as long as it lasts."""
        await require_owner(interaction)
        training = self.bot.training
        if training.live is not None:
            raise RefusedError(UNDER_WAY)
        if corpus is not None:
            _check(corpus, resume=resume)
        await interaction.response.defer(thinking=True)
        channel_id = interaction.channel_id or 0
        if resume:
            live = await training.resume(
                user_id=interaction.user.id, guild_id=interaction.guild_id, channel_id=channel_id
            )
        else:
            order = Order(
                user_id=interaction.user.id,
                guild_id=interaction.guild_id,
                channel_id=channel_id,
                preset=preset,
                minutes=minutes,
                corpus=(corpus.filename, await corpus.read()) if corpus else None,
            )
            live = await training.start(order)
        LiveMessage(interaction, live).begin()

    @train.command(name="status", description="How the run stands, or how the last one ended.")
    async def status(self, interaction: discord.Interaction["Bard"]) -> None:
        """Tell the person alone."""
        await require_owner(interaction)
        live = self.bot.training.live
        if live is not None:
            await _answer(interaction, describe(live))
            return
        runs = await self.bot.runs.newest(1)
        await _answer(interaction, f"{NOTHING_RUNS}\n{conclude(runs[0])}" if runs else NO_RUNS)

    @train.command(name="cancel", description="Stop the run; `resume` can go on with it later.")
    async def cancel(self, interaction: discord.Interaction["Bard"]) -> None:
        """Stop the run, and say how far it came."""
        await require_owner(interaction)
        await interaction.response.defer(ephemeral=True)
        await _answer(interaction, conclude(await self.bot.training.cancel()))

    @train.command(name="history", description="The last runs, and which of them speaks.")
    async def history(self, interaction: discord.Interaction["Bard"]) -> None:
        """List them to the person alone."""
        await require_owner(interaction)
        runs = await self.bot.runs.newest(LISTED)
        speaks = await speaking(self.bot)
        lines = [_line(run, speaks=run.id == speaks) for run in runs]
        await _answer(interaction, "\n".join(lines) or NO_RUNS)

    @train.command(name="promote", description="Let the weights of a run speak.")
    @app_commands.describe(run="Its number in /train history")
    async def promote(
        self, interaction: discord.Interaction["Bard"], run: app_commands.Range[int, 1]
    ) -> None:
        """Load the weights and speak with them."""
        await require_owner(interaction)
        await interaction.response.defer(ephemeral=True)
        promoted = await self.bot.succession.promote(run, interaction.user.id)
        await _answer(interaction, PROMOTED.format(weights=promoted.weights))

    @train.command(name="rollback", description="Speak with what spoke before the last promotion.")
    async def rollback(self, interaction: discord.Interaction["Bard"]) -> None:
        """Go back one step."""
        await require_owner(interaction)
        await interaction.response.defer(ephemeral=True)
        run = await self.bot.succession.roll_back(interaction.user.id)
        whose = f"run {run.id}" if run else "the settings"
        await _answer(interaction, BACK.format(whose=whose, weights=self.bot.generation.model.name))


def _check(corpus: discord.Attachment, *, resume: bool) -> None:
    if resume:
        raise RefusedError(RESUME_ALONE)
    if not corpus.filename.lower().endswith(".txt") or corpus.size > CORPUS_BYTES:
        raise RefusedError(NOT_A_TEXT)


def _line(run: Run, *, speaks: bool) -> str:
    parts = [f"**Run {run.id}**: {run.state}", f"<t:{run.started_at:.0f}:f>"]
    parts.append(f"preset {run.preset}, {run.minutes:g} min")
    if run.corpus is not None:
        parts.append(escape(one_line(run.corpus, 40)))
    if run.loss is not None:
        parts.append(f"held-out loss {run.loss:.3f}, weights {run.weights}")
    if run.user_id:
        parts.append(f"asked for by <@{run.user_id}>")
    if speaks:
        parts.append("**speaks now**")
    return ", ".join(parts)


async def _answer(interaction: discord.Interaction["Bard"], text: str) -> None:
    """Answer the person alone, or complete the answer that was deferred."""
    nobody = discord.AllowedMentions.none()
    if interaction.response.is_done():
        await interaction.edit_original_response(content=text, allowed_mentions=nobody)
    else:
        await interaction.response.send_message(text, ephemeral=True, allowed_mentions=nobody)
