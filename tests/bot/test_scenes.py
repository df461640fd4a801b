"""What happens at once in one channel; Discord has no part in it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.database import open_database
from bot.errors import SceneError
from bot.generation import Generation
from bot.history import Ask, History, Turn
from bot.scenes import Scenes, Spot, may_change

ASK = Ask(guild_id=1, channel_id=2, user_id=3, prompt="ROMEO:", max_chars=20, temperature=0.8)


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[History]:
    connection = await open_database(tmp_path / "bard.sqlite3")
    yield History(connection)
    await connection.close()


@pytest.fixture
async def scenes(history: History, weights: Path) -> AsyncIterator[Scenes]:
    generation = Generation(weights, workers=2)
    await generation.load()
    yield Scenes(history, generation)
    await generation.close()


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


async def test_two_rerolls_at_once_are_two_takes(scenes: Scenes, history: History) -> None:
    board = Board()
    turn = await scenes.play(ASK, board.show)
    spot = Spot(turn.id, 2, turn.id)
    await asyncio.gather(*(scenes.reroll(spot, board.show) for _ in range(2)))
    (remembered,) = await history.tail(2, 1, chars=100)
    assert remembered.take == remembered.takes == 3
    assert board.shown[turn.id] == remembered


async def test_reroll_behind_a_removal_finds_nothing(scenes: Scenes, history: History) -> None:
    board = Board()
    turn = await scenes.play(ASK, board.show)
    spot = Spot(turn.id, 2, turn.id)
    removal = asyncio.create_task(scenes.remove(spot, board.erase))
    await asyncio.sleep(0)
    with pytest.raises(SceneError):
        await scenes.reroll(spot, board.show)
    await removal
    assert not board.shown
    assert await history.tail(2, 1, chars=100) == []


async def test_a_take_that_is_not_there(scenes: Scenes) -> None:
    board = Board()
    turn = await scenes.play(ASK, board.show)
    with pytest.raises(SceneError):
        await scenes.choose(Spot(turn.id, 2, turn.id), 2, board.show)
    assert board.shown[turn.id] == turn


async def test_channel_forgotten_while_a_turn_is_played(scenes: Scenes, history: History) -> None:
    board = Board()
    playing = asyncio.create_task(scenes.play(ASK, board.show))
    await asyncio.sleep(0)
    assert await scenes.forget(2) == 1
    await playing
    assert await history.tail(2, 1, chars=100) == []


async def test_who_may_change_a_turn(scenes: Scenes) -> None:
    turn = await scenes.play(ASK, Board().show)
    assert may_change(turn, 3, moderator=False)
    assert may_change(turn, 4, moderator=True)
    assert not may_change(turn, 4, moderator=False)
