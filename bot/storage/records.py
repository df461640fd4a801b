"""The turns of scenes as objects, and the columns that they are read from."""

from dataclasses import dataclass, field

COLUMNS = (
    "id, guild_id, channel_id, audience, user_id, scene, coalesce(takes.prompt, turns.prompt),"
    " max_chars, temperature, message_id, turns.take, intent, token,"
    " number, reply, seed, weights, seconds,"
    " voice, (SELECT name FROM voices WHERE voices.id = voice),"
    " (SELECT count(*) FROM takes WHERE turn_id = id),"
    " (SELECT part FROM cues WHERE cues.turn_id = id AND cues.number = takes.number)"
)
WITH_TAKE = f"SELECT {COLUMNS} FROM turns JOIN takes ON turn_id = id AND number"  # noqa: S608
# Without the hint, SQLite reads all turns in the order of their ids.
UNSETTLED = (
    f"SELECT {COLUMNS} FROM turns INDEXED BY unsettled_turns"  # noqa: S608
    " JOIN takes ON turn_id = id AND number = intent"
)


DEFAULT_VOICE = 0
"""Stands for the voice that is used where no other is chosen; see `storage.voices`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a scene is played: a channel, and the people in it who see the replies.

    A thread or a direct message is a channel of its own.
    """

    guild_id: int | None
    channel_id: int
    parent_id: int | None = field(default=None, compare=False)
    """The channel that a thread belongs to; None for others, and for the place of a stored turn."""
    audience: int = 0
    """0 for everyone in the channel, else the only person who sees the replies."""

    @property
    def channel_ids(self) -> set[int]:
        """The channel and, for a thread, the channel that it belongs to."""
        return {channel for channel in (self.channel_id, self.parent_id) if channel}


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRequest:
    """A request for a turn. Options of None take the defaults of the place."""

    place: Place
    user_id: int
    prompt: str | None
    """None continues the scene without new words."""
    max_chars: int | None = None
    temperature: float | None = None
    seed: int | None = None
    """None draws a random one."""
    fresh: bool = False
    """Start a new scene instead of continuing the current one."""
    scene: int | None = None
    """Number of the scene to continue; None selects the current one."""
    voice: int | None = None
    """The voice that plays it; None selects that of the scene or, in a new one, of the place."""
    quoted: bool = False
    """The prompt is the text of a message, which may be another person's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """A reply and how it was generated."""

    reply: str
    seed: int
    weights: str
    """Short name of the weights."""
    seconds: float
    voice: int = DEFAULT_VOICE
    voice_name: str = ""
    """Empty for the default voice."""
    instead_of: str = field(default="", compare=False)
    """Name of the voice that should have played it and could not; known until it is shown."""
    cue: str | None = None
    """The name of the part whose line follows, if a person plays it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A stored request with one take of its reply."""

    id: int
    place: Place
    user_id: int
    scene: int
    prompt: str | None
    """The words from which this take was generated; None continues the scene without new ones."""
    max_chars: int
    temperature: float
    message_id: int | None
    """The message that shows it, or will; None until it is known."""
    shown: int | None
    """Number of the take that the message shows; None if it is not known to show any."""
    intent: int | None
    """Number of the take that the message was about to show, if the outcome is not known."""
    token: str | None
    """The token of the interaction that was about to show it."""
    number: int
    """Number of this take, from 1."""
    take: Take
    takes: int
    """Number of takes."""

    @property
    def reply(self) -> str:
        """The text of this take."""
        return self.take.reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some consecutive turns of a scene, oldest first."""

    scene: int
    turns: list[Turn]
    has_earlier: bool
    has_later: bool


def turn_of(
    turn_id: int,
    guild_id: int | None,
    channel_id: int,
    audience: int,
    user_id: int,
    scene: int,
    prompt: str | None,
    max_chars: int,
    temperature: float,
    message_id: int | None,
    shown: int | None,
    intent: int | None,
    token: str | None,
    number: int,
    reply: str,
    seed: int,
    weights: str,
    seconds: float,
    voice: int,
    voice_name: str | None,
    takes: int,
    cue: str | None,
) -> Turn:
    """Return the turn that a row with the columns `COLUMNS` is about."""
    return Turn(
        id=turn_id,
        place=Place(guild_id=guild_id, channel_id=channel_id, audience=audience),
        user_id=user_id,
        scene=scene,
        prompt=prompt,
        max_chars=max_chars,
        temperature=temperature,
        message_id=message_id,
        shown=shown,
        intent=intent,
        token=token,
        number=number,
        take=Take(
            reply=reply,
            seed=seed,
            weights=weights,
            seconds=seconds,
            voice=voice,
            voice_name=voice_name or "",
            cue=cue,
        ),
        takes=takes,
    )
