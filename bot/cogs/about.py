"""`/bard-about`: show the model, its training, and the statistics of this bot."""

import importlib.metadata
import json
import shlex
from datetime import datetime, timedelta
from typing import Any

import discord

from noskgpt import Generator
from noskgpt.checkpoint import TrainingRecord
from noskgpt.commands import DISTRIBUTION, without_folders
from noskgpt.resources import corpus_path

from ..languages import Language, Plural, Text
from ..storage.statistics import Statistics
from ..ui.commands import command
from ..ui.embeds import CHARACTERS, COLOUR, escape
from ..ui.interactions import acknowledge, edit_response
from ..ui.localisation import language_of
from .base import BardCog

TITLE = Text("The bard", "heading")
DESCRIPTION = Text("A character-level transformer that writes in the voice of Shakespeare.")
MODEL = Text("Model", "heading")
MODEL_IS = Text("{parameters:,} parameters, weights {weights}")
CORPUS = Text("Corpus", "heading")
BUNDLED = Text("the bundled plays, SHA-256 {checksum}")
ANOTHER = Text("another text than the bundled plays, SHA-256 {checksum}")
LOSS = Text("Held-out loss", "heading")
LOSS_IS = Text("{nats:.3f} nats per character")
TRAINING = Text("Training", "heading")
STEPS = Plural("{count:,} step", "{count:,} steps")
HOURS = Text("{time} h")
FINISHED = Text("finished on {date}")
SO_FAR = Text("So far", "heading")
SO_FAR_IS = Text("{scenes}, {characters}")
SCENES = Plural("{count:,} scene", "{count:,} scenes")
MEDIAN = Text("Median time per reply", "heading")
MEDIAN_IS = Text("{seconds:.2f} s over the last {count:,}")
NO_REPLY = Text("no reply yet")
SINCE = Text("Running since", "heading")
VERSION = Text("Version", "heading")
UNKNOWN = Text("not known")


class AboutCog(BardCog, name="noskgpt_bard.about"):
    """The command `/bard-about`."""

    @command(name="bard-about", description="Show the bard's model and statistics.")
    async def about(self, interaction: discord.Interaction[Any]) -> None:
        """Respond with the card, visible to the sender alone."""
        await acknowledge(interaction, private=True)
        bard = self.bard
        statistics = await bard.statistics.read()
        language = language_of(interaction)
        card = about_embed(bard.inference.model, statistics, bard.opened_at, language)
        await edit_response(interaction, embeds=[card])


def about_embed(
    model: Generator, statistics: Statistics, opened_at: datetime, language: Language
) -> discord.Embed:
    """Return the card of a model with the statistics of a bot that started at `opened_at`."""
    training = model.checkpoint.training
    parameters = model.checkpoint.config.parameters
    so_far = language(
        SO_FAR_IS,
        scenes=language.plural(SCENES, statistics.scenes),
        characters=language.plural(CHARACTERS, statistics.characters),
    )
    fields = {
        MODEL: language(MODEL_IS, parameters=parameters, weights=model.name),
        CORPUS: _corpus(training.corpus_sha256, language),
        LOSS: _loss(training.held_out_loss, language),
        TRAINING: _training(training, language),
        SO_FAR: so_far,
        MEDIAN: _median(statistics, language),
        SINCE: discord.utils.format_dt(opened_at, "R"),
        VERSION: importlib.metadata.version(DISTRIBUTION),
    }
    card = discord.Embed(title=language(TITLE), description=language(DESCRIPTION), colour=COLOUR)
    for name, value in fields.items():
        card.add_field(name=language(name), value=value)
    return card


def _corpus(sha256: str | None, language: Language) -> str:
    if sha256 is None:
        return language(UNKNOWN)
    manifest = corpus_path().with_suffix(".json")
    bundled = manifest.is_file() and json.loads(manifest.read_bytes())["sha256"] == sha256
    return language(BUNDLED if bundled else ANOTHER, checksum=sha256[:16])


def _loss(nats: float | None, language: Language) -> str:
    return language(UNKNOWN) if nats is None else language(LOSS_IS, nats=nats)


def _training(training: TrainingRecord, language: Language) -> str:
    parts = []
    if training.steps is not None:
        parts.append(language.plural(STEPS, training.steps))
    if training.seconds is not None:
        parts.append(language(HOURS, time=timedelta(seconds=round(training.seconds))))
    if training.finished_at is not None:
        finished_at = datetime.fromisoformat(training.finished_at)
        parts.append(language(FINISHED, date=discord.utils.format_dt(finished_at, "D")))
    if training.command is not None:
        words = shlex.split(without_folders(training.command))
        parts.append(escape(" ".join(words)[:200]))
    return "\n".join(parts) or language(UNKNOWN)


def _median(statistics: Statistics, language: Language) -> str:
    if statistics.median_seconds is None:
        return language(NO_REPLY)
    return language(MEDIAN_IS, seconds=statistics.median_seconds, count=statistics.timed)
