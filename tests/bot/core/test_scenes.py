"""Concurrent changes in one channel, without Discord."""

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

REQUEST = TurnRequest(
    guild_id=1, channel_id=2, user_id=3, prompt="ROMEO:", max_chars=20, temperature=0.8
)


@pytest.fixture
async def turns(tmp_path: Path) -> AsyncIterator[TurnStore]:
    async with open_database(tmp_path / "bard.sqlite3") as connection:
        yield TurnStore(connection)


@pytest.fixture
async def scenes(turns: TurnStore, weights: Path, threads: Threads) -> AsyncIterator[Scenes]:
    inference = Inference(weights, workers=2)
    await inference.load()
    yield Scenes(turns, inference, threads)
    await inference.close()


@contextmanager
def admitted() -> Iterator[Request]:
    with RequestQueue(workers=1, waiting=0).admit(1, REQUEST.user_id, REQUEST.guild_id) as request:
        yield request


async def play(scenes: Scenes, channel: "FakeChannel") -> Turn:
    with admitted() as request:
        return await scenes.play(REQUEST, channel.show, request)


async def reroll(scenes: Scenes, ref: MessageRef, channel: "FakeChannel") -> None:
    with admitted() as request:
        await scenes.reroll(ref, 4000, channel.show, request)


class FakeChannel:
    """Record the turn that each message shows."""

    def __init__(self) -> None:
        self.shown: dict[int, Turn] = {}

    async def show(self, turn: Turn, _dropped: str) -> int:
        await asyncio.sleep(0.01)
        self.shown[turn.id] = turn
        return turn.id

    async def delete(self) -> None:
        self.shown.clear()


async def test_two_concurrent_rerolls_make_two_takes(scenes: Scenes, turns: TurnStore) -> None:
    channel = FakeChannel()
    turn = await play(scenes, channel)
    ref = MessageRef(turn.id, 2, turn.id)
    await asyncio.gather(*(reroll(scenes, ref, channel) for _ in range(2)))
    (stored,) = await turns.tail(2, 1, chars=100)
    assert stored.take == stored.takes == 3
    assert channel.shown[turn.id] == stored


async def test_reroll_during_a_deletion_is_rejected(scenes: Scenes, turns: TurnStore) -> None:
    channel = FakeChannel()
    turn = await play(scenes, channel)
    ref = MessageRef(turn.id, 2, turn.id)
    deletion = asyncio.create_task(scenes.delete(ref, channel.delete))
    await asyncio.sleep(0)
    with pytest.raises(RejectedError):
        await reroll(scenes, ref, channel)
    await deletion
    assert not channel.shown
    assert await turns.tail(2, 1, chars=100) == []


async def test_changing_a_message_does_not_wait_for_a_running_turn(
    scenes: Scenes, turns: TurnStore
) -> None:
    channel = FakeChannel()
    turn = await play(scenes, channel)
    ref = MessageRef(turn.id, 2, turn.id)
    await reroll(scenes, ref, channel)
    sending, gate = asyncio.Event(), asyncio.Event()

    async def show_gated(turn: Turn, dropped: str) -> int:
        sending.set()
        await gate.wait()
        return await channel.show(turn, dropped)

    with admitted() as request:
        playing = asyncio.create_task(scenes.play(REQUEST, show_gated, request))
        await sending.wait()
        await scenes.select_take(ref, 1, channel.show)
        assert channel.shown[turn.id].reply == turn.reply
        await scenes.delete(ref, channel.delete)
        assert not channel.shown
        gate.set()
        later = await playing
    assert [turn.id for turn in await turns.tail(2, 1, chars=100)] == [later.id]


async def test_missing_take_is_rejected(scenes: Scenes) -> None:
    channel = FakeChannel()
    turn = await play(scenes, channel)
    with pytest.raises(RejectedError):
        await scenes.select_take(MessageRef(turn.id, 2, turn.id), 2, channel.show)
    assert channel.shown[turn.id] == turn


async def test_turn_played_during_a_deletion_of_its_channel_is_deleted(
    scenes: Scenes, turns: TurnStore
) -> None:
    channel = FakeChannel()
    playing = asyncio.create_task(play(scenes, channel))
    await asyncio.sleep(0)
    assert await scenes.delete_channel(2) == 1
    await playing
    assert await turns.tail(2, 1, chars=100) == []
