"""The request queue with real scenes: admission, order, stopping and cancellation."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from bot import Settings
from bot.core.inference import Inference
from bot.core.request_queue import Request, RequestQueue
from bot.core.scenes import Scenes
from bot.core.settlement import Shown
from bot.core.voices import Voices
from bot.errors import Reason, StoppedError
from bot.storage.database import open_database
from bot.storage.guild_settings import GuildSettingsStore
from bot.storage.records import Place, Turn, TurnRequest
from bot.storage.turns import TurnStore
from bot.storage.voices import VoiceStore
from tests.bot.conftest import rejected

PLACE = Place(guild_id=1, channel_id=1)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.001)


class Message:
    """A message that shows a turn as soon as it is asked to."""

    message_id: int | None = None
    token: str | None = None

    def __init__(self, harness: "Harness") -> None:
        self._harness = harness

    async def show(self, turn: Turn, _dropped: str) -> Shown:
        self._harness.during_show()
        self._harness.shown.append(turn.prompt or "")
        return Shown(turn.id, 0)


class Harness:
    """The queue and the scenes, with a model that generates only while its gate is open.

    Attributes:
        started: Contexts of the generations, in order.
        ended: Contexts of those that have passed the gate or were cancelled.
        shown: Prompts of the turns that were shown.
        requests: Accepted requests by prompt.
        during_show: Called while a turn is being shown.
    """

    def __init__(self, queue: RequestQueue, scenes: Scenes, turns: TurnStore) -> None:
        self.queue = queue
        self.scenes = scenes
        self.turns = turns
        self.gate = threading.Event()
        self.started: list[str] = []
        self.ended: list[str] = []
        self.shown: list[str] = []
        self.requests: dict[str, Request] = {}
        self.during_show: Callable[[], None] = lambda: None
        self._ids = iter(range(1, 1000))

    def submit(self, prompt: str, *, user: int, channel: int) -> asyncio.Task[None]:
        """Submit a request in a task of its own."""
        turn_request = TurnRequest(
            place=Place(guild_id=1, channel_id=channel),
            user_id=user,
            prompt=prompt,
            max_chars=50,
            temperature=1.0,
        )

        async def work() -> None:
            with self.queue.admit(next(self._ids), user, 1) as request:
                self.requests[prompt] = request
                await self.scenes.play(turn_request, Message(self), request)

        return asyncio.create_task(work())

    def positions(self) -> dict[str, int]:
        return {prompt: request.position for prompt, request in self.requests.items()}


@pytest.fixture
async def harness(tmp_path: Path, weights: Path) -> AsyncIterator[Harness]:
    """Two workers, and places for three waiting requests."""
    stack = AsyncExitStack()
    database = await stack.enter_async_context(open_database(tmp_path / "bard.sqlite3"))
    inference = Inference(weights, workers=2)
    await inference.load()
    queue, turns = RequestQueue(2, 3), TurnStore(database)
    rules = GuildSettingsStore(database, Settings()).rules
    voices = Voices(VoiceStore(database), inference, Path())
    harness = Harness(queue, Scenes(turns, inference, rules, voices), turns)
    generate = inference.model.generate

    def gated(prompt: str, *args: Any, **options: Any) -> str:
        harness.started.append(prompt)
        # Polls the cancellation as the decoder's loops do.
        while not harness.gate.wait(0.001) and not options["cancellation"]:
            pass
        harness.ended.append(prompt)
        return generate(prompt, *args, **options)

    inference.model.generate = gated  # type: ignore[method-assign]
    yield harness
    harness.gate.set()
    await inference.close()
    await stack.aclose()


async def test_one_request_runs_per_worker_and_the_others_wait(harness: Harness) -> None:
    tasks = [harness.submit(prompt, user=n, channel=n) for n, prompt in enumerate("ABCDE")]
    await until(lambda: len(harness.started) == 2)
    await asyncio.sleep(0.05)
    assert sorted(harness.started) == ["A", "B"]
    assert harness.positions() == {"A": 0, "B": 0, "C": 1, "D": 2, "E": 3}

    harness.gate.set()
    await asyncio.gather(*tasks)
    assert sorted(harness.shown) == list("ABCDE")


async def test_workers_serve_requests_in_order_of_arrival() -> None:
    queue = RequestQueue(1, 9)
    order: list[int] = []

    async def work(number: int) -> None:
        with queue.admit(number, number, None) as request:
            async with request.worker():
                order.append(number)
                await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(10)))
    assert order == list(range(10))


async def test_full_queue_rejects_until_a_place_is_free(harness: Harness) -> None:
    tasks = [harness.submit(prompt, user=n, channel=n) for n, prompt in enumerate("ABCDE")]
    await until(lambda: len(harness.started) == 2)
    with rejected(Reason.QUEUE_FULL):
        await harness.submit("F", user=6, channel=6)
    assert not harness.shown

    harness.gate.set()
    await asyncio.gather(*tasks)
    await harness.submit("F", user=6, channel=6)
    assert harness.shown[-1] == "F"


async def test_third_request_of_a_person_is_rejected(harness: Harness) -> None:
    running = harness.submit("A", user=1, channel=1)
    waiting = harness.submit("B", user=1, channel=1)
    await until(lambda: len(harness.started) == 1)
    with rejected(Reason.TOO_MANY_REQUESTS):
        await harness.submit("C", user=1, channel=2)
    other = harness.submit("D", user=2, channel=2)  # another person does not wait for them

    harness.gate.set()
    await asyncio.gather(running, waiting, other)
    await harness.submit("C", user=1, channel=2)
    assert harness.shown[-1] == "C"


async def test_turn_that_waits_for_its_channel_holds_no_worker(harness: Harness) -> None:
    tasks = [harness.submit(prompt, user=n, channel=1) for n, prompt in enumerate("AB")]
    tasks.append(harness.submit("C", user=3, channel=2))
    await until(lambda: len(harness.started) == 2)
    assert harness.started == ["A", "C"]
    assert harness.positions() == {"A": 0, "B": 1, "C": 0}

    harness.gate.set()
    await asyncio.gather(*tasks)
    assert harness.shown.index("A") < harness.shown.index("B")


async def test_stop_user_stops_all_requests_of_a_person(harness: Harness) -> None:
    tasks = [harness.submit(prompt, user=n % 2, channel=n) for n, prompt in enumerate("ABCD")]
    await until(lambda: len(harness.started) == 2)
    harness.queue.stop_user(1)
    harness.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, StoppedError) for result in results] == [False, True, False, True]
    assert sorted(harness.shown) == ["A", "C"]


@pytest.mark.parametrize("channel", [1, 3], ids=["for its channel", "for a worker"])
async def test_stop_while_waiting(harness: Harness, channel: int) -> None:
    first, second = harness.submit("A", user=1, channel=1), harness.submit("B", user=2, channel=2)
    await until(lambda: len(harness.started) == 2)
    stopped = harness.submit("C", user=3, channel=channel)
    last = harness.submit("D", user=4, channel=channel)
    await until(lambda: "D" in harness.requests)
    assert harness.positions()["D"] == 2

    assert harness.requests["C"].stop()
    assert harness.requests["C"].stop()  # pressed twice
    with pytest.raises(StoppedError):
        await stopped
    assert harness.positions()["D"] == 1
    harness.gate.set()
    await asyncio.gather(first, second, last)
    assert "C" not in " ".join(harness.started)
    assert sorted(harness.shown) == ["A", "B", "D"]


async def test_stop_while_running_ends_the_thread_and_stores_nothing(harness: Harness) -> None:
    stopped = harness.submit("A", user=1, channel=1)
    await until(lambda: harness.started == ["A"])
    assert harness.requests["A"].stop()
    with pytest.raises(StoppedError):
        await stopped
    await until(lambda: harness.ended == ["A"])  # while the gate is closed

    harness.gate.set()
    await harness.submit("B", user=1, channel=1)
    assert harness.started == ["A", "B"]
    assert harness.shown == ["B"]
    assert [turn.prompt for turn in await harness.turns.tail(PLACE, 1, chars=100)] == ["B"]


async def test_stop_fails_after_the_commit(harness: Harness) -> None:
    results = []
    harness.during_show = lambda: results.append(harness.requests["A"].stop())
    harness.gate.set()
    await harness.submit("A", user=1, channel=1)
    assert results == [False]
    assert harness.shown == ["A"]


async def test_commit_after_a_stop_raises(harness: Harness) -> None:
    async def play(request: Request) -> None:
        async with request.stoppable():
            assert request.stop()
            request.commit()

    with harness.queue.admit(999, 1, 1) as request:
        with pytest.raises(StoppedError):
            await play(request)
        # No cancellation is pending in this task.
        await asyncio.sleep(0)


async def test_cancellation_of_the_task_is_not_a_stop(harness: Harness) -> None:
    task = harness.submit("A", user=1, channel=1)
    await until(lambda: harness.started == ["A"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: harness.ended == ["A"])


async def test_timeout_in_the_block_is_not_a_stop(harness: Harness) -> None:
    with harness.queue.admit(999, 1, 1) as request, pytest.raises(TimeoutError):
        async with request.stoppable():
            raise TimeoutError


async def test_failed_requests_release_their_places(harness: Harness) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    harness.gate.set()
    harness.during_show = fail
    for n in range(8):  # more than places, workers and channels
        with pytest.raises(ZeroDivisionError):
            await harness.submit("A", user=1, channel=n % 2)
    elsewhere = Place(guild_id=1, channel_id=9)
    without_scene = TurnRequest(place=elsewhere, user_id=1, prompt=None)
    for n in range(8):
        with harness.queue.admit(500 + n, 1, 1) as request, rejected(Reason.NO_SCENE):
            await harness.scenes.play(without_scene, Message(harness), request)
    harness.during_show = lambda: None
    await asyncio.gather(*(harness.submit("B", user=n, channel=n) for n in range(5)))
    assert harness.shown == ["B"] * 5


async def test_stop_guild_stops_all_requests_of_a_server(harness: Harness) -> None:
    tasks = [harness.submit(prompt, user=n, channel=n) for n, prompt in enumerate("ABCD")]
    await until(lambda: len(harness.started) == 2)
    harness.queue.stop_guild(2)
    assert not any(request.stopped for request in harness.requests.values())
    harness.queue.stop_guild(1)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [StoppedError] * 4
    assert not harness.shown


@pytest.mark.parametrize("channel", [1, 3], ids=["for its channel", "for a worker"])
async def test_close_rejects_those_that_wait_and_newcomers(harness: Harness, channel: int) -> None:
    running = [harness.submit("A", user=1, channel=1), harness.submit("B", user=2, channel=2)]
    await until(lambda: len(harness.started) == 2)
    waiting = [harness.submit(name, user=3, channel=channel) for name in "CD"]
    await until(lambda: "D" in harness.requests)

    harness.queue.close()
    for task in (*waiting, harness.submit("E", user=5, channel=5)):
        with rejected(Reason.CLOSING):
            await task
    harness.gate.set()
    await asyncio.gather(*running)
    assert sorted(harness.shown) == ["A", "B"]
    assert sorted(harness.started) == ["A", "B"]


async def test_close_lets_a_request_go_on_for_which_a_worker_is_free(harness: Harness) -> None:
    first = harness.submit("A", user=1, channel=1)
    await until(lambda: len(harness.started) == 1)
    # Accepted, and not begun.
    last = [harness.submit(name, user=2, channel=channel) for channel, name in enumerate("BC", 2)]
    await until(lambda: "C" in harness.requests)
    harness.queue.close()
    with rejected(Reason.CLOSING):
        await last[1]
    harness.gate.set()
    await asyncio.gather(first, last[0])
    assert sorted(harness.shown) == ["A", "B"]


async def test_cut_short_rejects_those_that_run_as_well(harness: Harness) -> None:
    running, waiting = (harness.submit(name, user=1, channel=1) for name in "AB")
    await until(lambda: harness.started == ["A"])
    harness.queue.cut_short()
    for task in (running, waiting):
        with rejected(Reason.CLOSING):
            await task
    await until(lambda: harness.ended == ["A"])  # in its thread, too
    assert not harness.shown


async def test_cut_short_is_too_late_for_a_reply_that_is_being_shown(harness: Harness) -> None:
    harness.during_show = harness.queue.cut_short
    harness.gate.set()
    await harness.submit("A", user=1, channel=1)
    assert harness.shown == ["A"]


async def test_the_first_end_of_a_request_counts(harness: Harness) -> None:
    running, stopped = (harness.submit(name, user=1, channel=1) for name in "AB")
    await until(lambda: harness.started == ["A"] and "B" in harness.requests)
    assert harness.requests["B"].stop()
    harness.queue.cut_short()
    assert harness.requests["A"].stop()  # a press after the rejection
    with pytest.raises(StoppedError):
        await stopped
    with rejected(Reason.CLOSING):
        await running
