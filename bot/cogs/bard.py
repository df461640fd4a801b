"""`/bard`: ask the bard for a reply; the same from the menu of a message."""

import logging
from typing import Any

import discord
from discord import app_commands

from noskgpt.inference.generator import MAX_SEED

from ..bard import Bard
from ..config import MAX_TEMPERATURE, MIN_TEMPERATURE
from ..core import transcript
from ..errors import Reason, RejectedError
from ..languages import Plural
from ..ui.access import require_person
from ..ui.commands import EVERYWHERE, FOR_ALL, Command, command, handled
from ..ui.embeds import one_line, reply_text
from ..ui.forms import PROMPT_LIMIT
from ..ui.interactions import COG_NAME, bard_of, place_of
from ..ui.localisation import language_of
from ..ui.replies import reply_to
from ..ui.voices import VOICE_LIMIT, suggest_voices
from .base import BardCog

log = logging.getLogger(__name__)

MENU = "Continue as Shakespeare"
SPEECHES = Plural("({count:,} speech)", "({count:,} speeches)")

# https://discord.com/developers/docs/interactions/application-commands#application-command-object
_CHOICES = 25
_CHOICE_LIMIT = 100


class AskCog(BardCog, name=COG_NAME):
    """The command `/bard`, whose largest length is a setting, and the entry in message menus."""

    def __init__(self, client: Any, bard: Bard) -> None:  # noqa: ANN401 - see BardCog
        super().__init__(client, bard)
        self.commands = ask_commands(bard.settings.max_chars)

    async def cog_load(self) -> None:
        """Add the commands to the client's tree."""
        for made in self.commands:
            self.client.tree.add_command(made)

    async def cog_unload(self) -> None:
        """Remove the commands from the client's tree."""
        for made in self.commands:
            kind = made.type if isinstance(made, app_commands.ContextMenu) else None
            self.client.tree.remove_command(
                made.name, type=kind or discord.AppCommandType.chat_input
            )


def ask_commands(max_chars: int) -> tuple[Command, app_commands.ContextMenu]:
    """Return `/bard`, with the longest reply that it accepts, and the entry in message menus."""
    return (
        _bard_command(max_chars),
        app_commands.ContextMenu(
            name=MENU,
            callback=handled(_continue_message),
            allowed_contexts=EVERYWHERE,
            allowed_installs=FOR_ALL,
        ),
    )


async def _continue_message(
    interaction: discord.Interaction[Any], message: discord.Message
) -> None:
    text = message.clean_content
    if message.author == interaction.client.user:
        text = reply_text(message.embeds) or text
    if not text.strip():
        raise RejectedError(Reason.NO_TEXT)
    await reply_to(
        interaction,
        bard_of(interaction),
        transcript.ending(text, PROMPT_LIMIT),
        quoted=True,
        private=message.flags.ephemeral,  # others must not read it in the headline of the reply
    )


async def _suggest_prompts(
    interaction: discord.Interaction[Any], typed: str
) -> list[app_commands.Choice[str]]:
    try:
        bard = bard_of(interaction)
        require_person(interaction, bard)
        place = await bard.scenes.read_by(place_of(interaction), interaction.user.id, look=False)
        found = await bard.suggestions.find(place, typed, _CHOICES)
    except RejectedError:
        return []  # not for this person, the bard shuts down, or its database cannot be used
    except Exception:
        log.exception("Could not suggest prompts")
        return []
    choices, language = [], language_of(interaction)
    for suggestion in found:
        speeches = suggestion.speeches
        count = f" {language.plural(SPEECHES, speeches)}" if speeches else ""
        name = one_line(suggestion.prompt, _CHOICE_LIMIT - len(count))
        value = suggestion.prompt[:_CHOICE_LIMIT]
        if name and value.strip():
            choices.append(app_commands.Choice(name=name + count, value=value))
    return choices


def _bard_command(max_reply_chars: int) -> Command:
    @command(name="bard", description="Ask the bard to go on from your words.")
    @app_commands.autocomplete(prompt=_suggest_prompts, voice=suggest_voices)
    @app_commands.describe(
        prompt="A speaker, such as ROMEO:, or the beginning of a speech",
        max_chars="How long the reply may be, in characters",
        temperature="Low is careful, high is wild",
        seed="The same seed in the same scene gives the same reply",
        fresh="Start a new scene instead of continuing the last",
        private="Answer me alone, in a scene of my own",
        voice="Whose voice replies; the scene goes on in it",
    )
    async def bard(
        interaction: discord.Interaction[Any],
        prompt: app_commands.Range[str, 1, PROMPT_LIMIT],
        max_chars: app_commands.Range[int, 1, max_reply_chars] | None = None,
        temperature: app_commands.Range[float, MIN_TEMPERATURE, MAX_TEMPERATURE] | None = None,
        seed: app_commands.Range[int, 0, MAX_SEED] | None = None,
        fresh: bool = False,  # noqa: FBT001, FBT002 - an option of the command
        private: bool = False,  # noqa: FBT001, FBT002 - an option of the command
        voice: app_commands.Range[str, 1, VOICE_LIMIT] | None = None,
    ) -> None:
        await reply_to(
            interaction,
            bard_of(interaction),
            prompt,
            max_chars=max_chars,
            temperature=temperature,
            seed=seed,
            fresh=fresh,
            private=private,
            voice=voice,
        )

    return bard
