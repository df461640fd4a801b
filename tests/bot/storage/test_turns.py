"""Stored turns and takes: reading, exporting, and deletion from the file."""

import itertools
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bot.storage.database import open_database
from bot.storage.turns import Turn, TurnRequest, TurnStore

ANN, BEN = 2**62 + 1, 2**62 + 2
GARDEN, TAVERN = 3, 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bard.sqlite3"


@pytest.fixture
async def turns(path: Path) -> AsyncIterator[TurnStore]:
    async with open_database(path) as connection:
        yield TurnStore(connection)


_message_ids = itertools.count(1000)


async def add(
    turns: TurnStore,
    prompt: str | None = "ROMEO:",
    reply: str = "O.",
    *,
    user: int = ANN,
    channel: int = GARDEN,
    scene: int = 1,
) -> tuple[Turn, int]:
    """Store a shown turn; return it with the id of its message."""
    request = TurnRequest(
        guild_id=7, channel_id=channel, user_id=user, prompt=prompt, max_chars=9, temperature=0.8
    )
    turn = await turns.add(request, scene=scene, reply=reply, seed=1, weights="w", seconds=0.5)
    message_id = next(_message_ids)
    await turns.show(turn, message_id)
    return turn, message_id


async def show_new_take(turns: TurnStore, turn: Turn, reply: str) -> Turn:
    taken = await turns.add_take(turn, reply=reply, seed=2, weights="v", seconds=0.25)
    assert taken is not None
    await turns.show_take(taken)
    return taken


def on_disk(path: Path, word: str) -> bool:
    """Return whether the bytes of the file or its write-ahead log contain a word."""
    return any(word.encode() in file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


@pytest.mark.parametrize(
    "length", [3, 300, 30_000], ids=["small", "within a page", "on overflow pages"]
)
async def test_deleted_text_is_erased_from_the_file(
    turns: TurnStore, path: Path, length: int
) -> None:
    for number in range(30):  # on the same pages
        await add(turns, f"Neighbour {number}", "Words. " * 50, user=BEN)
    deleted = [
        await add(turns, "sekrit" * length, "hidden" * length, user=user, channel=channel)
        for user, channel in ((ANN, GARDEN), (ANN, TAVERN), (BEN, TAVERN))
    ]
    for turn, _ in deleted:
        await show_new_take(turns, turn, "covert" * length)
    words = ("sekritsekrit", "hiddenhidden", "covertcovert")
    assert all(on_disk(path, word) for word in words)

    assert await turns.delete(GARDEN, {deleted[0][1]}) == 1
    assert await turns.delete_user(ANN) == 1
    assert await turns.delete_channel(TAVERN) == 1
    assert not any(on_disk(path, word) for word in words)
    assert on_disk(path, "Neighbour 29")
    assert len(await turns.tail(GARDEN, 1, chars=100_000)) == 30


async def test_takes_are_deleted_with_their_row(turns: TurnStore, path: Path) -> None:
    turn, _ = await add(turns)
    await show_new_take(turns, turn, "Two.")
    await turns._connection.execute("DELETE FROM turns")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM takes").fetchone() == (0,)


async def test_delete_user_keeps_turns_of_others(turns: TurnStore) -> None:
    await add(turns, "Mine", user=ANN)
    await add(turns, "Theirs", user=BEN)
    await add(turns, "Mine elsewhere", user=ANN, channel=TAVERN)
    assert await turns.delete_user(ANN) == 2
    assert await turns.delete_user(ANN) == 0
    assert [turn.prompt for turn in await turns.tail(GARDEN, 1, chars=100)] == ["Theirs"]
    assert await turns.tail(TAVERN, 1, chars=100) == []
    assert await turns.scene(TAVERN) == 1


async def test_turn_deleted_before_it_is_shown_stays_deleted(turns: TurnStore) -> None:
    request = TurnRequest(
        guild_id=7, channel_id=GARDEN, user_id=ANN, prompt="A", max_chars=9, temperature=0.8
    )
    turn = await turns.add(request, scene=1, reply="B", seed=1, weights="w", seconds=0.5)
    await turns.delete_user(ANN)
    await turns.show(turn, 9)
    assert await turns.tail(GARDEN, 1, chars=100) == []


async def test_find_requires_the_turns_message_and_channel(turns: TurnStore) -> None:
    turn, message_id = await add(turns)
    other, _ = await add(turns)
    found = await turns.find(turn.id, channel_id=GARDEN, message_id=message_id)
    assert found == turn
    assert await turns.find(other.id, channel_id=GARDEN, message_id=message_id) is None
    assert await turns.find(turn.id, channel_id=TAVERN, message_id=message_id) is None


async def test_takes(turns: TurnStore) -> None:
    first, message_id = await add(turns, reply="One.")
    second = await show_new_take(turns, first, "Two.")
    assert (second.reply, second.take, second.takes, second.seed) == ("Two.", 2, 2, 2)
    assert await turns.find(first.id, channel_id=GARDEN, message_id=message_id) == second

    earlier = await turns.take(second, 1)
    assert earlier is not None
    assert (earlier.reply, earlier.take, earlier.takes, earlier.seed) == ("One.", 1, 2, 1)
    assert await turns.take(second, 3) is None
    await turns.show_take(earlier)
    assert [turn.reply for turn in await turns.tail(GARDEN, 1, chars=100)] == ["One."]


async def test_no_take_of_a_deleted_turn(turns: TurnStore) -> None:
    turn, _ = await add(turns)
    await turns.delete_channel(GARDEN)
    assert await turns.add_take(turn, reply="x", seed=1, weights="w", seconds=1) is None


async def test_tail_of_many_short_turns(turns: TurnStore) -> None:
    for number in range(120):
        await add(turns, str(number % 10), "")
    tail = await turns.tail(GARDEN, 1, chars=105)
    assert [turn.id for turn in tail] == list(range(16, 121))
    before = await turns.tail(GARDEN, 1, chars=2, before=tail[0].id)
    assert [turn.id for turn in before] == [14, 15]


async def test_scene_started_without_a_turn(turns: TurnStore) -> None:
    await add(turns)
    await turns.start_scene(7, GARDEN, 2)
    assert await turns.scene(GARDEN) == 2
    assert await turns.tail(GARDEN, 2, chars=100) == []


async def test_prompts_are_recent_and_distinct(turns: TurnStore) -> None:
    for number in range(60):
        await add(turns, f"Prompt {number}", scene=1 + number // 50)
    await add(turns, "Prompt 55", scene=2)
    await add(turns, None, scene=2)
    await add(turns, "Elsewhere", channel=TAVERN)
    _, message_id = await add(turns, "Gone", scene=2)
    await turns.delete(GARDEN, {message_id})
    prompts = await turns.prompts(GARDEN)
    assert prompts[:3] == ["Prompt 55", "Prompt 59", "Prompt 58"]
    assert 40 < len(prompts) == len(set(prompts)) <= 50
    assert await turns.prompts(5) == []


async def test_export_returns_all_turns_of_a_person(turns: TurnStore) -> None:
    for number in range(60):
        await add(turns, f"Prompt {number}", user=ANN)
        await add(turns, "Another's", user=BEN)
    turn, message_id = await add(turns, None, 'Say "ay"\n\u00e9', channel=TAVERN)
    await show_new_take(turns, turn, "Two.")
    exported: list[dict[str, Any]] = [json.loads(text) async for text in turns.export(ANN)]

    assert len(exported) == 61
    assert [turn["prompt"] for turn in exported] == [*(f"Prompt {n}" for n in range(60)), None]
    last = exported[-1]
    assert last["user_id"] == str(ANN)
    assert last["message_id"] == str(message_id)
    assert last["channel_id"] == str(TAVERN)
    assert last["server_id"] == "7"
    assert last["reply"] == "Two."
    assert [take["reply"] for take in last["takes"]] == ['Say "ay"\n\u00e9', "Two."]
    assert last["asked_at"].endswith("Z")
    assert [text async for text in turns.export(5)] == []
