"""The page of `/bard-settings` with the voices in which new scenes begin."""

from collections.abc import Awaitable, Callable
from typing import Any

import discord

from ..bard import Bard
from ..errors import Reason, RejectedError
from ..storage.records import DEFAULT_VOICE
from ..storage.voices import VoiceStore
from ..ui.access import guild_of, require_manager
from ..ui.interactions import acknowledge_press, handle, place_of

VOICES_PAGE = (
    "**The voices in which new scenes begin in this server**\n{chosen}\n"
    "The first list below is for the server, the second for this channel and its threads. "
    "A scene goes on in the voice of its last reply; the option `voice` of `/bard` changes it. "
    "Direct messages begin in the default voice.\nChanges take effect immediately."
)
IN_SERVER = "In the server: {voice}"
IN_CHANNEL = "<#{channel}>: {voice}"
MORE = "and in {count:,} more channels"
DEFAULT = "the default voice"
DEFAULT_LABEL = "The default voice"
AS_IN_SERVER = "As in the server"
SERVER_HINT, CHANNEL_HINT = "Voice in the server", "Voice in this channel"
_AS_IN_SERVER = "server"
_LISTED_CHANNELS = 15

Show = Callable[[discord.Interaction[Any], Bard], Awaitable[None]]
"""Shows the page in the message of an acknowledged interaction."""


class VoicesView(discord.ui.View):
    """The lists of voices. One instance handles those of all messages.

    Args:
        show: Shows the page after a change.
    """

    def __init__(self, show: Show) -> None:
        super().__init__(timeout=None)
        self._show = show

    @discord.ui.select(
        cls=discord.ui.Select[Any], custom_id="bard:settings:voice", placeholder=SERVER_HINT
    )
    async def server(
        self, interaction: discord.Interaction[Any], select: discord.ui.Select[Any]
    ) -> None:
        """Change the voice in which new scenes of the server begin."""
        await handle(interaction, lambda bard: self._store(interaction, bard, select.values[0], 0))

    @discord.ui.select(
        cls=discord.ui.Select[Any],
        custom_id="bard:settings:voice:channel",
        placeholder=CHANNEL_HINT,
    )
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
    view = VoicesView(show)
    view.stop()  # that of the cog handles the lists
    view.server.options = _options(store, store.default_in(guild_id) or DEFAULT_VOICE)
    chosen = store.default_in(guild_id, channel_id)
    view.channel.options = [
        discord.SelectOption(label=AS_IN_SERVER, value=_AS_IN_SERVER, default=chosen is None),
        *_options(store, chosen),
    ]
    return VOICES_PAGE.format(chosen="\n".join(_chosen(store, guild_id))), view


def _options(store: VoiceStore, chosen: int | None) -> list[discord.SelectOption]:
    voices = {DEFAULT_VOICE: DEFAULT_LABEL} | {voice.id: voice.name for voice in store.listed()}
    return [
        discord.SelectOption(label=name, value=str(voice_id), default=voice_id == chosen)
        for voice_id, name in voices.items()
    ]


def _chosen(store: VoiceStore, guild_id: int) -> list[str]:
    """Return a line for the server, and one for each channel that has a voice of its own."""
    lines = [IN_SERVER.format(voice=_name(store, store.default_in(guild_id)))]
    channels = store.channels_of(guild_id)
    for channel_id, voice_id in channels[:_LISTED_CHANNELS]:
        lines.append(IN_CHANNEL.format(channel=channel_id, voice=_name(store, voice_id)))
    if more := len(channels[_LISTED_CHANNELS:]):
        lines.append(MORE.format(count=more))
    return lines


def _name(store: VoiceStore, voice_id: int | None) -> str:
    voice = store.get(voice_id or DEFAULT_VOICE)
    return DEFAULT if voice is None else voice.name


def _channel_of(interaction: discord.Interaction[Any]) -> int:
    """Return the channel of an interaction; for a thread, the one that it belongs to."""
    place = place_of(interaction)
    return place.parent_id or place.channel_id
