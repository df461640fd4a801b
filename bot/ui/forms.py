"""The form with the words of a turn, and the values of forms that were sent.

A form has a fixed id, because it outlives the process that opened it: the library keeps open forms
in memory alone, and only for some time. A cog that listens to interactions handles it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import discord

from ..languages import Language, Text
from .localisation import language_of

PROMPT_LIMIT = 1000
"""Most characters of a prompt."""
PROMPT_FORM = re.compile(r"bard:edit:form:(?P<turn>[0-9]+)")
"""Custom ids of forms with the prompt of a turn."""
PROMPT_TITLE = Text("Edit the prompt", "title")
PROMPT_LABEL = Text("Prompt", "label")
PROMPT_HINT = Text("I play another take from these words; the takes before it are kept.", "hint")
PROMPT_FIELD = "prompt"
"""Custom id of the field."""


class PromptForm(discord.ui.Modal):
    """A form with the prompt of a turn, to be changed."""

    def __init__(self, turn_id: int, prompt: str, language: Language) -> None:
        super().__init__(title=language(PROMPT_TITLE), custom_id=f"bard:edit:form:{turn_id}")
        text: discord.ui.TextInput[PromptForm] = discord.ui.TextInput(
            custom_id=PROMPT_FIELD,
            style=discord.TextStyle.paragraph,
            default=prompt[:PROMPT_LIMIT] or None,
            min_length=1,
            max_length=PROMPT_LIMIT,
        )
        label, hint = language(PROMPT_LABEL), language(PROMPT_HINT)
        self.add_item(discord.ui.Label(text=label, description=hint, component=text))


async def open_prompt_form(
    interaction: discord.Interaction[Any], turn_id: int, prompt: str
) -> None:
    """Respond to an interaction with the form for the prompt of a turn."""
    form = PromptForm(turn_id, prompt, language_of(interaction))
    await interaction.response.send_modal(form)
    form.stop()  # the listener of the cog handles it


def sent_text(
    interaction: discord.Interaction[Any], form: re.Pattern[str], field: str
) -> tuple[int, str] | None:
    """Return the turn and the text of a form that was sent; None for any other interaction.

    Args:
        interaction: The interaction.
        form: The custom ids of such forms, with a group `turn`.
        field: The custom id of the text.
    """
    data = cast("Mapping[str, Any]", interaction.data or {})
    if interaction.type is not discord.InteractionType.modal_submit:
        return None
    match = form.fullmatch(data.get("custom_id", ""))
    if match is None:
        return None
    return int(match["turn"]), dict(text_values(data["components"])).get(field, "")


def text_values(components: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the custom id and the text of every input of a form that was sent."""
    for component in components:
        if "value" in component:
            yield component["custom_id"], component["value"]
        inner = component.get("components") or [component.get("component")]
        yield from text_values([item for item in inner if item])
