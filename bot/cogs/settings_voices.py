"""The page of `/bard-settings` with the voices in which new scenes begin."""

from collections.abc import Awaitable, Callable
from typing import Any

import discord

from ..bard import Bard
from ..errors import Reason, RejectedError
from ..languages import Language, Plural, Text
from ..storage.records import DEFAULT_VOICE
from ..storage.voices import VoiceStore
from ..ui.access import guild_of, require_manager
from ..ui.interactions import acknowledge_press, handle, place_of
from ..ui.localisation import language_of

VOICES_PAGE = Text(
    "**The voices in which new scenes begin in this server**\n{chosen}\n"
    "The first list below is for the server, the second for this channel and its threads. "
    "A scene goes on in the voice of its last reply; the option `voice` of `/bard` changes it. "
    "Direct messages begin in the default voice.\nChanges take effect immediately."
)
IN_SERVER = Text("In the server: {voice}")
IN_CHANNEL = "<#{channel}>: {voice}"
MORE = Plural("and in {count:,} more channel", "and in {count:,} more channels")
DEFAULT = Text("the default voice")
DEFAULT_LABEL = Text("The default voice", "entry")
AS_IN_SERVER = Text("As in the server", "entry")
SERVER_HINT = Text("Voice in the server", "placeholder")
CHANNEL_HINT = Text("Voice in this channel", "placeholder")
_AS_IN_SERVER = "server"
_LISTED_CHANNELS = 15

Show = Callable[[discord.Interaction[Any], Bard], Awaitable[None]]
"""Shows the page in the message of an acknowledged interaction."""


class VoicesView(discord.ui.View):
    """The lists of voices. One instance handles those of all messages.

    Args:
        show: Shows the page after a change.
        language: That of the lists.
    """

    def __init__(self, show: Show, language: Language) -> None:
        super().__init__(timeout=None)
        self.server.placeholder = language(SERVER_HINT)
        self.channel.placeholder = language(CHANNEL_HINT)
        self._show = show

    @discord.ui.select(cls=discord.ui.Select[Any], custom_id="bard:settings:voice")
    async def server(
        self, interaction: discord.Interaction[Any], select: discord.ui.Select[Any]
    ) -> None:
        """Change the voice in which new scenes of the server begin."""
        await handle(interaction, lambda bard: self._store(interaction, bard, select.values[0], 0))

    @discord.ui.select(cls=discord.ui.Select[Any], custom_id="bard:settings:voice:channel")
    async def channel(
        self, interaction: discord.Interaction[Any], select: discord.ui.Select[Any]
    ) -> None:
        """Change the voice in which new scenes of this channel begin."""
        channel_id = _channel_of(interaction)
        await handle(
            interaction,
            lambda bard: self._store(interaction, bard, select.values[0], channel_id),
        )

    async def _store(
        self, interaction: discord.Interaction[Any], bard: Bard, value: str, channel_id: int
    ) -> None:
        require_manager(interaction)
        await acknowledge_press(interaction)
        store, chosen = bard.voice_store, None if value == _AS_IN_SERVER else int(value)
        if chosen:
            voice = store.get(chosen)
            if voice is None or voice.removed:
                raise RejectedError(Reason.VOICE_REMOVED_ALREADY)
        if not channel_id:
            chosen = chosen or None  # without a choice, a server has the default voice
        await store.set_default(guild_of(interaction), chosen, channel_id)
        await self._show(interaction, bard)


def voices_page(
    interaction: discord.Interaction[Any], bard: Bard, show: Show
) -> tuple[str, discord.ui.View]:
    """Return the text and the lists of the page."""
    store, guild_id, channel_id = bard.voice_store, guild_of(interaction), _channel_of(interaction)
    language = language_of(interaction)
    view = VoicesView(show, language)
    view.stop()  # that of the cog handles the lists
    view.server.options = _options(store, store.default_in(guild_id) or DEFAULT_VOICE, language)
    chosen = store.default_in(guild_id, channel_id)
    view.channel.options = [
        discord.SelectOption(
            label=language(AS_IN_SERVER), value=_AS_IN_SERVER, default=chosen is None
        ),
        *_options(store, chosen, language),
    ]
    chosen_lines = "\n".join(_chosen(store, guild_id, language))
    return language(VOICES_PAGE, chosen=chosen_lines), view


def _options(
    store: VoiceStore, chosen: int | None, language: Language
) -> list[discord.SelectOption]:
    voices = {DEFAULT_VOICE: language(DEFAULT_LABEL)} | {
        voice.id: voice.name for voice in store.listed()
    }
    return [
        discord.SelectOption(label=name, value=str(voice_id), default=voice_id == chosen)
        for voice_id, name in voices.items()
    ]


def _chosen(store: VoiceStore, guild_id: int, language: Language) -> list[str]:
    """Return a line for the server, and one for each channel that has a voice of its own."""
    default = _name(store, store.default_in(guild_id), language)
    lines = [language(IN_SERVER, voice=default)]
    channels = store.channels_of(guild_id)
    for channel_id, voice_id in channels[:_LISTED_CHANNELS]:
        voice = _name(store, voice_id, language)
        lines.append(IN_CHANNEL.format(channel=channel_id, voice=voice))
    if more := len(channels[_LISTED_CHANNELS:]):
        lines.append(language.plural(MORE, more))
    return lines


def _name(store: VoiceStore, voice_id: int | None, language: Language) -> str:
    voice = store.get(voice_id or DEFAULT_VOICE)
    return language(DEFAULT) if voice is None else voice.name


def _channel_of(interaction: discord.Interaction[Any]) -> int:
    """Return the channel of an interaction; for a thread, the one that it belongs to."""
    place = place_of(interaction)
    return place.parent_id or place.channel_id
