"""Who is taken on, who waits, and how a wait or a work ends."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from bot.concurrency import Threads
from bot.core.inference import Inference
from bot.core.request_queue import Request, RequestQueue
from bot.core.scenes import Scenes
from bot.errors import Reason, RejectedError, StoppedError
from bot.storage.database import open_database
from bot.storage.turns import Turn, TurnRequest, TurnStore
from tests.bot.conftest import rejected


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - of whatever a test looks at
            await asyncio.sleep(0.001)


class House:
    """Plays turns on the real services, with a model that works only while its gate is open."""

    def __init__(self, queue: RequestQueue, scenes: Scenes, history: TurnStore) -> None:
        self.queue = queue
        self.scenes = scenes
        self.history = history
        self.gate = threading.Event()
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.shown: list[str] = []
        self.requests: dict[str, Request] = {}
        self.during_show: Callable[[], None] = lambda: None
        self._ids = iter(range(1, 1000))

    def ask(self, name: str, *, user: int, channel: int) -> asyncio.Task[None]:
        """Begin a request; `name` is its prompt."""
        ask = TurnRequest(
            guild_id=1, channel_id=channel, user_id=user, prompt=name, max_chars=50, temperature=1.0
        )

        async def show(turn: Turn, _dropped: str) -> int:
            self.during_show()
            self.shown.append(turn.prompt or "")
            return turn.id

        async def work() -> None:
            with self.queue.admit(next(self._ids), user, 1) as request:
                self.requests[name] = request
                await self.scenes.play(ask, show, request)

        return asyncio.create_task(work())

    def positions(self) -> dict[str, int]:
        return {name: request.position for name, request in self.requests.items()}


@pytest.fixture
async def house(tmp_path: Path, weights: Path, threads: Threads) -> AsyncIterator[House]:
    """Two workers, and three places for those who wait."""
    stack = AsyncExitStack()
    database = await stack.enter_async_context(open_database(tmp_path / "bard.sqlite3"))
    generation = Inference(weights, workers=2)
    await generation.load()
    queue, history = RequestQueue(2, 3), TurnStore(database)
    house = House(queue, Scenes(history, generation, threads), history)
    generate = generation.model.generate

    def gated(prompt: str, *args: Any, **options: Any) -> str:
        house.begun.append(prompt)
        # The cancellation is the model's own, noticed here as its loops notice it.
        while not house.gate.wait(0.001) and not options["cancellation"]:
            pass
        house.ended.append(prompt)
        return generate(prompt, *args, **options)

    generation.model.generate = gated  # type: ignore[method-assign]
    yield house
    house.gate.set()
    await generation.close()
    await stack.aclose()


async def test_as_many_run_as_there_are_workers_and_the_rest_wait(house: House) -> None:
    tasks = [house.ask(name, user=n, channel=n) for n, name in enumerate("ABCDE")]
    await until(lambda: len(house.begun) == 2)
    await asyncio.sleep(0.05)
    assert sorted(house.begun) == ["A", "B"]
    assert house.positions() == {"A": 0, "B": 0, "C": 1, "D": 2, "E": 3}

    house.gate.set()
    await asyncio.gather(*tasks)
    assert sorted(house.shown) == list("ABCDE")


async def test_workers_go_to_those_who_came_first() -> None:
    queue = RequestQueue(1, 9)
    order: list[int] = []

    async def work(number: int) -> None:
        with queue.admit(number, number, None) as request:
            async with request.worker():
                order.append(number)
                await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(10)))
    assert order == list(range(10))


async def test_full_house_refuses_at_once_and_takes_on_again(house: House) -> None:
    tasks = [house.ask(name, user=n, channel=n) for n, name in enumerate("ABCDE")]
    await until(lambda: len(house.begun) == 2)
    with rejected(Reason.QUEUE_FULL):
        await house.ask("F", user=6, channel=6)
    assert not house.shown

    house.gate.set()
    await asyncio.gather(*tasks)
    await house.ask("F", user=6, channel=6)
    assert house.shown[-1] == "F"


async def test_two_of_one_person_at_a_time(house: House) -> None:
    running = house.ask("A", user=1, channel=1)
    waiting = house.ask("B", user=1, channel=1)
    await until(lambda: len(house.begun) == 1)
    with rejected(Reason.TOO_MANY_REQUESTS):
        await house.ask("C", user=1, channel=2)
    other = house.ask("D", user=2, channel=2)  # another person is not held up by them

    house.gate.set()
    await asyncio.gather(running, waiting, other)
    await house.ask("C", user=1, channel=2)
    assert house.shown[-1] == "C"


async def test_turns_of_one_channel_follow_each_other_and_hold_no_worker(house: House) -> None:
    tasks = [house.ask(name, user=n, channel=1) for n, name in enumerate("AB")]
    tasks.append(house.ask("C", user=3, channel=2))
    await until(lambda: len(house.begun) == 2)
    assert house.begun == ["A", "C"]
    assert house.positions() == {"A": 0, "B": 1, "C": 0}

    house.gate.set()
    await asyncio.gather(*tasks)
    assert house.shown.index("A") < house.shown.index("B")


@pytest.mark.parametrize("channel", [1, 3], ids=["for its channel", "for a worker"])
async def test_stopped_while_waiting(house: House, channel: int) -> None:
    first, second = house.ask("A", user=1, channel=1), house.ask("B", user=2, channel=2)
    await until(lambda: len(house.begun) == 2)
    doomed = house.ask("C", user=3, channel=channel)
    last = house.ask("D", user=4, channel=channel)
    await until(lambda: "D" in house.requests)
    assert house.positions()["D"] == 2

    assert house.requests["C"].stop()
    assert house.requests["C"].stop()  # pressed twice
    with pytest.raises(StoppedError):
        await doomed
    assert house.positions()["D"] == 1
    house.gate.set()
    await asyncio.gather(first, second, last)
    assert "C" not in " ".join(house.begun)
    assert sorted(house.shown) == ["A", "B", "D"]


async def test_stopped_while_running_ends_the_thread_and_keeps_nothing(house: House) -> None:
    doomed = house.ask("A", user=1, channel=1)
    await until(lambda: house.begun == ["A"])
    assert house.requests["A"].stop()
    with pytest.raises(StoppedError):
        await doomed
    await until(lambda: house.ended == ["A"])  # with the gate still shut

    house.gate.set()
    await house.ask("B", user=1, channel=1)
    assert house.begun == ["A", "B"]
    assert house.shown == ["B"]
    assert [turn.prompt for turn in await house.history.tail(1, 1, chars=100)] == ["B"]


async def test_too_late_to_stop_what_is_written(house: House) -> None:
    answers = []
    house.during_show = lambda: answers.append(house.requests["A"].stop())
    house.gate.set()
    await house.ask("A", user=1, channel=1)
    assert answers == [False]
    assert house.shown == ["A"]


async def test_stopped_at_the_very_end_is_still_stopped(house: House) -> None:
    async def play(request: Request) -> None:
        async with request.stoppable():
            assert request.stop()
            request.commit()

    with house.queue.admit(999, 1, 1) as request:
        with pytest.raises(StoppedError):
            await play(request)
        # No cancellation is left behind in this task.
        await asyncio.sleep(0)


async def test_cancelled_from_elsewhere_is_cancelled_and_not_stopped(house: House) -> None:
    task = house.ask("A", user=1, channel=1)
    await until(lambda: house.begun == ["A"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: house.ended == ["A"])


async def test_a_timeout_within_is_not_a_stop(house: House) -> None:
    with house.queue.admit(999, 1, 1) as request, pytest.raises(TimeoutError):
        async with request.stoppable():
            raise TimeoutError


async def test_failures_leave_no_place_taken(house: House) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    house.gate.set()
    house.during_show = fail
    for n in range(8):  # more than there are places, workers or channels
        with pytest.raises(ZeroDivisionError):
            await house.ask("A", user=1, channel=n % 2)
    nothing = TurnRequest(
        guild_id=1, channel_id=9, user_id=1, prompt=None, max_chars=5, temperature=1.0
    )
    for n in range(8):

        async def show(_turn: Turn, _dropped: str) -> int:
            raise AssertionError

        with house.queue.admit(500 + n, 1, 1) as request, suppress(RejectedError):
            await house.scenes.play(nothing, show, request)
    house.during_show = lambda: None
    await asyncio.gather(*(house.ask("B", user=n, channel=n) for n in range(5)))
    assert house.shown == ["B"] * 5


async def test_all_of_a_server_are_stopped(house: House) -> None:
    tasks = [house.ask(name, user=n, channel=n) for n, name in enumerate("ABCD")]
    await until(lambda: len(house.begun) == 2)
    house.queue.stop_guild(2)
    assert not any(request.stopped for request in house.requests.values())
    house.queue.stop_guild(1)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [StoppedError] * 4
    assert not house.shown
