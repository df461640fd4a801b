"""Word the responses to rejected and failed requests."""

import logging
import math
from collections.abc import Iterable, Mapping

import aiohttp
import discord
from discord import app_commands

from ..errors import Reason, RejectedError, is_shortage
from ..languages import Language, Text
from .embeds import escape, one_line
from .permissions import permission_names

REJECTIONS: Mapping[Reason, Text] = {
    Reason.CLOSING: Text(
        "I am called from the stage this very moment. Ask me again when I am back, in a minute."
    ),
    Reason.WRONG_CHANNEL: Text("This is no stage of mine. In this server I play in: {places}"),
    Reason.WRONG_SERVER: Text(
        "I am a private bot: my owner lets me play in certain servers alone, and this is not one "
        "of them. In a direct message to me, `/scene export` and `/scene forget` stay open to you."
    ),
    Reason.BLOCKED: Text(
        "My stage is closed to you, in every server and in direct messages. "
        "`/scene export` and `/scene forget` stay open to you."
    ),
    Reason.ROLE_DENIED: Text(
        "In this server, one of your roles is kept from asking me. "
        "Whoever manages the server can change that in `/bard-settings`: ask them."
    ),
    Reason.ROLE_MISSING: Text(
        "In this server I play for people with one of these roles alone: {roles}. "
        "Whoever manages the server can change that in `/bard-settings`: ask them."
    ),
    Reason.COOLDOWN: Text("Patience, gentle friend: I may speak to you again in {seconds} s."),
    Reason.TOO_MANY_REQUESTS: Text(
        "Two of your requests are with me already, good friend: "
        "let me finish one of them, or stop it, before the next."
    ),
    Reason.QUEUE_FULL: Text(
        "The whole house calls for me at once, and my list is full. Ask me again in a minute."
    ),
    Reason.NO_TEXT: Text(
        "I find no words in that message for me to go on from. "
        "Choose one with text in it, or begin with `/bard`."
    ),
    Reason.NO_SCENE: Text("There is no scene here yet for me to continue. Begin one with `/bard`."),
    Reason.SCENE_OVER: Text(
        "That scene is over. Go on with the one now played here by `/scene continue`, "
        "or begin another with `/bard`."
    ),
    Reason.TURN_FORGOTTEN: Text(
        "That speech has left my memory: it was deleted or forgotten. Begin anew with `/bard`."
    ),
    Reason.CHANNEL_UNKNOWN: Text(
        "I cannot tell which channel this is, so I cannot forget all of it. Delete my messages, or "
        "choose *my words, everywhere*."
    ),
    Reason.NOTHING_TO_READ: Text("There is no scene here to read. Begin one with `/bard`."),
    Reason.NOTHING_STORED: Text("I remember nothing of you."),
    Reason.MESSAGE_STAYS: Text(
        "I have forgotten that speech, but Discord does not let me take its message down. "
        "Whoever moderates this channel may delete it."
    ),
    Reason.UNKNOWN_VOICE: Text("I have no voice of the name {name}. My voices: {known}"),
    Reason.VOICE_DAMAGED: Text(
        "My voice {name} fails me: its weights are missing or damaged. Choose another one with the "
        "option `voice` of `/bard`, such as `default`, and tell the bot's owner."
    ),
    Reason.VOICE_UNREADABLE: Text(
        "My voice {name} is out of my reach at this moment. Ask me again in a minute, or choose "
        "another one with the option `voice` of `/bard`, such as `default`."
    ),
    Reason.PARTS_PRIVATE: Text(
        "Here my replies are for you alone, and a part needs a stage that others see. "
        "Take one in a channel, or in a direct message with me."
    ),
    Reason.PART_NAME: Text(
        "That is no name that I can call a speaker by. Choose one of at most {limit} letters, "
        "with spaces, such as `MERCUTIO` or `LADY ANNE`."
    ),
    Reason.PART_TAKEN: Text(
        "{part} is played by <@{holder}>, and only they speak for {part}. "
        "`/scene parts` shows who plays here; take another part with `/scene join`."
    ),
    Reason.LINE_AWAITED: Text(
        "Hush: it is {part}'s line, and <@{holder}> plays {part}. Wait for it, or go on with "
        "words of your own by `/bard`."
    ),
    Reason.EMPTY_LINE: Text("I can read nothing of that line. Write some words, in plain letters."),
    Reason.PART_GIVEN_UP: Text(
        "Nobody plays {part} now: the part was left, or there was silence for too long. "
        "Take it with `/scene join`."
    ),
    Reason.PART_FREE: Text("Nobody plays that part here. `/scene parts` shows who plays what."),
    Reason.NO_PART: Text("You play no part here. Take one with `/scene join`."),
    Reason.NOT_PART_MODERATOR: Text(
        "To free another's part is for the moderators here, who may manage messages. "
        "Your own you give up by `/scene leave`."
    ),
    Reason.MEMORY_BUSY: Text(
        "Another hand holds my book at this moment, and I cannot write in it. "
        "Ask me again in a minute."
    ),
    Reason.MEMORY_FULL: Text(
        "My book is full, and I play nothing that I cannot write down. "
        "Tell the bot's owner that the disk of its database is full."
    ),
    Reason.MEMORY_LOST: Text(
        "My book is lost or damaged, and I play nothing that I cannot write down. "
        "Tell the bot's owner; the log says what to do."
    ),
    Reason.NOT_REQUESTER: Text(
        "That is for whoever asked for this speech, and for the moderators here. "
        "You may press Continue, or ask me yourself with `/bard`."
    ),
    Reason.NOT_YOUR_WORDS: Text(
        "Only whoever asked for this speech may change the words that began it. "
        "Ask me with your own by `/bard`."
    ),
    Reason.NO_THREAD_HERE: Text(
        "I cannot open a thread here. Ask me in a text or announcement channel of a server that I "
        "have joined: not in a thread, a direct message, a forum or the chat of a voice channel."
    ),
    Reason.THREAD_NOT_ALLOWED_TO_BOT: Text(
        "I may not open a thread here, because I lack these permissions: {permissions}. "
        "Ask whoever manages the server to give them to me in this channel."
    ),
    Reason.THREAD_NOT_ALLOWED_TO_MEMBER: Text(
        "You may not open a thread here, because you lack these permissions: {permissions}. "
        "Ask whoever manages the server."
    ),
    Reason.BUTTONS_RESTRICTED: Text(
        "In this server the buttons are for whoever asked for the speech, and for the moderators. "
        "Ask me yourself with `/bard`."
    ),
    Reason.NOT_MODERATOR: Text(
        "To forget a whole channel is for its moderators, who may manage messages in it. "
        "You may have your own words forgotten: choose them in `/scene forget`."
    ),
    Reason.NOT_MANAGER: Text(
        "These settings need the permission Manage Server. Ask someone who has it."
    ),
    Reason.NO_SUCH_TIME: Text(
        "That is no time of day. Write hours and minutes from 00:00 to 23:59, such as 20:30."
    ),
    Reason.NO_SUCH_ZONE: Text(
        "There is no time zone of that name. Choose one of those that are suggested while you type "
        "a city, such as Europe/London, or write UTC."
    ),
    Reason.TOO_MANY_SCHEDULES: Text(
        "This server has {limit} daily scenes, which is the limit. Remove one with "
        "`/schedule remove` first."
    ),
    Reason.UNKNOWN_SCHEDULE: Text(
        "This server has no daily scene number {number}. `/schedule list` shows all."
    ),
    Reason.CANNOT_SEND: Text(
        "The bot lacks permissions in <#{channel}>: {permissions}. "
        "Give it what is missing, or choose another channel."
    ),
    Reason.SENDER_CANNOT_SEND: Text(
        "You may choose only channels in which you may send messages. "
        "You lack permissions in <#{channel}>: {permissions}."
    ),
    Reason.SERVER_UNAVAILABLE: Text(
        "Discord has an outage of this server at the moment. Try again in a minute."
    ),
    Reason.NOT_OWNER: Text(
        "This command is only for the owner of this bot: the owner or team of its application, or "
        "the people listed in BARD_OWNER_IDS. `/bard` is open to you."
    ),
    Reason.OWN_BLOCK: Text("You own this bot, and cannot block yourself."),
    Reason.LIFT_NOT_SHARED: Text(
        "The block stays: the folder that the bot's processes share cannot be written to at the "
        "moment. The log has the cause. Try again later."
    ),
    Reason.UNKNOWN_SERVER: Text(
        "The bot is not in that server, or no longer. Nothing was changed."
    ),
    Reason.CANNOT_LEAVE: Text(
        "These are the servers of the bot that has loaded the bard, which never makes it leave. "
        "Set BARD_GUILDS to have requests from other servers rejected."
    ),
    Reason.RUN_ACTIVE: Text(
        "A training run is active, and only one can be. `/train status` shows it, "
        "`/train cancel` stops it."
    ),
    Reason.NO_ACTIVE_RUN: Text("No training run is active. `/train start` starts one."),
    Reason.NOTHING_TO_RESUME: Text(
        "There is no unfinished training run to resume. Leave out `resume` to start a new one."
    ),
    Reason.RUN_NOT_STARTED: Text("The training run could not be started: {problem}."),
    Reason.UNKNOWN_RUN: Text("There is no training run {run_id}. `/train history` lists them."),
    Reason.RUN_NOT_FINISHED: Text(
        "Only a finished run can be {action}; the state of run {run_id} is *{state}*."
    ),
    Reason.RUN_IN_USE: Text(
        "Run {run_id} is active or the run of a voice, or `/train rollback` may return to it; "
        "it cannot be discarded."
    ),
    Reason.RUN_PROMOTED_ALREADY: Text("Run {run_id} is active already."),
    Reason.RUN_DAMAGED: Text(
        "The weights of run {run_id} are missing or damaged. The active weights stay."
    ),
    Reason.NOTHING_TO_ROLL_BACK: Text("No run is promoted: the configured weights are active."),
    Reason.NO_EARLIER_WEIGHTS: Text(
        "The earlier weights are missing or damaged. The active weights stay."
    ),
    Reason.WEIGHTS_UNREADABLE: Text(
        "The weights cannot be read at the moment; the log has the cause. Nothing was changed. "
        "Try again later."
    ),
    Reason.NOT_A_TEXT_FILE: Text(
        "A corpus is a text file: .txt, UTF-8, at most 8 MB. This attachment is not."
    ),
    Reason.OPTION_WITH_RESUME: Text(
        "A run resumes with the plan and the text that it started with: leave out `{option}`."
    ),
    Reason.TEXT_DOES_NOT_FIT: Text(
        "The text has characters that the active weights do not have: {missing}. "
        "Choose `nothing` in `start_from`, or replace these characters."
    ),
    Reason.VOICE_NAME: Text(
        "A voice has a name of 1 to 32 letters, digits, hyphens and spaces, which is not "
        "`default`. Spaces and hyphens stand one at a time between the others."
    ),
    Reason.VOICE_NAME_TAKEN: Text(
        "There is a voice of the name {name} already. Nothing was changed."
    ),
    Reason.VOICE_PROMOTED_ALREADY: Text(
        "The voice {name} has the weights of run {run_id} already."
    ),
    Reason.VOICE_REMOVED_ALREADY: Text("That voice is removed already."),
    Reason.TOO_MANY_VOICES: Text(
        "There are {most} voices, and there cannot be more. "
        "`/train voices` with `remove` removes one."
    ),
    Reason.VOICE_OPTIONS: Text(
        "Use `rename` and `to` together, or `remove` alone. Without options the voices are listed."
    ),
}
"""The text of each rejection: in character for players, plain for owners and managers."""

NONE = Text("none")
ERROR_ID = Text("{text} Error id: `{id}`")
STATES: Mapping[str, Text] = {
    "running": Text("running"),
    "finished": Text("finished"),
    "cancelled": Text("cancelled"),
    "interrupted": Text("interrupted"),
    "failed": Text("failed"),
    "discarded": Text("discarded"),
}
"""The states of training runs."""
ACTIONS: Mapping[str, Text] = {
    "promoted": Text("promoted"),
    "discarded": Text("discarded"),
}
"""What can be done with a finished run."""
MENTION_ME = Text(
    "Discord shows me the words of an answer to me only if they name me. Write {me} in it, as in "
    "`@{name} O gentle night`, and I go on from the speech that you answer."
)
"""For a reply to a message of the bot whose text the bot does not get."""
WORDS_ALONE = Text(
    "I go on from words alone, not from files or pictures. Write me some, good friend."
)
HOW_TO_TALK = Text(
    "Give me words to go on from, as in `@{name} O gentle night`, or a speaker, as in "
    "`@{name} ROMEO:`. Without any I continue the scene, and there is none here yet."
)
"""For a message without words, where there is no scene to continue."""
MAY_NOT_SHOW = Text(
    "This stage is barred to me: I lack a permission here. Ask whoever manages the server to let "
    "me view this channel, send messages and embed links in it."
)
"""In place of a reply that the bot may not send as a message."""
LEAVING = Text(
    "I am a private bot: my owner lets me play in certain servers alone, and this is not one of "
    "them. So I leave it now, and delete the scenes and the settings of this server."
)
"""Posted in a server before the bot leaves it."""
LEAVING_DIRECT = Text(
    "I am a private bot: my owner lets me play in certain servers alone, and your server {name} is "
    "not one of them. So I leave it now, and delete its scenes and its settings. "
    "I tell you here because I may write in none of its channels."
)
"""Sent to the owner of a server in which the bot may not write."""
NOT_ALLOWED = Text(
    "This stage is barred to me: I lack a permission here. "
    "Ask whoever manages the server to let me view this channel and send messages in it."
)
NOT_OPEN = Text("That part is not yours to play: this command is not open to you here.")
OUTDATED = Text(
    "My part was rewritten a moment ago, and this command is of the old script. "
    "Reload Discord (Ctrl+R) and try again."
)
BLOCKED = Text(
    "This server's filters for messages do not let my words through. Ask me for others, or ask "
    "whoever manages the server about its AutoMod rules."
)
ARCHIVED = Text("This thread is archived. Open it again, by a message in it, and then ask me.")
TOO_MANY_THREADS = Text(
    "This server has as many open threads as Discord allows. Close one, and then ask me again."
)
LOCKED_OUT = Text("Discord does not let me change that message any more. Ask me anew with `/bard`.")
MESSAGE_GONE = Text("That message is gone, or this channel is. Ask me anew with `/bard`.")
TOO_LARGE = Text("That is larger than Discord lets me send.")
DISCORD_BUSY = Text("Discord asks me to slow down. Try again in a minute.")
DISCORD_DOWN = Text("Discord itself does not answer me as it should. Try again in a minute.")
UNEXPECTED = Text(
    "Alas, the scene broke off: something failed on my side, and it is no fault of yours. "
    "Please try again; if it fails again, give the bot's owner this id."
)
EXHAUSTED = Text(
    "The machine on which I play has run out of memory, or of open files. Try again in a minute; "
    "if it fails again, give the bot's owner this id."
)

# https://discord.com/developers/docs/topics/opcodes-and-status-codes#json
_FORESEEN: Mapping[int, Text] = {
    10003: MESSAGE_GONE,
    10004: MESSAGE_GONE,
    10008: MESSAGE_GONE,
    20009: BLOCKED,
    20016: DISCORD_BUSY,
    30046: LOCKED_OUT,
    40005: TOO_LARGE,
    50005: LOCKED_OUT,
    50083: ARCHIVED,
    160005: ARCHIVED,
    160006: TOO_MANY_THREADS,
    160007: TOO_MANY_THREADS,
    200000: BLOCKED,
    200001: BLOCKED,
    240000: BLOCKED,
}
"""Answers of Discord, by code, that members bring about."""
_PERMISSIONS = frozenset(
    {
        Reason.THREAD_NOT_ALLOWED_TO_BOT,
        Reason.THREAD_NOT_ALLOWED_TO_MEMBER,
        Reason.CANNOT_SEND,
        Reason.SENDER_CANNOT_SEND,
    }
)
"""Reasons with the detail `permissions`."""
_PROXY = 40333
"""Code of a refusal by the proxy before Discord."""
_OUTAGES = frozenset({40004, 40006, 130000})
"""Codes for what Discord has turned off for a while, or is too busy for."""
_UNAUTHORIZED, _TOO_LARGE, _TOO_MANY, _SERVER_ERROR = 401, 413, 429, 500
_NAME_SHOWN = 40


def rejection_text(error: RejectedError, language: Language) -> str:
    """Return the text of a rejection."""
    details = dict(error.details)
    match error.reason:
        case Reason.WRONG_CHANNEL:
            channels = error.details["channels"]
            assert isinstance(channels, frozenset)  # noqa: S101 - see Reason
            details["places"] = ", ".join(f"<#{channel}>" for channel in sorted(channels))
        case Reason.ROLE_MISSING:
            roles = error.details["roles"]
            assert isinstance(roles, frozenset)  # noqa: S101 - see Reason
            details["roles"] = ", ".join(role_names(roles))
        case Reason.UNKNOWN_VOICE:
            known = error.details["known"]
            assert isinstance(known, list)  # noqa: S101 - see Reason
            details["known"] = ", ".join(known) or language(NONE)
            details["name"] = escape(one_line(str(error.details["name"]), _NAME_SHOWN))
        case Reason.COOLDOWN:
            seconds = error.details["seconds"]
            assert isinstance(seconds, float)  # noqa: S101 - see Reason
            details["seconds"] = math.ceil(seconds)
        case Reason.OPTION_WITH_RESUME:
            option = str(error.details["option"])
            details["option"] = language.find(option, "option") or option
        case Reason.RUN_NOT_FINISHED:
            details["state"] = language(STATES[str(error.details["state"])])
            details["action"] = language(ACTIONS[str(error.details["action"])])
        case reason if reason in _PERMISSIONS:
            names = error.details["permissions"]
            assert isinstance(names, list)  # noqa: S101 - see Reason
            details["permissions"] = permission_names(names, language)
    return language(REJECTIONS[error.reason], **details)


def role_names(roles: Iterable[int]) -> list[str]:
    """Return roles as mentions, which ping nobody: every message allows none."""
    return [f"<@&{role}>" for role in sorted(roles)]


def error_response(error: Exception) -> tuple[int, Text]:
    """Return the level at which a failure is logged, and the text of the response to it."""
    match error:
        case discord.HTTPException():
            found = _http_response(error)
        case (
            app_commands.CommandSignatureMismatch()
            | app_commands.CommandNotFound()
            | app_commands.TransformerError()
        ):
            found = logging.WARNING, OUTDATED
        case app_commands.CheckFailure():
            found = logging.WARNING, NOT_OPEN
        case discord.RateLimited():
            found = logging.WARNING, DISCORD_BUSY
        case _ if is_shortage(error):
            found = logging.ERROR, EXHAUSTED
        case aiohttp.ClientError() | TimeoutError() | ConnectionError():
            found = logging.WARNING, DISCORD_DOWN
        case _:
            found = logging.ERROR, UNEXPECTED
    return found


def is_from_proxy(error: discord.HTTPException) -> bool:
    """Return whether a refusal came from a proxy before Discord, such as a page of HTML.

    It says nothing about the request, unless that was too large for it.
    """
    page = not error.code and error.text.lstrip().startswith("<")
    return (page or error.code == _PROXY) and error.status != _TOO_LARGE


def _http_response(error: discord.HTTPException) -> tuple[int, Text]:
    if error.code in _FORESEEN:
        return logging.INFO, _FORESEEN[error.code]
    if error.status == _TOO_LARGE:
        return logging.WARNING, TOO_LARGE
    if error.status == _TOO_MANY:
        return logging.WARNING, DISCORD_BUSY
    down = error.status == _UNAUTHORIZED or error.status >= _SERVER_ERROR
    if down or error.code in _OUTAGES or is_from_proxy(error):
        return logging.WARNING, DISCORD_DOWN
    if isinstance(error, discord.Forbidden):
        return logging.WARNING, NOT_ALLOWED
    return logging.ERROR, UNEXPECTED
