"""What happens at once in one channel; Discord has no part in it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bot.concurrency import Threads
from bot.core.inference import Inference
from bot.core.request_queue import Request, RequestQueue
from bot.core.scenes import MessageRef, Scenes
from bot.errors import RejectedError
from bot.storage.database import open_database
from bot.storage.turns import Turn, TurnRequest, TurnStore

ASK = TurnRequest(
    guild_id=1, channel_id=2, user_id=3, prompt="ROMEO:", max_chars=20, temperature=0.8
)


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[TurnStore]:
    async with open_database(tmp_path / "bard.sqlite3") as connection:
        yield TurnStore(connection)


@pytest.fixture
async def scenes(history: TurnStore, weights: Path, threads: Threads) -> AsyncIterator[Scenes]:
    generation = Inference(weights, workers=2)
    await generation.load()
    yield Scenes(history, generation, threads)
    await generation.close()


@contextmanager
def admitted() -> Iterator[Request]:
    with RequestQueue(workers=1, waiting=0).admit(1, ASK.user_id, ASK.guild_id) as request:
        yield request


async def play(scenes: Scenes, board: "Board") -> Turn:
    with admitted() as request:
        return await scenes.play(ASK, board.show, request)


async def reroll(scenes: Scenes, spot: MessageRef, board: "Board") -> None:
    with admitted() as request:
        await scenes.reroll(spot, 4000, board.show, request)


class Board:
    """A channel: which turn each message shows."""

    def __init__(self) -> None:
        self.shown: dict[int, Turn] = {}

    async def show(self, turn: Turn, _dropped: str) -> int:
        await asyncio.sleep(0.01)
        self.shown[turn.id] = turn
        return turn.id

    async def erase(self) -> None:
        self.shown.clear()


async def test_two_rerolls_at_once_are_two_takes(scenes: Scenes, history: TurnStore) -> None:
    board = Board()
    turn = await play(scenes, board)
    spot = MessageRef(turn.id, 2, turn.id)
    await asyncio.gather(*(reroll(scenes, spot, board) for _ in range(2)))
    (remembered,) = await history.tail(2, 1, chars=100)
    assert remembered.take == remembered.takes == 3
    assert board.shown[turn.id] == remembered


async def test_reroll_behind_a_removal_finds_nothing(scenes: Scenes, history: TurnStore) -> None:
    board = Board()
    turn = await play(scenes, board)
    spot = MessageRef(turn.id, 2, turn.id)
    removal = asyncio.create_task(scenes.delete(spot, board.erase))
    await asyncio.sleep(0)
    with pytest.raises(RejectedError):
        await reroll(scenes, spot, board)
    await removal
    assert not board.shown
    assert await history.tail(2, 1, chars=100) == []


async def test_changing_a_message_does_not_wait_for_a_turn_under_way(
    scenes: Scenes, history: TurnStore
) -> None:
    board = Board()
    turn = await play(scenes, board)
    spot = MessageRef(turn.id, 2, turn.id)
    await reroll(scenes, spot, board)
    sending, may_arrive = asyncio.Event(), asyncio.Event()

    async def show_late(turn: Turn, dropped: str) -> int:
        sending.set()
        await may_arrive.wait()
        return await board.show(turn, dropped)

    with admitted() as request:
        playing = asyncio.create_task(scenes.play(ASK, show_late, request))
        await sending.wait()
        await scenes.select_take(spot, 1, board.show)
        assert board.shown[turn.id].reply == turn.reply
        await scenes.delete(spot, board.erase)
        assert not board.shown
        may_arrive.set()
        later = await playing
    assert [turn.id for turn in await history.tail(2, 1, chars=100)] == [later.id]


async def test_a_take_that_is_not_there(scenes: Scenes) -> None:
    board = Board()
    turn = await play(scenes, board)
    with pytest.raises(RejectedError):
        await scenes.select_take(MessageRef(turn.id, 2, turn.id), 2, board.show)
    assert board.shown[turn.id] == turn


async def test_channel_forgotten_while_a_turn_is_played(scenes: Scenes, history: TurnStore) -> None:
    board = Board()
    playing = asyncio.create_task(play(scenes, board))
    await asyncio.sleep(0)
    assert await scenes.delete_channel(2) == 1
    await playing
    assert await history.tail(2, 1, chars=100) == []
