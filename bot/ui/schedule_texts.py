"""Word the answers about daily scenes."""

from collections.abc import Iterable, Mapping

import discord

from ..languages import Language, Text
from ..storage.schedules import PAUSE_AFTER, PER_GUILD, Outcome, Schedule
from .embeds import COLOUR, DESCRIPTION_LIMIT, escape, one_line

HEADLINE = Text("The daily scene", "author")
ADDED = Text(
    "Number {number}: a new scene each day at {time} ({zone}) in <#{channel}>, the first one "
    "<t:{due}:F>. `/schedule list` shows all, `/schedule remove` ends one."
)
REMOVED = Text(
    "Number {number} is removed: no more daily scenes at {time} ({zone}) in <#{channel}>."
)
NONE = Text("This server has no daily scenes. `/schedule daily` adds one.")
TITLE = Text("Daily scenes: {count} of {limit}", "heading")
NEXT = Text("**{number}** · {time} ({zone}) in <#{channel}> · next <t:{due}:R>\n{prompt}\n{last}")
PAUSED = Text(
    "**{number}** · {time} ({zone}) in <#{channel}> · paused after {failures} failures in a row: "
    "remove it, and add it again once its cause is gone\n{prompt}\n{last}"
)
SUGGESTION = "{number} · {time} {zone}: {prompt}"
NO_LAST = Text("not played yet")
LAST = Text("last {day}: {outcome}")
OUTCOMES: Mapping[Outcome, Text] = {
    "started": Text("broke off, because the bot ended or is at it now"),
    "played": Text("played"),
    "uncertain": Text("Discord did not confirm that it was shown"),
    "away": Text("skipped, the bot was away"),
    "busy": Text("skipped, it could not begin within an hour"),
    "gone": Text("not played, the channel is gone"),
    "forbidden": Text("not played, the bot may not send messages with embeds there"),
    "not_allowed": Text("not played, `/bard-settings` does not allow that channel"),
    "blocked": Text("not played, the bot's owner has blocked the person who added it"),
    "not_served": Text("not played, the bot's owner does not allow this server"),
    "failed": Text("not played, an error; the bot's log has it"),
}
NOT_PLAYED = Text(
    "The daily scene number {number}, at {time} ({zone}) in <#{channel}> of the server {server}, "
    "could not be played. {problem} It is tried again each day, and paused after {limit} failures "
    "in a row. You are told this once; `/schedule list` in that server shows how it goes on."
)
PROBLEMS: Mapping[Outcome, Text] = {
    "gone": Text("That channel is gone. `/schedule remove` ends the schedule."),
    "forbidden": Text(
        "The bot needs the permissions View Channel, Send Messages (in threads: Send Messages in "
        "Threads) and Embed Links there."
    ),
    "not_allowed": Text("`/bard-settings` does not allow that channel."),
    "blocked": Text("The owner of the bot has blocked you."),
    "not_served": Text("The owner of the bot does not allow that server."),
    "failed": Text("An error occurred; the bot's owner finds it in the log."),
}
CHANNEL_DELETED = Text(
    "The daily scene number {number}, at {time} ({zone}) in the server {server}, is over, because "
    "its channel was deleted. `/schedule daily` adds one in another channel."
)
A_SERVER = Text("where you added it")
"""Stands for the name of a server that the bot does not see."""

_PROMPT_SHOWN = 60
_PROMPT_SUGGESTED = 40


def added(schedule: Schedule, language: Language) -> str:
    """Return the answer to a schedule that was added."""
    return language(ADDED, **_details(schedule))


def suggestion(schedule: Schedule) -> str:
    """Return the name of a schedule in the suggestions for an option, at most 100 characters."""
    details = _details(schedule) | {"prompt": one_line(schedule.prompt, _PROMPT_SUGGESTED)}
    return SUGGESTION.format_map(details)


def removed(schedule: Schedule, language: Language) -> str:
    """Return the answer to a schedule that was removed."""
    return language(REMOVED, **_details(schedule))


def overview(schedules: Iterable[Schedule], language: Language) -> discord.Embed:
    """Return the embed that lists the schedules of a server."""
    entries = [_entry(schedule, language) for schedule in schedules]
    embed = discord.Embed(description="\n\n".join(entries)[:DESCRIPTION_LIMIT], colour=COLOUR)
    embed.title = language(TITLE, count=len(entries), limit=PER_GUILD)
    return embed


def _entry(schedule: Schedule, language: Language) -> str:
    last = language(NO_LAST)
    if schedule.outcome is not None:
        outcome = language(OUTCOMES[schedule.outcome])
        last = language(LAST, day=schedule.last_day, outcome=outcome)
    text = PAUSED if schedule.paused else NEXT
    return language(text, **_details(schedule), last=last)


def not_played(schedule: Schedule, outcome: Outcome, server: str | None, language: Language) -> str:
    """Return the notice of a run that failed.

    Args:
        schedule: The schedule.
        outcome: One of `FAILURES`.
        server: The name of the server; None if it is not known.
        language: That of the text.
    """
    return language(
        NOT_PLAYED,
        **_details(schedule),
        server=_server(server, language),
        problem=language(PROBLEMS[outcome]),
        limit=PAUSE_AFTER,
    )


def channel_deleted(schedule: Schedule, server: str | None, language: Language) -> str:
    """Return the notice of a schedule that ends with its channel."""
    return language(CHANNEL_DELETED, **_details(schedule), server=_server(server, language))


def _server(name: str | None, language: Language) -> str:
    return language(A_SERVER) if name is None else f"*{escape(one_line(name, 100))}*"


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
