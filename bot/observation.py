"""Tell an observer what the services do. `bot.hosting.metrics` counts it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Outcome(StrEnum):
    """How a request to the model ended."""

    REPLIED = "replied"
    REJECTED = "rejected"
    STOPPED = "stopped"
    """By its requester or a moderator."""
    CANCELLED = "cancelled"
    """By the end of the bot."""
    UNCERTAIN = "uncertain"
    """Discord's answer to the reply got lost."""
    FAILED = "failed"


class TrainingState(StrEnum):
    """What the training does at a moment."""

    IDLE = "idle"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """State of the training at a moment. A value that is not known is None."""

    state: TrainingState = TrainingState.IDLE
    step: int | None = None
    steps: int | None = None
    """Planned number of steps."""
    train_loss: float | None = None
    """In nats per character, as `held_out_loss`."""
    held_out_loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """State of the services at a moment."""

    weights: str
    """Short name of the active weights."""
    waiting: int
    """Requests that wait for a worker."""
    running: int
    """Requests that have one."""
    database_bytes: int | None
    """Size of the database with its write-ahead log; None if there is no file."""
    training: Training


class Observer(Protocol):
    """Receives what happens. No method raises, waits, or is given an id or a text of a member.

    All methods are called from the thread of the event loop.
    """

    def watch(self, look: Callable[[], Snapshot] | None) -> None:
        """Take the function that returns the present state, from any thread; None at the end."""
        ...

    def request_ended(self, outcome: Outcome, seconds: float) -> None:
        """Take the end of a request to the model, and the seconds since it arrived."""
        ...

    def rejected(self, reason: str) -> None:
        """Take the name of the `Reason` for which a request to the model was rejected."""
        ...

    def acknowledged(self, seconds: float) -> None:
        """Take the seconds from an interaction to its acknowledgement."""
        ...

    def generated(self, characters: int, seconds: float) -> None:
        """Take the length of a completion and the seconds that a worker needed."""
        ...

    def failed(self, level: str) -> None:
        """Take a failure that was answered with an error id: the name of its log level."""
        ...


class NoObserver:
    """Ignore everything."""

    def watch(self, look: Callable[[], Snapshot] | None) -> None:
        """See `Observer.watch`."""

    def request_ended(self, outcome: Outcome, seconds: float) -> None:
        """See `Observer.request_ended`."""

    def rejected(self, reason: str) -> None:
        """See `Observer.rejected`."""

    def acknowledged(self, seconds: float) -> None:
        """See `Observer.acknowledged`."""

    def generated(self, characters: int, seconds: float) -> None:
        """See `Observer.generated`."""

    def failed(self, level: str) -> None:
        """See `Observer.failed`."""


NO_OBSERVER: Observer = NoObserver()
