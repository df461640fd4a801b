"""`/about`: the model's card, and what the bard has done so far."""

import importlib.metadata
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from noskgpt import Generator
from noskgpt.checkpoint import TrainingRecord
from noskgpt.resources import corpus_path

from ..storage.turns import Figures
from ..ui.embeds import COLOUR, escape

if TYPE_CHECKING:
    from ..client import Bard

DISTRIBUTION = "noskgpt-bard"
UNKNOWN = "not known"


class AboutCog(commands.Cog):
    """The command `/about`."""

    def __init__(self, bot: "Bard") -> None:
        self.bot = bot

    @app_commands.command(name="about", description="Who the bard is, and what it has done.")
    async def about(self, interaction: discord.Interaction["Bard"]) -> None:
        """Tell the person alone."""
        await interaction.response.defer(ephemeral=True)
        card = embed(
            self.bot.generation.model, await self.bot.history.figures(), self.bot.started_at
        )
        await interaction.edit_original_response(
            embed=card, allowed_mentions=discord.AllowedMentions.none()
        )


def embed(model: Generator, figures: Figures, started_at: datetime) -> discord.Embed:
    """Return the card of a model, what was done so far, and since when this process runs."""
    training = model.checkpoint.training
    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    fields = {
        "Model": f"{parameters:,} parameters, weights {model.name}",
        "Corpus": _corpus(training.corpus_sha256),
        "Held-out loss": _loss(training.held_out_loss),
        "Training": _training(training),
        "So far": f"{_scenes(figures.scenes)}, {figures.characters:,} characters",
        "Median time per reply": _median(figures),
        "Running since": discord.utils.format_dt(started_at, "R"),
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
    return UNKNOWN if nats is None else f"{nats:.3f} nats a character"


def _training(training: TrainingRecord) -> str:
    parts = []
    if training.steps is not None:
        parts.append(f"{training.steps:,} steps")
    if training.seconds is not None:
        parts.append(f"{timedelta(seconds=round(training.seconds))} h")
    if training.finished_at is not None:
        finished_at = datetime.fromisoformat(training.finished_at)
        parts.append(f"ended on {discord.utils.format_dt(finished_at, 'D')}")
    if training.command is not None:
        parts.append(escape(training.command[:200]))
    return "\n".join(parts) or UNKNOWN


def _scenes(count: int) -> str:
    return "1 scene" if count == 1 else f"{count:,} scenes"


def _median(figures: Figures) -> str:
    if figures.median_seconds is None:
        return "no reply yet"
    return f"{figures.median_seconds:.2f} s, of the last {figures.timed:,}"
