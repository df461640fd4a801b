"""Admission of requests: by channel, by cooldown, by the queue."""

from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bot.core import admission
from bot.core.admission import Admission, Deliveries
from bot.core.request_queue import Request, RequestQueue
from bot.errors import Reason, RejectedError
from bot.storage.guild_settings import Rules
from tests.bot.conftest import rejected

ANN, BEN = 11, 12
GARDEN, MAZE, TAVERN = 21, 22, 23
RULES = Rules(
    channels=frozenset(),
    max_chars=4000,
    cooldown=10,
    temperature=0.8,
    buttons="everyone",
    default_chars=400,
)


class Harness:
    """An admission with a queue of one worker and one further place, and a clock.

    Attributes:
        now: The time in seconds.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.admission = Admission(RequestQueue(workers=1, waiting=1))
        self._ids = iter(range(1, 10_000))

    def accept(
        self, user_id: int = ANN, rules: Rules = RULES, *channels: int
    ) -> AbstractContextManager[Request]:
        return self.admission.accept(
            next(self._ids),
            user_id=user_id,
            guild_id=1,
            channels=set(channels or (GARDEN,)),
            rules=lambda: rules,
        )


def test_request_that_fails_or_is_stopped_costs_no_cooldown(harness: "Harness") -> None:
    with pytest.raises(ZeroDivisionError), harness.accept():
        raise ZeroDivisionError
    with harness.accept() as request:
        request.stop()
    with harness.accept():
        pass
    with rejected(Reason.COOLDOWN), harness.accept():
        pass


def test_interaction_that_is_delivered_again_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_DELIVERIES", 2)
    deliveries = Deliveries()
    assert [deliveries.is_first(number) for number in (1, 2, 1, 3, 1)] == [
        True,
        True,
        False,
        True,
        True,
    ]
    deliveries.expect_again(1)
    deliveries.expect_again(7)
    assert deliveries.is_first(1)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    harness = Harness()
    monkeypatch.setattr(admission, "time", SimpleNamespace(monotonic=lambda: harness.now))
    return harness


def test_cooldown_ends_after_its_length(harness: Harness) -> None:
    with harness.accept():
        pass
    harness.now += 3
    with rejected(Reason.COOLDOWN, seconds=7.0), harness.accept():
        pass
    with harness.accept(BEN):
        pass
    # The rejected request did not extend the cooldown.
    harness.now += 7
    with harness.accept():
        pass


def test_cooldown_of_zero_is_none(harness: Harness) -> None:
    for _ in range(3):
        with harness.accept(ANN, replace(RULES, cooldown=0)):
            pass


def test_cooldown_of_one_length_does_not_count_for_another(harness: Harness) -> None:
    with harness.accept():
        pass
    with harness.accept(ANN, replace(RULES, cooldown=5)):
        pass


def test_failed_request_leaves_the_cooldown_of_a_later_one_alone(harness: Harness) -> None:
    with suppress(ZeroDivisionError), harness.accept():
        harness.now += 11
        with harness.accept():
            pass
        raise ZeroDivisionError
    with rejected(Reason.COOLDOWN), harness.accept():
        pass


def test_failed_request_releases_its_place(harness: Harness) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), harness.accept():
            raise ZeroDivisionError


def test_request_that_the_queue_rejects_starts_no_cooldown(harness: Harness) -> None:
    unlimited = replace(RULES, cooldown=0)
    with harness.accept(BEN, unlimited), harness.accept(BEN, unlimited):
        with rejected(Reason.QUEUE_FULL), harness.accept():
            pass
        with rejected(Reason.TOO_MANY_REQUESTS), harness.accept(BEN):
            pass
    for user_id in (ANN, BEN):
        with harness.accept(user_id):
            pass


def test_channels_include_their_threads(harness: Harness) -> None:
    rules = replace(RULES, cooldown=0, channels=frozenset({GARDEN}))
    with harness.accept(ANN, rules, GARDEN):
        pass
    with harness.accept(ANN, rules, MAZE, GARDEN):
        pass
    with (
        rejected(Reason.WRONG_CHANNEL, channels=rules.channels),
        harness.accept(ANN, rules, TAVERN),
    ):
        pass


def test_wrong_channel_starts_no_cooldown(harness: Harness) -> None:
    with (
        pytest.raises(RejectedError),
        harness.accept(ANN, replace(RULES, channels=frozenset({GARDEN})), TAVERN),
    ):
        pass
    with harness.accept():
        pass


def test_expired_cooldowns_are_dropped(harness: Harness) -> None:
    for user_id in range(admission._PRUNE_AT):
        with harness.accept(user_id):
            pass
    harness.now += 10
    with harness.accept():
        pass
    assert len(harness.admission._cooldowns) == 1
