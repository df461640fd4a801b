"""What the database file holds of turns, and what it holds no longer once they are forgotten."""

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
async def history(path: Path) -> AsyncIterator[TurnStore]:
    async with open_database(path) as connection:
        yield TurnStore(connection)


_message_ids = itertools.count(1000)


async def add(
    history: TurnStore,
    prompt: str | None = "ROMEO:",
    reply: str = "O.",
    *,
    user: int = ANN,
    channel: int = GARDEN,
    scene: int = 1,
) -> tuple[Turn, int]:
    """Store a shown turn; returns it with the id of its message."""
    ask = TurnRequest(
        guild_id=7, channel_id=channel, user_id=user, prompt=prompt, max_chars=9, temperature=0.8
    )
    turn = await history.add(ask, scene=scene, reply=reply, seed=1, weights="w", seconds=0.5)
    message_id = next(_message_ids)
    await history.show(turn, message_id)
    return turn, message_id


async def retake(history: TurnStore, turn: Turn, reply: str) -> Turn:
    taken = await history.add_take(turn, reply=reply, seed=2, weights="v", seconds=0.25)
    assert taken is not None
    await history.show_take(taken)
    return taken


def on_disk(path: Path, word: str) -> bool:
    """Return whether a word can be found in the file or its log, by someone without SQLite."""
    return any(word.encode() in file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


@pytest.mark.parametrize("length", [3, 300, 30_000], ids=["small", "in the page", "overflowing"])
async def test_forgotten_words_leave_the_file(history: TurnStore, path: Path, length: int) -> None:
    for number in range(30):  # neighbours in the pages
        await add(history, f"Neighbour {number}", "Words. " * 50, user=BEN)
    doomed = [
        await add(history, "sekrit" * length, "hidden" * length, user=user, channel=channel)
        for user, channel in ((ANN, GARDEN), (ANN, TAVERN), (BEN, TAVERN))
    ]
    for turn, _ in doomed:
        await retake(history, turn, "covert" * length)
    words = ("sekritsekrit", "hiddenhidden", "covertcovert")
    assert all(on_disk(path, word) for word in words)

    assert await history.delete(GARDEN, {doomed[0][1]}) == 1
    assert await history.delete_user(ANN) == 1
    assert await history.delete_channel(TAVERN) == 1
    assert not any(on_disk(path, word) for word in words)
    assert on_disk(path, "Neighbour 29")
    assert len(await history.tail(GARDEN, 1, chars=100_000)) == 30


async def test_takes_leave_with_a_row_that_is_deleted(history: TurnStore, path: Path) -> None:
    turn, _ = await add(history)
    await retake(history, turn, "Two.")
    await history._connection.execute("DELETE FROM turns")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM takes").fetchone() == (0,)


async def test_forgetting_a_person_leaves_the_others(history: TurnStore) -> None:
    await add(history, "Mine", user=ANN)
    await add(history, "Theirs", user=BEN)
    await add(history, "Mine elsewhere", user=ANN, channel=TAVERN)
    assert await history.delete_user(ANN) == 2
    assert await history.delete_user(ANN) == 0
    assert [turn.prompt for turn in await history.tail(GARDEN, 1, chars=100)] == ["Theirs"]
    assert await history.tail(TAVERN, 1, chars=100) == []
    assert await history.scene(TAVERN) == 1


async def test_turn_forgotten_before_it_is_shown_stays_forgotten(history: TurnStore) -> None:
    ask = TurnRequest(
        guild_id=7, channel_id=GARDEN, user_id=ANN, prompt="A", max_chars=9, temperature=0.8
    )
    turn = await history.add(ask, scene=1, reply="B", seed=1, weights="w", seconds=0.5)
    await history.delete_user(ANN)
    await history.show(turn, 9)
    assert await history.tail(GARDEN, 1, chars=100) == []


async def test_find_wants_the_turn_in_its_message(history: TurnStore) -> None:
    turn, message_id = await add(history)
    other, _ = await add(history)
    found = await history.find(turn.id, channel_id=GARDEN, message_id=message_id)
    assert found == turn
    assert await history.find(other.id, channel_id=GARDEN, message_id=message_id) is None
    assert await history.find(turn.id, channel_id=TAVERN, message_id=message_id) is None


async def test_takes(history: TurnStore) -> None:
    first, message_id = await add(history, reply="One.")
    second = await retake(history, first, "Two.")
    assert (second.reply, second.take, second.takes, second.seed) == ("Two.", 2, 2, 2)
    assert await history.find(first.id, channel_id=GARDEN, message_id=message_id) == second

    again = await history.take(second, 1)
    assert again is not None
    assert (again.reply, again.take, again.takes, again.seed) == ("One.", 1, 2, 1)
    assert await history.take(second, 3) is None
    await history.show_take(again)
    assert [turn.reply for turn in await history.tail(GARDEN, 1, chars=100)] == ["One."]


async def test_no_take_of_a_forgotten_turn(history: TurnStore) -> None:
    turn, _ = await add(history)
    await history.delete_channel(GARDEN)
    assert await history.add_take(turn, reply="x", seed=1, weights="w", seconds=1) is None


async def test_tail_of_many_short_turns(history: TurnStore) -> None:
    for number in range(120):
        await add(history, str(number % 10), "")
    tail = await history.tail(GARDEN, 1, chars=105)
    assert [turn.id for turn in tail] == list(range(16, 121))
    before = await history.tail(GARDEN, 1, chars=2, before=tail[0].id)
    assert [turn.id for turn in before] == [14, 15]


async def test_a_scene_begun_without_a_turn(history: TurnStore) -> None:
    await add(history)
    await history.start_scene(7, GARDEN, 2)
    assert await history.scene(GARDEN) == 2
    assert await history.tail(GARDEN, 2, chars=100) == []


async def test_prompts_are_the_last_ones_and_different(history: TurnStore) -> None:
    for number in range(60):
        await add(history, f"Prompt {number}", scene=1 + number // 50)
    await add(history, "Prompt 55", scene=2)
    await add(history, None, scene=2)
    await add(history, "Elsewhere", channel=TAVERN)
    _, doomed = await add(history, "Gone", scene=2)
    await history.delete(GARDEN, {doomed})
    prompts = await history.prompts(GARDEN)
    assert prompts[:3] == ["Prompt 55", "Prompt 59", "Prompt 58"]
    assert 40 < len(prompts) == len(set(prompts)) <= 50
    assert await history.prompts(5) == []


async def test_export_is_all_of_one_person(history: TurnStore) -> None:
    for number in range(60):
        await add(history, f"Prompt {number}", user=ANN)
        await add(history, "Another's", user=BEN)
    turn, message_id = await add(history, None, 'Say "ay"\n\u00e9', channel=TAVERN)
    await retake(history, turn, "Two.")
    exported: list[dict[str, Any]] = [json.loads(text) async for text in history.export(ANN)]

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
    assert [text async for text in history.export(5)] == []
