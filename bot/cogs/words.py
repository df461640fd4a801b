"""Listen for forms with the changed words of a turn."""

from typing import Any

import discord

from ..ui.forms import PROMPT_FIELD, PROMPT_FORM, sent_text
from ..ui.interactions import handle
from ..ui.replies import play_edited
from .base import BardCog, listener


class WordsCog(BardCog, name="noskgpt_bard.words"):
    """Play the takes for which people have changed the prompt."""

    @listener
    async def on_interaction(self, interaction: discord.Interaction[Any]) -> None:
        """Play a take from the prompt of a form, also of one that was opened before a restart."""
        if (sent := sent_text(interaction, PROMPT_FORM, PROMPT_FIELD)) is not None:
            await handle(interaction, lambda bard: play_edited(interaction, bard, *sent))
