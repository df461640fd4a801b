"""Suggest voices, and list, rename and remove them."""

import logging
from typing import Any

import discord
from discord import app_commands

from ..bard import Bard
from ..errors import RejectedError
from ..storage.voices import Voice
from .access import require_person
from .components import Button, view_of
from .embeds import COLOUR, escape, one_line
from .interactions import bard_of, edit_response
from .owners import acknowledge_owner

log = logging.getLogger(__name__)

VOICE_LIMIT = 100
"""Longest text of an option that names a voice; an unknown name is answered with the known ones."""
_NAMED_PLACES = 10
_MEGABYTE = 1_000_000

PROMOTED_AS = (
    "The voice {name} speaks with the weights {weights} of run {run_id}. "
    "`/bard` asks for it with the option `voice`."
)
REPLACED = (
    "The voice {name} speaks with the weights {weights} of run {run_id} from the next request on. "
    "Until now it had those of run {before}."
)
NO_VOICES = (
    "There are no voices beside the default one. `/train promote` with the option `as` adds one."
)
VOICES = "**Voices beside the default one**\n{lines}"
VOICE = (
    "**{name}**: run {run_id}, {size}, held-out loss {loss}, since <t:{time:.0f}:d>, "
    "default in servers: {servers:,}, in channels: {channels:,}"
)
FILE_MISSING = "**no file**"
NOT_KNOWN = "not known"
RENAMED = "The voice {before} has the name {name} now."
ASK_REMOVE = (
    "Remove the voice {name}? Its replies stay. Its scenes go on in the voice of their channel or "
    "server, else in the default one. New scenes begin in it here: {places}."
)
NOWHERE = "nowhere"
AND_MORE = "{places} and {more:,} more"
REMOVED = (
    "Removed: the voice {name}. `/train promote` with `as` brings it back as long as the files of "
    "run {run_id} are kept."
)
KEPT = "All voices stay."


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
        text = KEPT
        if voice_id := int(self["voice"]):
            voice = await bard.voice_promotions.remove(voice_id)
            text = REMOVED.format(name=voice.name, run_id=voice.run_id)
        await edit_response(interaction, content=text)


async def show_voices(interaction: discord.Interaction[Any], bard: Bard) -> None:
    """Respond to an acknowledged interaction with the list of the voices."""
    voices = bard.voice_store.listed()
    if not voices:
        await edit_response(interaction, content=NO_VOICES)
        return
    sizes = await bard.voice_promotions.sizes()
    lines = "\n".join(_line(bard, voice, sizes.get(voice.id)) for voice in voices)
    card = discord.Embed(description=VOICES.format(lines=lines), colour=COLOUR)
    await edit_response(interaction, embeds=[card])


def _line(bard: Bard, voice: Voice, size: int | None) -> str:
    places = bard.voice_store.places_of(voice.id)
    channels = sum(1 for _guild, channel in places if channel)
    return VOICE.format(
        name=voice.name,
        run_id=voice.run_id,
        size=FILE_MISSING if size is None else f"{size / _MEGABYTE:.1f} MB",
        loss=NOT_KNOWN if voice.loss is None else f"{voice.loss:.3f}",
        time=voice.promoted_at,
        servers=len(places) - channels,
        channels=channels,
    )


async def ask_to_remove(interaction: discord.Interaction[Any], bard: Bard, voice: Voice) -> None:
    """Respond to an acknowledged interaction with the question whether to remove a voice."""
    view = view_of(
        ConfirmRemove("Remove", f"bard:voice:remove:{voice.id}", discord.ButtonStyle.danger),
        ConfirmRemove("Keep", "bard:voice:remove:0"),
    )
    places = bard.voice_store.places_of(voice.id)
    named = ", ".join(_place(interaction, *place) for place in places[:_NAMED_PLACES]) or NOWHERE
    if more := len(places[_NAMED_PLACES:]):
        named = AND_MORE.format(places=named, more=more)
    question = ASK_REMOVE.format(name=voice.name, places=named)
    await edit_response(interaction, content=question, view=view)


def _place(interaction: discord.Interaction[Any], guild_id: int, channel_id: int) -> str:
    """Return a channel as a mention, or the name of a server as far as it is known."""
    if channel_id:
        return f"<#{channel_id}>"
    guild = interaction.client.get_guild(guild_id)
    return f"`{guild_id}`" if guild is None else escape(one_line(guild.name, 60))
