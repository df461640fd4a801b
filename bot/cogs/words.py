"""Listen for forms with the words of a turn: a changed prompt, or the line of a part.

One listener for both, because the library runs each in a task of its own for every interaction.
"""

from typing import Any

import discord

from ..ui.forms import PROMPT_FIELD, PROMPT_FORM, sent_text
from ..ui.interactions import handle
from ..ui.parts import FORM, INPUT
from ..ui.replies import play_edited, reply_to_line
from .base import BardCog, listener


class WordsCog(BardCog, name="noskgpt_bard.words"):
    """Play from the words that people send in forms."""

    @listener
    async def on_interaction(self, interaction: discord.Interaction[Any]) -> None:
        """Play from the words in a form, also in one that was opened before a restart.

        The library keeps open forms in memory, and only for some time.
        """
        if (prompt := sent_text(interaction, PROMPT_FORM, PROMPT_FIELD)) is not None:
            await handle(interaction, lambda bard: play_edited(interaction, bard, *prompt))
        elif (line := sent_text(interaction, FORM, INPUT)) is not None:
            await handle(interaction, lambda bard: reply_to_line(interaction, bard, *line))
