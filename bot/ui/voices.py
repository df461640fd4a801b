"""Suggest voices, and list, rename and remove them."""

import logging
from typing import Any

import discord
from discord import app_commands

from ..bard import Bard
from ..errors import RejectedError
from ..languages import Language, Text
from ..storage.voices import Voice
from .access import require_person
from .components import Button, view_of
from .embeds import COLOUR, escape, one_line
from .interactions import bard_of, edit_response
from .localisation import language_of
from .owners import acknowledge_owner

log = logging.getLogger(__name__)

VOICE_LIMIT = 100
"""Longest text of an option that names a voice; an unknown name is answered with the known ones."""
_NAMED_PLACES = 10
_MEGABYTE = 1_000_000

PROMOTED_AS = Text(
    "The voice {name} speaks with the weights {weights} of run {run_id}. "
    "`/bard` asks for it with the option `voice`."
)
REPLACED = Text(
    "The voice {name} speaks with the weights {weights} of run {run_id} from the next request on. "
    "Until now it had those of run {before}."
)
NO_VOICES = Text(
    "There are no voices beside the default one. `/train promote` with the option `as` adds one."
)
VOICES = Text("**Voices beside the default one**\n{lines}")
VOICE = Text(
    "**{name}**: run {run_id}, {size}, held-out loss {loss}, since <t:{time:.0f}:d>, "
    "default in servers: {servers:,}, in channels: {channels:,}"
)
FILE_MISSING = Text("**no file**")
SIZE = Text("{megabytes:.1f} MB")
LOSS = Text("{loss:.3f}")
NOT_KNOWN = Text("not known")
RENAMED = Text("The voice {before} has the name {name} now.")
ASK_REMOVE = Text(
    "Remove the voice {name}? Its replies stay. Its scenes go on in the voice of their channel or "
    "server, else in the default one. New scenes begin in it here: {places}."
)
NOWHERE = Text("nowhere")
AND_MORE = Text("{places} and {more:,} more")
REMOVED = Text(
    "Removed: the voice {name}. `/train promote` with `as` brings it back as long as the files of "
    "run {run_id} are kept."
)
KEPT = Text("All voices stay.")
REMOVE = Text("Remove", "button")
KEEP = Text("Keep", "button")


async def suggest_voices(
    interaction: discord.Interaction[Any], typed: str
) -> list[app_commands.Choice[str]]:
    """Return the voices whose names contain a typed text; none if there is only the default one."""
    try:
        bard = bard_of(interaction)
        require_person(interaction, bard)
    except RejectedError:
        return []
    if not bard.voice_store.listed():
        return []
    return [app_commands.Choice(name=name, value=name) for name in bard.voices.names(typed)]


async def suggest_own_voices(
    interaction: discord.Interaction[Any], typed: str
) -> list[app_commands.Choice[str]]:
    """Return the voices without the default one, which cannot be renamed or removed."""
    wanted = typed.strip().casefold()
    try:
        voices = bard_of(interaction).voice_store.listed()
    except RejectedError:
        return []
    return [
        app_commands.Choice(name=voice.name, value=voice.name)
        for voice in voices
        if wanted in voice.name.casefold()
    ]


class ConfirmRemove(Button, template=r"bard:voice:remove:(?P<voice>[0-9]+)"):
    """Remove a voice, or keep all if the id is 0. For the bot's owner."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Remove it, and replace the question by the outcome."""
        await acknowledge_owner(interaction, bard, press=True)
        language = language_of(interaction)
        text = language(KEPT)
        if voice_id := int(self["voice"]):
            voice = await bard.voice_promotions.remove(voice_id)
            text = language(REMOVED, name=voice.name, run_id=voice.run_id)
        await edit_response(interaction, content=text)


async def show_voices(interaction: discord.Interaction[Any], bard: Bard) -> None:
    """Respond to an acknowledged interaction with the list of the voices."""
    voices, language = bard.voice_store.listed(), language_of(interaction)
    if not voices:
        await edit_response(interaction, content=language(NO_VOICES))
        return
    sizes = await bard.voice_promotions.sizes()
    lines = "\n".join(_line(bard, voice, sizes.get(voice.id), language) for voice in voices)
    card = discord.Embed(description=language(VOICES, lines=lines), colour=COLOUR)
    await edit_response(interaction, embeds=[card])


def _line(bard: Bard, voice: Voice, size: int | None, language: Language) -> str:
    places = bard.voice_store.places_of(voice.id)
    channels = sum(1 for _guild, channel in places if channel)
    shown = None if size is None else size / _MEGABYTE
    return language(
        VOICE,
        name=voice.name,
        run_id=voice.run_id,
        size=language(FILE_MISSING) if shown is None else language(SIZE, megabytes=shown),
        loss=language(NOT_KNOWN) if voice.loss is None else language(LOSS, loss=voice.loss),
        time=voice.promoted_at,
        servers=len(places) - channels,
        channels=channels,
    )


async def ask_to_remove(interaction: discord.Interaction[Any], bard: Bard, voice: Voice) -> None:
    """Respond to an acknowledged interaction with the question whether to remove a voice."""
    language, style = language_of(interaction), discord.ButtonStyle
    view = view_of(
        ConfirmRemove(language(REMOVE), f"bard:voice:remove:{voice.id}", style.danger),
        ConfirmRemove(language(KEEP), "bard:voice:remove:0"),
    )
    places = bard.voice_store.places_of(voice.id)
    named = ", ".join(_place(interaction, *place) for place in places[:_NAMED_PLACES])
    named = named or language(NOWHERE)
    if more := len(places[_NAMED_PLACES:]):
        named = language(AND_MORE, places=named, more=more)
    question = language(ASK_REMOVE, name=voice.name, places=named)
    await edit_response(interaction, content=question, view=view)


def _place(interaction: discord.Interaction[Any], guild_id: int, channel_id: int) -> str:
    """Return a channel as a mention, or the name of a server as far as it is known."""
    if channel_id:
        return f"<#{channel_id}>"
    guild = interaction.client.get_guild(guild_id)
    return f"`{guild_id}`" if guild is None else escape(one_line(guild.name, 60))
