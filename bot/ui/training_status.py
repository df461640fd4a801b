"""Describe a training run: its progress, its end, and the decision about its weights."""

from typing import Any

import discord

from ..bard import Bard
from ..core.active_run import ActiveRun
from ..core.run_results import is_better
from ..languages import Language, Text
from ..storage.runs import Run
from .components import Button, view_of
from .embeds import escape, one_line
from .localisation import language_of_message
from .owners import acknowledge_owner
from .responses import STATES

BAR_CHARS = 20
"""Length of the progress bar."""
_SAMPLE_LINES = 8

NOT_BETTER = Text("**Warning:** the new weights are not better on this text. Compare the samples.")
NOT_COMPARED = Text(
    "**Warning:** nothing shows that the new weights are better: the two losses are not of the "
    "same text. Compare the samples."
)
PROMOTED = Text("Promoted: the weights {weights} are active from the next request on.")
DISCARDED = Text("Discarded: the weights of run {id} are deleted.")
PROMOTE = Text("Promote", "button")
DISCARD = Text("Discard", "button")
TRAINING = Text("**Run {id}: training.** {plan}")
ENDED = Text("**Run {id}: {state}.** {plan}")
PLAN = Text("Preset {preset}, {minutes:g} min, on {text}, from {start}.")
MISSING = Text("The active weights do not have these characters of it: {characters}")
CONFIGURED_CORPUS = Text("the configured corpus")
FROM_NOTHING = Text("nothing")
FROM_WEIGHTS = Text("the weights {weights}")
STARTING = Text("Starting; the first figures follow in a moment.")
STEP = Text("{fraction:.0%}: step {step:,} of {steps:,} `[{bar}]`")
LOSSES = Text("Training loss {train_loss:.3f}, held-out loss {held_out}")
SPEED = Text("{characters:,.0f} characters a second")
TIME_LEFT = Text("About {duration} left")
MINUTES = Text("{minutes} min {seconds:02} s")
SECONDS = Text("{seconds} s")
LATEST_SAMPLE = Text("Latest sample:")
STOPPING = Text("Stopping after the current step.")
LAST_STEP = Text("Step {step:,} of {steps:,}.")
CAUSE = Text("Cause: {problem}")
RESUMABLE = Text("The last checkpoint is kept: `/train start` with `resume` continues it.")
OLD_SAMPLE = Text("Sample of the active weights ({weights}):")
NEW_SAMPLE = Text("Sample of the new weights ({weights}):")
LOSS = Text("Held-out loss: {loss} (weights {weights})")
LOSS_BEFORE = Text(
    "Held-out loss on this text: {before} before (weights {start_weights}), {after} after "
    "(weights {weights})"
)
ON_THE_FIRST = Text("{loss}, on the first {fraction:.1%} of the held-out text")
NOT_MEASURED = Text("{loss}; the active weights were not measured on this text.")
LOWER = Text("{loss}, lower, so better.")
LOWER_THAN = Text("{loss}, lower, so better than {old_loss} of the active weights ({old_weights}).")
NOT_LOWER = Text("{loss}, not lower, so not better.")
NOT_LOWER_THAN = Text(
    "{loss}, not lower, so not better than {old_loss} of the active weights ({old_weights})."
)
BEFORE_THE_RUN = Text("{loss}, {before} before the run")
ON_A_PART = Text("{loss} (on the first {fraction:.1%} of the held-out text)")
NO_LOSS = Text("not measured yet")
A_LOSS = Text("{loss:.3f}")


class Promote(Button, template=r"bard:promote:(?P<run>[0-9]+)"):
    """Activate the weights of a run. For the bot's owner."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Load the weights, and record the promotion in the message."""
        await acknowledge_owner(interaction, bard, press=True)
        run = await bard.promotions.promote(int(self["run"]), interaction.user.id)
        text = language_of_message(interaction)(PROMOTED, weights=run.weights)
        await _close_decision(interaction, text)


class Discard(Button, template=r"bard:discard:(?P<run>[0-9]+)"):
    """Delete the files of a run. For the bot's owner."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Delete the files, and record that in the message."""
        await acknowledge_owner(interaction, bard, press=True)
        await bard.training.discard(int(self["run"]))
        text = language_of_message(interaction)(DISCARDED, id=self["run"])
        await _close_decision(interaction, text)


def decision_view(run: Run, language: Language) -> discord.ui.View | None:
    """Return the buttons of a finished run; None for a run in another state.

    *Promote* is green only if the new weights are better.
    """
    if run.state != "finished":
        return None
    promote = discord.ButtonStyle.success if is_better(run) else discord.ButtonStyle.secondary
    return view_of(
        Promote(language(PROMOTE), f"bard:promote:{run.id}", promote),
        Discard(language(DISCARD), f"bard:discard:{run.id}", discord.ButtonStyle.danger),
    )


async def _close_decision(interaction: discord.Interaction[Any], text: str) -> None:
    """Append a text to the pressed button's message, and remove its buttons."""
    assert interaction.message is not None  # noqa: S101 - buttons are on messages
    await interaction.edit_original_response(
        content=f"{interaction.message.content}\n{text}",
        view=None,
        allowed_mentions=discord.AllowedMentions.none(),
    )


def describe_progress(active: ActiveRun, language: Language) -> str:
    """Return the status of an active run, within Discord's 2000 characters."""
    run, progress = active.run, active.progress
    lines = [language(TRAINING, id=run.id, plan=_plan(run, language, active.missing))]
    if progress is None:
        lines.append(language(STARTING))
        return "\n".join(lines)
    fraction = progress.step / progress.steps
    bar = ("#" * int(fraction * BAR_CHARS)).ljust(BAR_CHARS, "-")
    lines += [
        # The figures first: a screen reader spells the bar out.
        language(STEP, fraction=fraction, step=progress.step, steps=progress.steps, bar=bar),
        language(LOSSES, train_loss=progress.train_loss, held_out=_held_out(active, language)),
        language(SPEED, characters=progress.characters_per_second),
        language(TIME_LEFT, duration=_duration(progress.seconds_left, language)),
    ]
    if active.sample is not None:
        lines.append(f"{language(LATEST_SAMPLE)}\n{_block(active.sample)}")
    if active.stopped_as is not None:
        lines.append(language(STOPPING))
    return "\n".join(lines)


def describe_end(
    run: Run,
    language: Language,
    samples: tuple[str, str] | None = None,
    *,
    promoted: bool = False,
    missing: str | None = None,
    resumable: bool = False,
) -> str:
    """Return the outcome of a run, within Discord's 2000 characters.

    Args:
        run: The run.
        language: That of the text.
        samples: A text of the weights active until then, and one of the new weights.
        promoted: Whether the new weights were promoted.
        missing: See `ActiveRun.missing`.
        resumable: Whether `/train start` with `resume` continues this run.
    """
    state, plan = language(STATES[run.state]), _plan(run, language, missing)
    lines = [language(ENDED, id=run.id, state=state, plan=plan)]
    if run.steps is not None:
        lines.append(language(LAST_STEP, step=run.step, steps=run.steps))
    match run.state:
        case "failed":
            lines.append(language(CAUSE, problem=escape(one_line(run.problem or "", 500))))
        case "finished":
            lines.append(describe_losses(run, language))
    if resumable:
        lines.append(language(RESUMABLE))
    if samples is not None:
        old, new = samples
        lines += [
            f"{language(OLD_SAMPLE, weights=run.old_weights)}\n{_block(old)}",
            f"{language(NEW_SAMPLE, weights=run.weights)}\n{_block(new)}",
        ]
    if promoted:
        lines.append(language(PROMOTED, weights=run.weights))
    return "\n".join(lines)


def describe_losses(run: Run, language: Language) -> str:
    """Return the held-out loss of a finished run beside that of the weights before.

    It warns of a promotion if the new weights are worse, or if nothing shows that they are better.
    """
    loss = _loss(run.loss, language)
    if run.start_loss is None:
        text = language(LOSS, loss=loss, weights=run.weights)
    else:
        text = language(
            LOSS_BEFORE,
            before=_loss(run.start_loss, language),
            start_weights=run.start_weights,
            after=loss,
            weights=run.weights,
        )
    if run.evaluated_fraction is not None and run.evaluated_fraction < 1:
        text = language(ON_THE_FIRST, loss=text, fraction=run.evaluated_fraction)
    if run.old_loss is None:
        return f"{language(NOT_MEASURED, loss=text)}\n{language(NOT_COMPARED)}"
    better = is_better(run)
    if run.start_loss is None or run.start_weights != run.old_weights:
        text = language(
            LOWER_THAN if better else NOT_LOWER_THAN,
            loss=text,
            old_loss=_loss(run.old_loss, language),
            old_weights=run.old_weights,
        )
    else:
        text = language(LOWER if better else NOT_LOWER, loss=text)
    return text if better else f"{text}\n{language(NOT_BETTER)}"


def _held_out(active: ActiveRun, language: Language) -> str:
    """Return the newest held-out loss of an active run, and the one before its first step."""
    text = _loss(active.held_out_loss, language)
    if active.start_loss is not None:
        before = _loss(active.start_loss, language)
        text = language(BEFORE_THE_RUN, loss=text, before=before)
    if active.evaluated_fraction < 1:
        text = language(ON_A_PART, loss=text, fraction=active.evaluated_fraction)
    return text


def _plan(run: Run, language: Language, missing: str | None = None) -> str:
    text = language(CONFIGURED_CORPUS)
    if run.corpus is not None:
        text = escape(one_line(run.corpus, 80))
    start = language(FROM_NOTHING)
    if run.start_weights is not None:
        start = language(FROM_WEIGHTS, weights=run.start_weights)
    plan = language(PLAN, preset=run.preset, minutes=run.minutes, text=text, start=start)
    if missing is not None:
        plan += f" {language(MISSING, characters=escape(missing))}"
    return plan


def _loss(loss: float | None, language: Language) -> str:
    return language(NO_LOSS) if loss is None else language(A_LOSS, loss=loss)


def _duration(seconds: float, language: Language) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes:
        return language(MINUTES, minutes=minutes, seconds=rest)
    return language(SECONDS, seconds=rest)


def _block(sample: str) -> str:
    """Return a sample as a code block that nothing in it can end or format."""
    lines = sample.replace("`", "\N{MODIFIER LETTER GRAVE ACCENT}").strip().split("\n")
    return "```\n" + "\n".join(lines[:_SAMPLE_LINES]) + "\n```"
