"""Show whose line is awaited, and let that person speak: a field, a button and a form."""

import asyncio
import re
from contextlib import suppress
from typing import Any

import discord

from ..bard import Bard
from ..core.parts import SILENCE_SECONDS
from ..errors import Reason, RejectedError
from ..languages import Language, Text
from ..storage.parts import Part
from ..storage.records import Turn
from .components import Button
from .embeds import SOMEONE, Cue
from .interactions import look_first
from .localisation import language_of
from .names import Viewpoint, name_of, plain

FORM = re.compile(r"bard:speak:form:(?P<turn>[0-9]+)")
"""Custom ids of forms, with the id of the turn that the line follows."""
INPUT = "line"
"""The custom id of the text in the form."""
LINE_LIMIT = 1000
"""Maximum length of a line in characters."""
SPEAK = Text("Speak", "button")
CUE = Text("{part}, your line.", "heading")
CUE_HOLDER = Text(
    "{holder} plays {part}: press *Speak*, or use `/bard`. After {minutes} minutes of silence the "
    "part is free again."
)
FORM_LABEL = Text("Your line", "label")
FORM_HINT = Text("What {part} says. I go on from there.", "hint")
_NAME_SECONDS = 1.0
"""Longest time that a reply waits for the name of the person who is to speak."""


async def cue_of(viewpoint: Viewpoint, bard: Bard, turn: Turn) -> Cue | None:
    """Return the announcement of the line that follows a turn; None if nobody is to speak."""
    if turn.take.cue is None:
        return None
    try:
        held = await bard.scenes.parts.held(turn.place)
    except RejectedError:  # the reply is worth more than its cue
        return None
    for part in held:
        if part.is_named(turn.take.cue):
            name = viewpoint.language(SOMEONE)
            with suppress(TimeoutError):
                async with asyncio.timeout(_NAME_SECONDS):
                    name = await name_of(viewpoint, part.user_id)
            return _cue(part, name, viewpoint.language)
    return None


def _cue(part: Part, holder: str, language: Language) -> Cue:
    text = language(
        CUE_HOLDER,
        holder=plain(holder),
        part=part.name,
        minutes=round(SILENCE_SECONDS / 60),
    )
    return Cue(language(CUE, part=part.name), text)


class Speak(Button, template=r"bard:speak:(?P<turn>[0-9]+)"):
    """Open the form for the line that follows the turn. For the person who plays the part."""

    @staticmethod
    def for_turn(turn: Turn, language: Language) -> "Speak":
        """Return the button below a turn."""
        return Speak(language(SPEAK), f"bard:speak:{turn.id}", discord.ButtonStyle.success)

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Open the form, unless the check rejects the press; the form is checked again."""
        turn_id = int(self["turn"])
        found: list[Part] = []

        async def check() -> None:
            turn = await bard.turns.find(turn_id)
            found.append(await require_speaker(interaction, bard, turn))

        await look_first(check())
        language = language_of(interaction)
        form = LineForm(turn_id, found[0].name if found else language(FORM_LABEL), language)
        await interaction.response.send_modal(form)
        form.stop()  # the cog handles it, also after a restart


class LineForm(discord.ui.Modal):
    """The form for a person's line."""

    def __init__(self, turn_id: int, part: str, language: Language) -> None:
        super().__init__(title=part, custom_id=f"bard:speak:form:{turn_id}")
        text: discord.ui.TextInput[LineForm] = discord.ui.TextInput(
            custom_id=INPUT, style=discord.TextStyle.paragraph, max_length=LINE_LIMIT
        )
        label, hint = language(FORM_LABEL), language(FORM_HINT, part=part)
        self.add_item(discord.ui.Label(text=label, description=hint, component=text))


async def require_speaker(
    interaction: discord.Interaction[Any], bard: Bard, turn: Turn | None
) -> Part:
    """Return the sender's part, if a turn ends where it is to speak.

    Raises:
        RejectedError: See `Parts.require_speaker`; or the turn was deleted.
    """
    if turn is None:
        raise RejectedError(Reason.TURN_FORGOTTEN)
    return await bard.scenes.parts.require_speaker(turn.place, interaction.user.id, turn)
