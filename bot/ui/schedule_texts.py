"""Word the answers about daily scenes."""

from collections.abc import Iterable, Mapping

import discord

from ..storage.schedules import PAUSE_AFTER, PER_GUILD, Outcome, Schedule
from .embeds import COLOUR, DESCRIPTION_LIMIT, escape, one_line

HEADLINE = "The daily scene"
ADDED = (
    "Number {number}: a new scene each day at {time} ({zone}) in <#{channel}>, the first one "
    "<t:{due}:F>. `/schedule list` shows all, `/schedule remove` ends one."
)
REMOVED = "Number {number} is removed: no more daily scenes at {time} ({zone}) in <#{channel}>."
NONE = "This server has no daily scenes. `/schedule daily` adds one."
TITLE = "Daily scenes: {count} of {limit}"
NEXT = "**{number}** · {time} ({zone}) in <#{channel}> · next <t:{due}:R>\n{prompt}\n{last}"
PAUSED = (
    "**{number}** · {time} ({zone}) in <#{channel}> · paused after {failures} failures in a row: "
    "remove it, and add it again once its cause is gone\n{prompt}\n{last}"
)
SUGGESTION = "{number} · {time} {zone}: {prompt}"
NO_LAST = "not played yet"
LAST = "last {day}: {outcome}"
OUTCOMES: Mapping[Outcome, str] = {
    "started": "broke off, because the bot ended or is at it now",
    "played": "played",
    "uncertain": "Discord did not confirm that it was shown",
    "away": "skipped, the bot was away",
    "busy": "skipped, it could not begin within an hour",
    "gone": "not played, the channel is gone",
    "forbidden": "not played, the bot may not send messages with embeds there",
    "not_allowed": "not played, `/bard-settings` does not allow that channel",
    "blocked": "not played, the bot's owner has blocked the person who added it",
    "failed": "not played, an error; the bot's log has it",
}
NOT_PLAYED = (
    "The daily scene number {number}, at {time} ({zone}) in <#{channel}> of the server {server}, "
    "could not be played. {problem} It is tried again each day, and paused after {limit} failures "
    "in a row. You are told this once; `/schedule list` in that server shows how it goes on."
)
PROBLEMS: Mapping[Outcome, str] = {
    "gone": "That channel is gone. `/schedule remove` ends the schedule.",
    "forbidden": (
        "The bot needs the permissions View Channel, Send Messages (in threads: Send Messages in "
        "Threads) and Embed Links there."
    ),
    "not_allowed": "`/bard-settings` does not allow that channel.",
    "blocked": "The owner of the bot has blocked you.",
    "failed": "An error occurred; the bot's owner finds it in the log.",
}
CHANNEL_DELETED = (
    "The daily scene number {number}, at {time} ({zone}) in the server {server}, is over, because "
    "its channel was deleted. `/schedule daily` adds one in another channel."
)
A_SERVER = "where you added it"
"""Stands for the name of a server that the bot does not see."""

_PROMPT_SHOWN = 60
_PROMPT_SUGGESTED = 40


def added(schedule: Schedule) -> str:
    """Return the answer to a schedule that was added."""
    return ADDED.format_map(_details(schedule))


def suggestion(schedule: Schedule) -> str:
    """Return the name of a schedule in the suggestions for an option, at most 100 characters."""
    details = _details(schedule) | {"prompt": one_line(schedule.prompt, _PROMPT_SUGGESTED)}
    return SUGGESTION.format_map(details)


def removed(schedule: Schedule) -> str:
    """Return the answer to a schedule that was removed."""
    return REMOVED.format_map(_details(schedule))


def overview(schedules: Iterable[Schedule]) -> discord.Embed:
    """Return the embed that lists the schedules of a server."""
    entries = [_entry(schedule) for schedule in schedules]
    embed = discord.Embed(description="\n\n".join(entries)[:DESCRIPTION_LIMIT], colour=COLOUR)
    embed.title = TITLE.format(count=len(entries), limit=PER_GUILD)
    return embed


def _entry(schedule: Schedule) -> str:
    last = NO_LAST
    if schedule.outcome is not None:
        last = LAST.format(day=schedule.last_day, outcome=OUTCOMES[schedule.outcome])
    text = PAUSED if schedule.paused else NEXT
    return text.format_map(_details(schedule) | {"last": last})


def not_played(schedule: Schedule, outcome: Outcome, server: str | None) -> str:
    """Return the notice of a run that failed.

    Args:
        schedule: The schedule.
        outcome: One of `FAILURES`.
        server: The name of the server; None if it is not known.
    """
    details = {"server": _server(server), "problem": PROBLEMS[outcome], "limit": PAUSE_AFTER}
    return NOT_PLAYED.format_map(_details(schedule) | details)


def channel_deleted(schedule: Schedule, server: str | None) -> str:
    """Return the notice of a schedule that ends with its channel."""
    return CHANNEL_DELETED.format_map(_details(schedule) | {"server": _server(server)})


def _server(name: str | None) -> str:
    return A_SERVER if name is None else f"*{escape(one_line(name, 100))}*"


def _details(schedule: Schedule) -> dict[str, object]:
    return {
        "number": schedule.id,
        "time": f"{schedule.time:%H:%M}",
        "zone": schedule.zone,
        "channel": schedule.channel_id,
        "due": int(schedule.due_at),
        "prompt": escape(one_line(schedule.prompt, _PROMPT_SHOWN)),
        "failures": schedule.failures,
    }
