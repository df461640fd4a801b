"""Look at the message of a turn: which reply it shows, if it shows one."""

import logging

import discord

from ..core.settlement import Look, Sighting
from ..core.transcript import shows_same
from ..storage.records import Turn
from .embeds import reply_text
from .hosts import Host
from .interactions import NETWORK_ERRORS, UNKNOWN_MESSAGE, brief
from .localisation import language_in
from .queue_status import clear_away
from .replies import turn_id_of
from .responses import is_from_proxy

log = logging.getLogger(__name__)

_REFUSALS = frozenset({401, 403, 404})
"""Status codes of a token that has expired, and of a place that the bot does not see."""
_CLOSED = 403
"""Status code of a place that the bot does not see now: it may be let in again."""
_SEARCHED = 100
"""Number of messages among which one is looked for whose id is not known."""


def looks_of(client: Host) -> Look:
    """Return a function that looks at the message of a turn."""

    async def look(turn: Turn) -> Sighting | None:
        again = client.application_id is None  # before the login
        closed = False
        for find in (_find_by_token, _find_in_channel):
            try:
                message = await find(client, turn)
            except discord.HTTPException as error:
                # Another code says that the bot may not look, and nothing about the message. So
                # may this one if the token is not that of the request which the message answers.
                own = find is _find_in_channel or turn.shown is None
                if error.code == UNKNOWN_MESSAGE and own:
                    return Sighting(None)
                again |= error.status not in _REFUSALS or is_from_proxy(error)
                closed |= find is _find_in_channel and error.status == _CLOSED
            except (discord.RateLimited, *NETWORK_ERRORS):
                again = True
            else:
                if message is not None:
                    return await _sighting(client, message, turn)
        return None if again else Sighting(None, readable=False, closed=closed)

    return look


async def _sighting(client: Host, message: discord.Message, turn: Turn) -> Sighting:
    """Return which reply a message shows; clear away the status of a turn that it does not show."""
    if turn_id_of(message) == turn.id:
        found = message.id if turn.message_id is None else None
        return Sighting(reply_text(message.embeds), message_id=found)
    try:
        guild_id = turn.place.guild_id
        guild = None if guild_id is None else client.get_guild(guild_id)
        await clear_away(message, language_in(guild))
    except (discord.HTTPException, *NETWORK_ERRORS) as error:
        log.warning("Could not clear away the status of a request: %s", brief(error))
    return Sighting(None)


async def _find_by_token(client: Host, turn: Turn) -> discord.Message | None:
    """Return a turn's message by the token of its interaction, which is valid for 15 minutes.

    This works where the bot is no member, and for messages that only one person sees.
    """
    if turn.token is None or turn.message_id is None or client.application_id is None:
        return None
    webhook = discord.Webhook.partial(client.application_id, turn.token, client=client)
    return await webhook.fetch_message(turn.message_id)


async def _find_in_channel(client: Host, turn: Turn) -> discord.Message | None:
    """Return a turn's message as the bot sees it in its channel."""
    place = turn.place
    if place.audience:
        return None
    channel = client.get_partial_messageable(place.channel_id, guild_id=place.guild_id)
    if turn.message_id is not None:
        return await channel.fetch_message(turn.message_id)
    async for message in channel.history(limit=_SEARCHED):
        own = client.user is not None and message.author.id == client.user.id
        # Another database may have had a turn with the same number.
        if (
            own
            and turn_id_of(message) == turn.id
            and shows_same(reply_text(message.embeds), turn.reply)
        ):
            return message
    return None
