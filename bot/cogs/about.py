"""`/bard-about`: show the model, its training, and the statistics of this bot."""

import importlib.metadata
import json
import shlex
from datetime import datetime, timedelta
from pathlib import PureWindowsPath
from typing import Any

import discord

from noskgpt import Generator
from noskgpt.checkpoint import TrainingRecord
from noskgpt.commands import DISTRIBUTION
from noskgpt.resources import corpus_path

from ..storage.statistics import Statistics
from ..ui.commands import command
from ..ui.embeds import COLOUR, escape
from ..ui.interactions import acknowledge, edit_response
from .base import BardCog

UNKNOWN = "not known"


class AboutCog(BardCog, name="noskgpt_bard.about"):
    """The command `/bard-about`."""

    @command(name="bard-about", description="Show the bard's model and statistics.")
    async def about(self, interaction: discord.Interaction[Any]) -> None:
        """Respond with the card, visible to the sender alone."""
        await acknowledge(interaction, private=True)
        bard = self.bard
        card = about_embed(bard.inference.model, await bard.statistics.read(), bard.opened_at)
        await edit_response(interaction, embeds=[card])


def about_embed(model: Generator, statistics: Statistics, opened_at: datetime) -> discord.Embed:
    """Return the card of a model with the statistics of a bot that started at `opened_at`."""
    training = model.checkpoint.training
    parameters = model.checkpoint.config.parameters
    fields = {
        "Model": f"{parameters:,} parameters, weights {model.name}",
        "Corpus": _corpus(training.corpus_sha256),
        "Held-out loss": _loss(training.held_out_loss),
        "Training": _training(training),
        "So far": f"{_scenes(statistics.scenes)}, {statistics.characters:,} characters",
        "Median time per reply": _median(statistics),
        "Running since": discord.utils.format_dt(opened_at, "R"),
        "Version": importlib.metadata.version(DISTRIBUTION),
    }
    card = discord.Embed(
        title="The bard",
        description="A character-level transformer that writes in the voice of Shakespeare.",
        colour=COLOUR,
    )
    for name, value in fields.items():
        card.add_field(name=name, value=value)
    return card


def _corpus(sha256: str | None) -> str:
    if sha256 is None:
        return UNKNOWN
    manifest = corpus_path().with_suffix(".json")
    bundled = manifest.is_file() and json.loads(manifest.read_bytes())["sha256"] == sha256
    name = "the bundled plays" if bundled else "another text than the bundled plays"
    return f"{name}, SHA-256 {sha256[:16]}"


def _loss(nats: float | None) -> str:
    return UNKNOWN if nats is None else f"{nats:.3f} nats per character"


def _training(training: TrainingRecord) -> str:
    parts = []
    if training.steps is not None:
        parts.append(f"{training.steps:,} steps")
    if training.seconds is not None:
        parts.append(f"{timedelta(seconds=round(training.seconds))} h")
    if training.finished_at is not None:
        finished_at = datetime.fromisoformat(training.finished_at)
        parts.append(f"finished on {discord.utils.format_dt(finished_at, 'D')}")
    if training.command is not None:
        parts.append(escape(_without_folders(training.command)[:200]))
    return "\n".join(parts) or UNKNOWN


def _without_folders(command: str) -> str:
    """Return a command with the names of its files alone: the folders are the host's."""
    return " ".join(
        PureWindowsPath(part).name if "/" in part or "\\" in part else part
        for part in shlex.split(command)
    )


def _scenes(count: int) -> str:
    return "1 scene" if count == 1 else f"{count:,} scenes"


def _median(statistics: Statistics) -> str:
    if statistics.median_seconds is None:
        return "no reply yet"
    return f"{statistics.median_seconds:.2f} s over the last {statistics.timed:,}"
