"""Open a thread in which the scene of a channel goes on."""

import logging
from collections.abc import Iterable
from typing import Any

import discord

from ..bard import Bard
from ..core import transcript
from ..errors import Reason, RejectedError
from ..languages import Language, Text
from ..storage.records import Turn
from .embeds import one_line
from .interactions import NETWORK_ERRORS, acknowledge, brief, place_of, respond
from .localisation import language_of
from .permissions import missing
from .replies import accept

log = logging.getLogger(__name__)

NAME_LIMIT = 100
NAME = Text("A scene")
NAME_WITH_SPEAKERS = Text("A scene of {speakers}")
OPENED = Text("Follow me to {thread}.")
OPENED_ANEW = Text(
    "Follow me to {thread}. I could not write in my book where we are, so a new scene begins there."
)
GOES_ON = Text(
    "The scene of {channel} goes on here, after {link}. "
    "Let it go on by `/scene continue`, or give me your words by `/bard`."
)
BEGINS = Text("A scene may begin here: give me your words by `/bard`.")
_LINK = "https://discord.com/channels/{guild}/{channel}/{message}"
_SPEAKERS = 3
"""Number of speakers that the name of a thread names."""

PERMISSIONS = ("create_public_threads", "send_messages_in_threads")
"""The permissions that it takes, by their names in the library."""


async def open_thread(interaction: discord.Interaction[Any], bard: Bard, name: str | None) -> None:
    """Open a thread in response to an interaction that is not acknowledged yet.

    The channel's scene stays as it is. The thread's first scene goes on from the turns that
    everyone in the channel sees; they are not copied, see `bot.storage.continuations`.

    Args:
        interaction: The interaction.
        bard: The services.
        name: The name of the thread; None names the last speakers.

    Raises:
        RejectedError: The request is not accepted, a permission is missing, or there are no
            threads in such a channel.
    """
    with accept(interaction, bard):
        channel = _channel_of(interaction)
        _require_permissions(interaction)
        await acknowledge(interaction, private=True)
        turns = await bard.scenes.last_turns(place_of(interaction))
        kind = discord.ChannelType.public_thread
        if channel.is_news():
            kind = discord.ChannelType.news_thread
        language = language_of(interaction, private=False)  # all see the thread
        thread = await channel.create_thread(
            name=one_line(name or "", NAME_LIMIT) or _name_of(turns, language), type=kind
        )
        opened = OPENED
        if turns:
            try:
                await bard.turns.continuations.begin(thread.id, turns[-1])
            except RejectedError as error:  # the thread stands; the bot may not delete it
                log.warning("The scene does not go on in thread %d: %s", thread.id, error)
                turns, opened = [], OPENED_ANEW
        await _send_opening(thread, turns, language)
        await respond(interaction, language_of(interaction)(opened, thread=thread.mention))


def _channel_of(interaction: discord.Interaction[Any]) -> discord.TextChannel:
    """Return the text or announcement channel of an interaction, in a server of the bot."""
    channel = interaction.channel
    # In a server that the bot has not joined, a person may have it for themselves.
    joined = interaction.is_guild_integration() or not interaction.is_user_integration()
    if not isinstance(channel, discord.TextChannel) or not joined:
        raise RejectedError(Reason.NO_THREAD_HERE)
    return channel


def _require_permissions(interaction: discord.Interaction[Any]) -> None:
    for permissions, reason in (
        (interaction.app_permissions, Reason.THREAD_NOT_ALLOWED_TO_BOT),
        (interaction.permissions, Reason.THREAD_NOT_ALLOWED_TO_MEMBER),
    ):
        lacking = [] if permissions.administrator else missing(permissions, *PERMISSIONS)
        if lacking:
            raise RejectedError(reason, permissions=lacking)


def _name_of(turns: Iterable[Turn], language: Language) -> str:
    """Return the name of a thread for a scene, with those who spoke last in it."""
    speakers: dict[str, None] = {}
    for turn in turns:
        before = ""
        for line in [*(turn.prompt or "").strip().split("\n"), *turn.reply.split("\n")]:
            if transcript.is_speaker(line, before):
                speaker = line.removesuffix(":")
                speakers.pop(speaker, None)
                speakers[speaker] = None
            before = line
    if not speakers:
        return language(NAME)
    last = ", ".join(list(speakers)[-_SPEAKERS:])
    return one_line(language(NAME_WITH_SPEAKERS, speakers=last), NAME_LIMIT)


async def _send_opening(thread: discord.Thread, turns: list[Turn], language: Language) -> None:
    """Say in a new thread what can be done there; the thread works without that message, too."""
    text = language(BEGINS)
    if turns:
        last = turns[-1]
        channel_id = last.place.channel_id
        link = _LINK.format(guild=thread.guild.id, channel=channel_id, message=last.message_id)
        text = language(GOES_ON, channel=f"<#{channel_id}>", link=link)
    try:
        await thread.send(text, allowed_mentions=discord.AllowedMentions.none())
    except (discord.HTTPException, *NETWORK_ERRORS) as error:
        log.warning("Could not send the first message of a thread: %s", brief(error))
