"""Accept or reject requests to the bard: once, by person, channel, cooldown and request queue."""

import asyncio
import time
from collections.abc import Callable, Container, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

from ..errors import Reason, RejectedError, UncertainError
from ..observation import NO_OBSERVER, Observer, Outcome
from ..storage.guild_settings import Rules
from .request_queue import Request, RequestQueue

_PRUNE_AT = 1000
"""Number of remembered cooldowns at which expired ones are dropped."""
_DELIVERIES = 10_000
"""Number of remembered interactions; Discord repeats one, if at all, within minutes."""


class Deliveries:
    """Remember interactions and messages by their ids: Discord may deliver one twice.

    Likewise questions, by their message, because people press a button twice.
    """

    def __init__(self) -> None:
        self._seen: dict[int, None] = {}

    def is_first(self, interaction_id: int) -> bool:
        """Return whether an interaction is delivered for the first time."""
        if interaction_id in self._seen:
            return False
        self._seen[interaction_id] = None
        if len(self._seen) > _DELIVERIES:
            del self._seen[next(iter(self._seen))]
        return True

    def expect_again(self, interaction_id: int) -> None:
        """Forget an interaction, so that it counts as the first one again."""
        self._seen.pop(interaction_id, None)


class Admission:
    """Decide which requests enter the queue.

    Args:
        queue: The queue of accepted requests.
        blocked: The ids of the people whom the bot's owner has blocked.
        observer: Is told how each request ends.
    """

    def __init__(
        self,
        queue: RequestQueue,
        blocked: Container[int] = (),
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self._queue = queue
        self._blocked = blocked
        self._observer = observer
        # End of each cooldown, by user and length: a server's new length takes effect at once.
        self._cooldowns: dict[tuple[int, int], float] = {}

    def require_person(self, user_id: int, roles: AbstractSet[int], rules: Rules) -> None:
        """Raise `RejectedError` unless a person may use the bard.

        Args:
            user_id: The person.
            roles: The ids of their roles in the server, its own id included; empty outside servers.
            rules: The settings in force there.
        """
        if user_id in self._blocked:
            raise RejectedError(Reason.BLOCKED)
        if not rules.denied_roles.isdisjoint(roles):
            raise RejectedError(Reason.ROLE_DENIED)
        if rules.allowed_roles and rules.allowed_roles.isdisjoint(roles):
            raise RejectedError(Reason.ROLE_MISSING, roles=rules.allowed_roles)

    @staticmethod
    def require_channel(channels: AbstractSet[int], rules: Rules) -> None:
        """Raise `RejectedError` unless the bard may reply in one of some channels.

        Args:
            channels: The channel and, for a thread, the channel that it belongs to.
            rules: The settings in force there.
        """
        if rules.channels and rules.channels.isdisjoint(channels):
            raise RejectedError(Reason.WRONG_CHANNEL, channels=rules.channels)

    @contextmanager
    def accept(
        self,
        request_id: int,
        *,
        user_id: int,
        guild_id: int | None,
        channels: set[int],
        rules: Callable[[], Rules],
        roles: AbstractSet[int] = frozenset(),
    ) -> Iterator[Request]:
        """Hold a place in the queue while the context lasts, and start the user's cooldown.

        A request that fails or is stopped costs no cooldown. Whether the person and the channel are
        allowed is checked again before its reply is generated, and before it is shown.

        Args:
            request_id: Unique among all requests.
            user_id: The person.
            guild_id: The server; None outside servers.
            channels: The channel and, for a thread, the channel that it belongs to.
            rules: Returns the settings in force there.
            roles: See `require_person`.

        Raises:
            RejectedError: The person may not use the bard, the channel is not allowed, the
                cooldown lasts, or there is no place.
        """

        def check() -> None:
            self.require_person(user_id, roles, rules())
            self.require_channel(channels, rules())

        began = time.monotonic()
        outcome = Outcome.FAILED
        try:
            check()
            with self._accept(request_id, user_id, guild_id, rules().cooldown) as request:
                request.checks.append(check)
                yield request
            outcome = Outcome.STOPPED if request.stopped else Outcome.REPLIED
        except RejectedError as error:
            outcome = Outcome.REJECTED
            self._observer.rejected(error.reason.name.lower())
            raise
        except UncertainError:
            outcome = Outcome.UNCERTAIN
            raise
        except asyncio.CancelledError:
            outcome = Outcome.CANCELLED
            raise
        finally:
            self._observer.request_ended(outcome, time.monotonic() - began)

    @contextmanager
    def _accept(
        self,
        request_id: int,
        user_id: int,
        guild_id: int | None,
        cooldown: int,
    ) -> Iterator[Request]:
        now = time.monotonic()  # the time of day may be set back
        key = (user_id, cooldown)
        if (seconds := self._cooldowns.get(key, now) - now) > 0:
            raise RejectedError(Reason.COOLDOWN, seconds=seconds)
        with self._queue.admit(request_id, user_id, guild_id) as request:
            end = self._start_cooldown(key, now) if cooldown else None
            answered = False
            try:
                yield request
                answered = not request.stopped
            finally:
                # Unless a later request has started another one.
                if not answered and self._cooldowns.get(key) == end:
                    self._cooldowns.pop(key, None)

    def _start_cooldown(self, key: tuple[int, int], now: float) -> float:
        """Start a cooldown and return its end."""
        if len(self._cooldowns) >= _PRUNE_AT:
            self._cooldowns = {k: end for k, end in self._cooldowns.items() if end > now}
        end = self._cooldowns[key] = now + key[1]
        return end
