"""`/train`: let the bot's owner train the model and choose the active weights."""

import logging
from typing import Any, Literal

import discord
from discord import app_commands

from ..bard import Bard
from ..core.training_runner import StartFrom, TrainingRequest
from ..errors import Reason, RejectedError
from ..languages import Language, Text
from ..storage.runs import Run
from ..ui.commands import EVERYWHERE, FOR_ALL, Group
from ..ui.embeds import escape, first_lines, one_line
from ..ui.interactions import acknowledge, edit_response
from ..ui.localisation import language_of
from ..ui.owners import require_owner
from ..ui.responses import REJECTIONS, STATES
from ..ui.training_messages import RunMessages
from ..ui.training_status import PROMOTED, describe_end, describe_progress
from ..ui.voices import (
    PROMOTED_AS,
    RENAMED,
    REPLACED,
    VOICE_LIMIT,
    ask_to_remove,
    show_voices,
    suggest_own_voices,
)
from .base import BardCog, listener

log = logging.getLogger(__name__)

CORPUS_BYTES = 8 * 2**20
DEFAULT_MINUTES = 10.0
MAX_MINUTES = 7 * 24 * 60.0
LISTED_RUNS = 8

NO_RUNS = Text("No training runs yet. `/train start` starts one.")
ROLLED_BACK = Text("Rolled back: the weights {weights} of run {run_id} are active.")
ROLLED_BACK_TO_SETTINGS = Text("Rolled back: the weights {weights} of the settings are active.")
RUN = Text("**Run {id}**: {state}")
RUN_PLAN = Text("preset {preset}, {minutes:g} min")
RUN_LOSS = Text("held-out loss {loss:.3f}, weights {weights}")
STARTED_FROM = Text("started from {weights}")
STARTED_BY = Text("started by {person}")
SPEAKS_AS = Text("voice {names}")
ACTIVE = Text("**active**")

Preset = Literal["quick", "default", "best", "original"]


class TrainCog(BardCog, name="noskgpt_bard.train"):
    """The commands `/train`, for the bot's owner alone."""

    train = Group(
        name="train",
        description="Train the bard. For the bot's owner.",
        # Hidden from all but administrators; each command checks the owner itself.
        default_permissions=discord.Permissions.none(),
        allowed_contexts=EVERYWHERE,
        allowed_installs=FOR_ALL,
    )

    def __init__(self, client: Any, bard: Bard) -> None:  # noqa: ANN401 - see BardCog
        super().__init__(client, bard)
        self._messages = RunMessages(client, bard)

    async def cog_load(self) -> None:
        """Record the end of a run that the last shutdown interrupted; show it when connected."""
        # A paused attempt to show an end would use up the time of a shutdown.
        self.bard.before_drain(self._messages.close)
        try:
            await self.bard.training.recover()
        except RejectedError as error:
            if error.reason is not Reason.WEIGHTS_UNREADABLE:
                raise
            # The next run tries again before it starts.
            log.warning("The end of the last run cannot be recorded yet: %s", error)
        if self.client.is_ready():
            await self._messages.take_up()

    async def cog_unload(self) -> None:
        """Leave the ends that could not be shown to the next process."""
        self._messages.close()

    @listener
    async def on_ready(self) -> None:
        """Show the ends of runs that are not shown yet."""
        await self._messages.take_up()

    @listener
    async def on_resumed(self) -> None:
        """Show the ends that could not be shown while the connection was lost."""
        await self._messages.take_up()

    @train.command(name="start", description="Start a training run, or resume the last one.")
    @app_commands.describe(
        minutes=f"Duration of the run in minutes; {DEFAULT_MINUTES:g} if not given",
        preset="The kind of run; default if not given",
        resume="Resume the last unfinished run, with its own plan",
        corpus="A text of your own, .txt in UTF-8, up to 8 MB",
        start_from="If not given: the active weights for a text of your own, else nothing",
    )
    async def start(
        self,
        interaction: discord.Interaction[Any],
        minutes: app_commands.Range[float, 0.1, MAX_MINUTES] | None = None,
        preset: Preset | None = None,
        resume: bool = False,  # noqa: FBT001, FBT002 - an option of the command
        corpus: discord.Attachment | None = None,
        start_from: StartFrom | None = None,
    ) -> None:
        """Start a run, and show its status until it ends."""
        await require_owner(interaction, self.bard)
        training = self.bard.training
        if training.active is not None:
            raise RejectedError(Reason.RUN_ACTIVE)
        if resume:
            _require_none(minutes=minutes, preset=preset, corpus=corpus, start_from=start_from)
        if corpus is not None:
            _check_corpus(corpus)
        private = interaction.response.is_done()
        await _acknowledge(interaction, private=False)
        channel_id = interaction.channel_id or 0
        if resume:
            active = await training.resume(
                user_id=interaction.user.id, guild_id=interaction.guild_id, channel_id=channel_id
            )
        else:
            request = TrainingRequest(
                user_id=interaction.user.id,
                guild_id=interaction.guild_id,
                channel_id=channel_id,
                preset=preset or "default",
                minutes=minutes or DEFAULT_MINUTES,
                corpus=(corpus.filename, await corpus.read()) if corpus else None,
                start_from=start_from,
            )
            active = await training.start(request)
        self._messages.follow(interaction, active, private=private)

    @train.command(name="status", description="Show the active training run, or the last one.")
    async def status(self, interaction: discord.Interaction[Any]) -> None:
        """Show it to the sender alone."""
        await require_owner(interaction, self.bard)
        await _acknowledge(interaction)
        active = self.bard.training.active
        language = language_of(interaction)
        if active is not None:
            await _answer(interaction, describe_progress(active, language))
            return
        runs = await self.bard.runs.newest(1)
        text = language(NO_RUNS)
        if runs:
            none_active = language(REJECTIONS[Reason.NO_ACTIVE_RUN])
            text = f"{none_active}\n{await self._describe_end(runs[0], language)}"
        await _answer(interaction, text)

    @train.command(name="cancel", description="Stop the active run; `resume` can continue it.")
    async def cancel(self, interaction: discord.Interaction[Any]) -> None:
        """Stop the run with a checkpoint, and show its last step."""
        await require_owner(interaction, self.bard)
        await _acknowledge(interaction)
        run = await self.bard.training.cancel()
        await _answer(interaction, await self._describe_end(run, language_of(interaction)))

    @train.command(name="history", description="List the last runs; mark active weights, voices.")
    async def history(self, interaction: discord.Interaction[Any]) -> None:
        """List them for the sender alone."""
        await require_owner(interaction, self.bard)
        await _acknowledge(interaction)
        runs = await self.bard.runs.newest(LISTED_RUNS)
        active = await self.bard.promotions.active()
        voices = self.bard.voice_store.listed()
        language, lines = language_of(interaction), []
        for run in runs:
            names = [voice.name for voice in voices if voice.run_id == run.id]
            lines.append(_line(run, names, language, active=run.id == active))
        await _answer(interaction, first_lines(lines) or language(NO_RUNS))

    @train.command(name="promote", description="Activate the weights of a finished run.")
    @app_commands.rename(name="as")
    @app_commands.autocomplete(name=suggest_own_voices)
    @app_commands.describe(
        run="Its number in /train history",
        name="A voice that speaks with them, new or not; the active weights stay then",
    )
    async def promote(
        self,
        interaction: discord.Interaction[Any],
        run: app_commands.Range[int, 1],
        name: app_commands.Range[str, 1, VOICE_LIMIT] | None = None,
    ) -> None:
        """Load the weights and use them from the next request on, everywhere or as a voice."""
        await require_owner(interaction, self.bard)
        await _acknowledge(interaction)
        language = language_of(interaction)
        if name is not None:
            voice, before = await self.bard.voice_promotions.promote(run, name)
            text = PROMOTED_AS if before is None else REPLACED
            await _answer(
                interaction,
                language(
                    text,
                    name=voice.name,
                    weights=voice.weights,
                    run_id=run,
                    before=None if before is None else before.run_id,
                ),
            )
            return
        promoted = await self.bard.promotions.promote(run, interaction.user.id)
        await _answer(interaction, language(PROMOTED, weights=promoted.weights))

    @train.command(name="rollback", description="Undo the last promotion.")
    async def rollback(self, interaction: discord.Interaction[Any]) -> None:
        """Activate the weights from before the last promotion."""
        await require_owner(interaction, self.bard)
        await _acknowledge(interaction)
        run = await self.bard.promotions.roll_back(interaction.user.id)
        weights, language = self.bard.inference.model.name, language_of(interaction)
        text = language(ROLLED_BACK_TO_SETTINGS, weights=weights)
        if run:
            text = language(ROLLED_BACK, weights=weights, run_id=run.id)
        await _answer(interaction, text)

    @train.command(name="voices", description="List the voices; rename or remove one.")
    @app_commands.autocomplete(rename=suggest_own_voices, remove=suggest_own_voices)
    @app_commands.describe(
        rename="A voice that gets another name",
        to="Its new name",
        remove="A voice that speaks no more; its replies stay",
    )
    async def voices(
        self,
        interaction: discord.Interaction[Any],
        rename: app_commands.Range[str, 1, VOICE_LIMIT] | None = None,
        to: app_commands.Range[str, 1, VOICE_LIMIT] | None = None,
        remove: app_commands.Range[str, 1, VOICE_LIMIT] | None = None,
    ) -> None:
        """List the voices for the sender alone, rename one, or ask whether to remove one."""
        await require_owner(interaction, self.bard)
        await _acknowledge(interaction)
        voices = self.bard.voice_promotions
        if (rename is None) != (to is None) or (rename is not None and remove is not None):
            raise RejectedError(Reason.VOICE_OPTIONS)
        if rename is not None and to is not None:
            before, voice = await voices.rename(rename, to)
            text = language_of(interaction)(RENAMED, before=before.name, name=voice.name)
            await _answer(interaction, text)
        elif remove is not None:
            await ask_to_remove(interaction, self.bard, voices.require(remove))
        else:
            await show_voices(interaction, self.bard)

    async def _describe_end(self, run: Run, language: Language) -> str:
        return describe_end(run, language, resumable=await self.bard.training.is_resumable(run))


def _require_none(**options: object) -> None:
    """Reject an option beside `resume`, which would have no effect."""
    for name, value in options.items():
        if value is not None:
            raise RejectedError(Reason.OPTION_WITH_RESUME, option=name)


def _check_corpus(corpus: discord.Attachment) -> None:
    if not corpus.filename.lower().endswith(".txt") or corpus.size > CORPUS_BYTES:
        raise RejectedError(Reason.NOT_A_TEXT_FILE)


def _line(run: Run, voices: list[str], language: Language, *, active: bool) -> str:
    parts = [language(RUN, id=run.id, state=language(STATES[run.state]))]
    parts.append(f"<t:{run.started_at:.0f}:f>")
    parts.append(language(RUN_PLAN, preset=run.preset, minutes=run.minutes))
    if run.corpus is not None:
        parts.append(escape(one_line(run.corpus, 40)))
    if run.loss is not None:
        parts.append(language(RUN_LOSS, loss=run.loss, weights=run.weights))
    if run.start_weights is not None:
        parts.append(language(STARTED_FROM, weights=run.start_weights))
    if run.user_id:
        parts.append(language(STARTED_BY, person=f"<@{run.user_id}>"))
    if voices:
        parts.append(language(SPEAKS_AS, names=", ".join(voices)))
    if active:
        parts.append(language(ACTIVE))
    return ", ".join(parts)


async def _acknowledge(interaction: discord.Interaction[Any], *, private: bool = True) -> None:
    """Acknowledge a command, unless `require_owner` had to."""
    if not interaction.response.is_done():
        await acknowledge(interaction, private=private)


async def _answer(interaction: discord.Interaction[Any], text: str) -> None:
    """Replace the acknowledgement by a text."""
    await edit_response(interaction, content=text)
