"""Exceptions that cross the layers of the package."""

import errno
from enum import Enum, auto

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class StartupError(Exception):
    """The bard cannot start, or a command of the person who hosts it cannot be carried out.

    The message is one line that names the cause and the remedy.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Reason(Enum):
    """Why a request is rejected; `ui.responses` has the text of each."""

    # Requests to the bard.
    CLOSING = auto()
    WRONG_CHANNEL = auto()
    """Details: `channels`, the ids of the channels in which the bard may reply."""
    WRONG_SERVER = auto()
    """The server is none of BARD_GUILDS."""
    BLOCKED = auto()
    """The bot's owner has blocked the person."""
    ROLE_DENIED = auto()
    ROLE_MISSING = auto()
    """Details: `roles`, the ids of those that may use the bard."""
    COOLDOWN = auto()
    """Details: `seconds` until the next request is accepted."""
    TOO_MANY_REQUESTS = auto()
    QUEUE_FULL = auto()
    NO_TEXT = auto()
    NO_SCENE = auto()
    SCENE_OVER = auto()
    TURN_FORGOTTEN = auto()
    CHANNEL_UNKNOWN = auto()
    """Discord did not say which channel the interaction is from, in a way that can be read."""
    NOTHING_TO_READ = auto()
    NOTHING_STORED = auto()
    MESSAGE_STAYS = auto()
    """The turn was deleted, its message could not be."""
    UNKNOWN_VOICE = auto()
    """Details: `name` as it was typed, and `known`, the names of the voices."""
    VOICE_DAMAGED = auto()
    """Details: `name`. Its weights are missing or damaged."""
    VOICE_UNREADABLE = auto()
    """Details: `name`. Its weights cannot be read at the moment."""
    # Parts.
    PARTS_PRIVATE = auto()
    """Only one person sees the scene."""
    PART_NAME = auto()
    """Details: `limit`, in characters."""
    PART_TAKEN = auto()
    """Details: `part`, and `holder`, the id of the person; so has LINE_AWAITED."""
    LINE_AWAITED = auto()
    EMPTY_LINE = auto()
    """The model can read nothing of it."""
    PART_GIVEN_UP = auto()
    """Details: `part`."""
    PART_FREE = auto()
    NO_PART = auto()
    NOT_PART_MODERATOR = auto()
    # The database.
    MEMORY_BUSY = auto()
    """Another process holds it."""
    MEMORY_FULL = auto()
    """Its disk is full."""
    MEMORY_LOST = auto()
    """It was damaged, replaced or made unwritable."""
    # Permissions.
    NOT_REQUESTER = auto()
    NOT_YOUR_WORDS = auto()
    BUTTONS_RESTRICTED = auto()
    NOT_MODERATOR = auto()
    NOT_MANAGER = auto()
    NOT_OWNER = auto()
    # Administration.
    OWN_BLOCK = auto()
    """An owner cannot block themselves."""
    LIFT_NOT_SHARED = auto()
    """Other processes cannot be told that a block is lifted."""
    UNKNOWN_SERVER = auto()
    """The bot is not a member of it, or no longer."""
    CANNOT_LEAVE = auto()
    """The servers are those of a host."""
    # Threads.
    NO_THREAD_HERE = auto()
    THREAD_NOT_ALLOWED_TO_BOT = auto()
    """Details: `permissions`, the library's names of them; so has the next."""
    THREAD_NOT_ALLOWED_TO_MEMBER = auto()
    # Daily scenes.
    NO_SUCH_TIME = auto()
    NO_SUCH_ZONE = auto()
    TOO_MANY_SCHEDULES = auto()
    """Details: `limit`."""
    UNKNOWN_SCHEDULE = auto()
    """Details: `number`."""
    CANNOT_SEND = auto()
    """The bot may not. Details: `channel`, its id, and `permissions` as above."""
    SENDER_CANNOT_SEND = auto()
    """The person may not. Details: as above."""
    SERVER_UNAVAILABLE = auto()
    # Training.
    RUN_ACTIVE = auto()
    NO_ACTIVE_RUN = auto()
    NOTHING_TO_RESUME = auto()
    RUN_NOT_STARTED = auto()
    """Details: `problem`."""
    UNKNOWN_RUN = auto()
    """Details: `run_id`; so have those below."""
    RUN_NOT_FINISHED = auto()
    """Details: `state` and `action` as well."""
    RUN_IN_USE = auto()
    RUN_PROMOTED_ALREADY = auto()
    RUN_DAMAGED = auto()
    """The weights are missing or damaged."""
    NOTHING_TO_ROLL_BACK = auto()
    NO_EARLIER_WEIGHTS = auto()
    WEIGHTS_UNREADABLE = auto()
    """Weights cannot be read at the moment."""
    NOT_A_TEXT_FILE = auto()
    OPTION_WITH_RESUME = auto()
    """Details: `option`, its name."""
    TEXT_DOES_NOT_FIT = auto()
    """Details: `missing`, the characters that the active weights do not have."""

    # Voices, for owners and managers.
    VOICE_NAME = auto()
    """It cannot be the name of a voice."""
    VOICE_NAME_TAKEN = auto()
    """Details: `name`."""
    VOICE_PROMOTED_ALREADY = auto()
    """Details: `name` and `run_id`."""
    VOICE_REMOVED_ALREADY = auto()
    TOO_MANY_VOICES = auto()
    """Details: `most`, their largest number."""
    VOICE_OPTIONS = auto()
    """The options of a command do not go together."""


class RejectedError(Exception):
    """A request that is not carried out, for a reason that its sender can understand.

    Args:
        reason: Selects the text of the response.
        details: Values that the text names; `Reason` lists them.
    """

    def __init__(self, reason: Reason, **details: object) -> None:
        super().__init__(reason.name)
        self.reason = reason
        self.details = details


class StoppedError(Exception):
    """A request that somebody stopped before its reply was stored."""


class UncertainError(Exception):
    """A message was sent or edited, and it is not known whether Discord did it.

    The answer got lost: an error of Discord's servers, or a dropped connection.
    """


def is_shortage(error: BaseException | None) -> bool:
    """Return whether the system had no memory, or no more of something such as open files."""
    return isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno in _SHORTAGES
    )
