"""Show whose line is awaited, and let that person speak: a field, a button and a form."""

import asyncio
import re
from contextlib import suppress
from typing import Any

import discord

from ..bard import Bard
from ..core.parts import SILENCE_SECONDS
from ..errors import Reason, RejectedError
from ..storage.parts import Part
from ..storage.records import Turn
from .components import Button
from .embeds import SOMEONE, Cue
from .interactions import look_first
from .names import Viewpoint, name_of, plain

FORM = re.compile(r"bard:speak:form:(?P<turn>[0-9]+)")
"""Custom ids of forms, with the id of the turn that the line follows."""
INPUT = "line"
"""The custom id of the text in the form."""
LINE_LIMIT = 1000
"""Maximum length of a line in characters."""
SPEAK = "Speak"
CUE = "{part}, your line."
CUE_HOLDER = (
    "{holder} plays {part}: press *Speak*, or use `/bard`. After {minutes} minutes of silence the "
    "part is free again."
)
FORM_TITLE = "{part}"
FORM_LABEL = "Your line"
FORM_HINT = "What {part} says. I go on from there."
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
            name = SOMEONE
            with suppress(TimeoutError):
                async with asyncio.timeout(_NAME_SECONDS):
                    name = await name_of(viewpoint, part.user_id)
            return _cue(part, name)
    return None


def _cue(part: Part, holder: str) -> Cue:
    text = CUE_HOLDER.format(
        holder=plain(holder),
        part=part.name,
        minutes=round(SILENCE_SECONDS / 60),
    )
    return Cue(CUE.format(part=part.name), text)


class Speak(Button, template=r"bard:speak:(?P<turn>[0-9]+)"):
    """Open the form for the line that follows the turn. For the person who plays the part."""

    @staticmethod
    def for_turn(turn: Turn) -> "Speak":
        """Return the button below a turn."""
        return Speak(SPEAK, f"bard:speak:{turn.id}", discord.ButtonStyle.success)

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Open the form, unless the check rejects the press; the form is checked again."""
        turn_id = int(self["turn"])
        found: list[Part] = []

        async def check() -> None:
            turn = await bard.turns.find(turn_id)
            found.append(await require_speaker(interaction, bard, turn))

        await look_first(check())
        form = LineForm(turn_id, found[0].name if found else FORM_LABEL)
        await interaction.response.send_modal(form)
        form.stop()  # the cog handles it, also after a restart


class LineForm(discord.ui.Modal):
    """The form for a person's line."""

    def __init__(self, turn_id: int, part: str) -> None:
        super().__init__(title=FORM_TITLE.format(part=part), custom_id=f"bard:speak:form:{turn_id}")
        text: discord.ui.TextInput[LineForm] = discord.ui.TextInput(
            custom_id=INPUT, style=discord.TextStyle.paragraph, max_length=LINE_LIMIT
        )
        hint = FORM_HINT.format(part=part)
        self.add_item(discord.ui.Label(text=FORM_LABEL, description=hint, component=text))


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
