"""Read a message that may be addressed to the bot: its prompt, and the reply that it answers."""

import re
from dataclasses import dataclass
from enum import Enum, auto

import discord

from ..core import transcript
from ..core.settlement import MessageRef
from .embeds import reply_text
from .forms import PROMPT_LIMIT
from .replies import storable, turn_id_of

_MENTION = re.compile(r"<(?P<kind>@[!&]?|#)(?P<id>[0-9]+)>")
_KINDS = (discord.MessageType.default, discord.MessageType.reply)


class Advice(Enum):
    """What a message lacks to be a request; its sender is told so."""

    MENTION = auto()
    """It answers a message of the bot, and its text did not reach the bot."""
    WORDS = auto()
    """It has files, stickers or a poll, and no text."""


@dataclass(frozen=True, slots=True)
class MessageRequest:
    """A message that is addressed to the bot."""

    prompt: str | None
    """None continues the scene."""
    answers: MessageRef | None
    """The reply of the bard that it answers; None if it answers none."""
    advice: Advice | None = None
    """What to tell its sender instead of a reply."""


def read(message: discord.Message, me: discord.abc.User, *, direct: bool) -> MessageRequest | None:
    """Return what a message asks; None if it is not addressed to the bot.

    Discord delivers the text of a message only in direct messages, and where it mentions the bot.
    A mention of everyone or of a role does not count.

    Args:
        message: The message.
        me: The bot's own user.
        direct: Whether it is a direct message to the bot, for which no mention is needed.
    """
    if message.author.bot or message.webhook_id is not None or message.type not in _KINDS:
        return None
    answered = _answered(message, me)
    named = any(m["kind"] != "@&" and m["id"] == str(me.id) for m in _users(message.content))
    # A reply that notifies the bot is among the mentions, too.
    pinged = named or any(user.id == me.id for user in message.mentions)
    if not message.content and answered is not None and not direct:
        return MessageRequest(None, None, Advice.MENTION)
    if not (direct or pinged):
        return None
    prompt = transcript.ending(storable(plain_text(message, me)), PROMPT_LIMIT).strip()
    if not prompt and not (named and not _has_more(message)):
        return MessageRequest(None, None, Advice.WORDS)
    return MessageRequest(prompt or None, None if answered is None else _turn_of(answered))


def plain_text(message: discord.Message, me: discord.abc.User) -> str:
    """Return the text of a message without mentions of the bot, and with the names of others."""
    own = rf"<@!?{me.id}>"
    text = re.sub(rf"\A(?:\s*{own})+[\s,:;]*", "", message.content)  # the address
    text = re.sub(rf",?[ \t]*{own}(?=[\s.,:;!?]|\Z)", "", text)
    text = re.sub(own, " ", text)
    names = {user.id: user.display_name for user in message.mentions}
    roles = {role.id: role.name for role in message.role_mentions}
    channels = {channel.id: getattr(channel, "name", "") for channel in message.channel_mentions}

    def name(match: re.Match[str]) -> str:
        number = int(match["id"])
        if match["kind"] == "#":
            return f"#{channels.get(number, '')}"
        return f"@{(roles if match['kind'] == '@&' else names).get(number, '')}"

    return _MENTION.sub(name, text).strip()


def _users(text: str) -> list[re.Match[str]]:
    return [match for match in _MENTION.finditer(text) if match["kind"] != "#"]


def _has_more(message: discord.Message) -> bool:
    """Return whether a message has something besides text."""
    return bool(message.attachments or message.stickers or message.poll)


def _answered(message: discord.Message, me: discord.abc.User) -> discord.Message | None:
    """Return the message of the bot that a message answers."""
    reference = message.reference
    if message.type is not discord.MessageType.reply or reference is None:
        return None
    answered = reference.resolved
    if not isinstance(answered, discord.Message) or answered.author.id != me.id:
        return None
    return answered


def _turn_of(answered: discord.Message) -> MessageRef | None:
    """Return which turn a message of the bot shows; None if it shows none."""
    turn_id = turn_id_of(answered)
    if turn_id is None:
        return None
    return MessageRef(
        turn_id=turn_id,
        message_id=answered.id,
        audience=0,  # nobody can answer a message that they see alone
        text=reply_text(answered.embeds),
    )
