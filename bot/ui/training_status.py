"""Describe a training run: its progress, its end, and the decision about its weights."""

from typing import Any

import discord

from ..bard import Bard
from ..core.active_run import ActiveRun
from ..core.run_results import is_better
from ..storage.runs import Run
from .components import Button, view_of
from .embeds import escape, one_line
from .owners import acknowledge_owner

BAR_CHARS = 20
"""Length of the progress bar."""
_SAMPLE_LINES = 8

_NOT_BETTER = "**Warning:** the new weights are not better on this text. Compare the samples."
_NOT_COMPARED = (
    "**Warning:** nothing shows that the new weights are better: the two losses are not of the "
    "same text. Compare the samples."
)
PROMOTED = "Promoted: the weights {weights} are active from the next request on."
DISCARDED = "Discarded: the weights of run {id} are deleted."


class Promote(Button, template=r"bard:promote:(?P<run>[0-9]+)"):
    """Activate the weights of a run. For the bot's owner."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Load the weights, and record the promotion in the message."""
        await acknowledge_owner(interaction, bard, press=True)
        run = await bard.promotions.promote(int(self["run"]), interaction.user.id)
        await _close_decision(interaction, PROMOTED.format(weights=run.weights))


class Discard(Button, template=r"bard:discard:(?P<run>[0-9]+)"):
    """Delete the files of a run. For the bot's owner."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Delete the files, and record that in the message."""
        await acknowledge_owner(interaction, bard, press=True)
        await bard.training.discard(int(self["run"]))
        await _close_decision(interaction, DISCARDED.format(id=self["run"]))


def decision_view(run: Run) -> discord.ui.View | None:
    """Return the buttons of a finished run; None for a run in another state.

    *Promote* is green only if the new weights are better.
    """
    if run.state != "finished":
        return None
    promote = discord.ButtonStyle.success if is_better(run) else discord.ButtonStyle.secondary
    return view_of(
        Promote("Promote", f"bard:promote:{run.id}", promote),
        Discard("Discard", f"bard:discard:{run.id}", discord.ButtonStyle.danger),
    )


async def _close_decision(interaction: discord.Interaction[Any], text: str) -> None:
    """Append a text to the pressed button's message, and remove its buttons."""
    assert interaction.message is not None  # noqa: S101 - buttons are on messages
    await interaction.edit_original_response(
        content=f"{interaction.message.content}\n{text}",
        view=None,
        allowed_mentions=discord.AllowedMentions.none(),
    )


def describe_progress(active: ActiveRun) -> str:
    """Return the status of an active run, within Discord's 2000 characters."""
    run, progress = active.run, active.progress
    lines = [f"**Run {run.id}: training.** {_plan(run, active.missing)}"]
    if progress is None:
        lines.append("Starting; the first figures follow in a moment.")
        return "\n".join(lines)
    fraction = progress.step / progress.steps
    bar = ("#" * int(fraction * BAR_CHARS)).ljust(BAR_CHARS, "-")
    lines += [
        # The figures first: a screen reader spells the bar out.
        f"{fraction:.0%}: step {progress.step:,} of {progress.steps:,} `[{bar}]`",
        f"Training loss {progress.train_loss:.3f}, held-out loss {_held_out(active)}",
        f"{progress.characters_per_second:,.0f} characters a second",
        f"About {_duration(progress.seconds_left)} left",
    ]
    if active.sample is not None:
        lines.append(f"Latest sample:\n{_block(active.sample)}")
    if active.stopped_as is not None:
        lines.append("Stopping after the current step.")
    return "\n".join(lines)


def describe_end(
    run: Run,
    samples: tuple[str, str] | None = None,
    *,
    promoted: bool = False,
    missing: str | None = None,
    resumable: bool = False,
) -> str:
    """Return the outcome of a run, within Discord's 2000 characters.

    Args:
        run: The run.
        samples: A text of the weights active until then, and one of the new weights.
        promoted: Whether the new weights were promoted.
        missing: See `ActiveRun.missing`.
        resumable: Whether `/train start` with `resume` continues this run.
    """
    lines = [f"**Run {run.id}: {run.state}.** {_plan(run, missing)}"]
    if run.steps is not None:
        lines.append(f"Step {run.step:,} of {run.steps:,}.")
    match run.state:
        case "failed":
            lines.append(f"Cause: {escape(one_line(run.problem or '', 500))}")
        case "finished":
            lines.append(describe_losses(run))
    if resumable:
        lines.append("The last checkpoint is kept: `/train start` with `resume` continues it.")
    if samples is not None:
        old, new = samples
        lines += [
            f"Sample of the active weights ({run.old_weights}):\n{_block(old)}",
            f"Sample of the new weights ({run.weights}):\n{_block(new)}",
        ]
    if promoted:
        lines.append(PROMOTED.format(weights=run.weights))
    return "\n".join(lines)


def describe_losses(run: Run) -> str:
    """Return the held-out loss of a finished run beside that of the weights before.

    It warns of a promotion if the new weights are worse, or if nothing shows that they are better.
    """
    new = f"Held-out loss: {_loss(run.loss)} (weights {run.weights})"
    if run.start_loss is not None:
        new = (
            f"Held-out loss on this text: {_loss(run.start_loss)} before "
            f"(weights {run.start_weights}), {_loss(run.loss)} after (weights {run.weights})"
        )
    if run.evaluated_fraction is not None and run.evaluated_fraction < 1:
        new += f", on the first {run.evaluated_fraction:.1%} of the held-out text"
    if run.old_loss is None:
        return f"{new}; the active weights were not measured on this text.\n{_NOT_COMPARED}"
    better = is_better(run)
    verdict = "lower, so better" if better else "not lower, so not better"
    if run.start_loss is None or run.start_weights != run.old_weights:
        verdict += f" than {_loss(run.old_loss)} of the active weights ({run.old_weights})"
    return f"{new}, {verdict}." + ("" if better else f"\n{_NOT_BETTER}")


def _held_out(active: ActiveRun) -> str:
    """Return the newest held-out loss of an active run, and the one before its first step."""
    text = _loss(active.held_out_loss)
    if active.start_loss is not None:
        text += f", {_loss(active.start_loss)} before the run"
    if active.evaluated_fraction < 1:
        text += f" (on the first {active.evaluated_fraction:.1%} of the held-out text)"
    return text


def _plan(run: Run, missing: str | None = None) -> str:
    text = "the configured corpus" if run.corpus is None else escape(one_line(run.corpus, 80))
    start = "nothing" if run.start_weights is None else f"the weights {run.start_weights}"
    plan = f"Preset {run.preset}, {run.minutes:g} min, on {text}, from {start}."
    if missing is not None:
        plan += f" The active weights do not have these characters of it: {escape(missing)}"
    return plan


def _loss(loss: float | None) -> str:
    return "not measured yet" if loss is None else f"{loss:.3f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _block(sample: str) -> str:
    """Return a sample as a code block that nothing in it can end or format."""
    lines = sample.replace("`", "\N{MODIFIER LETTER GRAVE ACCENT}").strip().split("\n")
    return "```\n" + "\n".join(lines[:_SAMPLE_LINES]) + "\n```"
