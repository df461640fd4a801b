"""Who plays which part: stored for the current scene of a channel, and gone with it."""

import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bot.storage.database import Database
from bot.storage.exports import ExportStore
from bot.storage.records import Place, Take, Turn, TurnRequest
from bot.storage.turns import TurnStore

ANN, BEN = 11, 12
PLACE = Place(guild_id=7, channel_id=3)
TAKE = Take(reply="O.", seed=1, weights="w", seconds=0.5)


async def add(turns: TurnStore, scene: int, take: Take = TAKE, place: Place = PLACE) -> Turn:
    asked = TurnRequest(place=place, user_id=BEN, prompt="ROMEO:")
    options = {"max_chars": 9, "temperature": 0.8, "message_id": None}
    turn = await turns.add(asked, take, scene=scene, **options)  # type: ignore[arg-type]
    await turns.show(turn, turn.id)
    return turn


async def held(turns: TurnStore, place: Place = PLACE) -> dict[str, int]:
    """Return who plays which part in the current scene."""
    parts = await turns.parts.held(place, await turns.scene(place) or 1)
    return {part.name: part.user_id for part in parts}


async def test_each_part_is_one_persons_and_each_person_has_one(turns: TurnStore) -> None:
    take = turns.parts.take
    assert (await take(PLACE, 1, "Nurse", ANN, 1.0)).user_id == ANN
    assert (await take(PLACE, 1, "NURSE", BEN, 2.0)).user_id == ANN
    assert await held(turns) == {"Nurse": ANN}
    await take(PLACE, 1, "ROMEO", BEN, 2.0)
    await take(PLACE, 1, "JULIET", ANN, 3.0)
    assert await held(turns) == {"ROMEO": BEN, "JULIET": ANN}
    await take(PLACE, 1, "Nurse", BEN, 4.0)
    assert await held(turns) == {"JULIET": ANN, "Nurse": BEN}
    await take(replace(PLACE, channel_id=4), 1, "JULIET", ANN, 5.0)
    (part, _) = await turns.parts.held(PLACE, 1)
    await turns.parts.delete(PLACE, replace(part, user_id=BEN))  # it is not his
    assert await held(turns) == {"JULIET": ANN, "Nurse": BEN}
    await turns.parts.delete(PLACE, part)
    assert await held(turns) == {"Nurse": BEN}
    assert await held(turns, replace(PLACE, channel_id=4)) == {"JULIET": ANN}
    assert await held(turns, replace(PLACE, channel_id=4, audience=ANN)) == {}


async def test_place_without_parts_is_known_without_a_query(
    turns: TurnStore, database: Database
) -> None:
    parts, other = turns.parts, replace(PLACE, channel_id=4)
    assert parts.may_have(PLACE)
    await parts.load()
    assert not parts.may_have(PLACE)
    await parts.take(PLACE, 1, "ROMEO", ANN, 1.0)
    assert (parts.may_have(PLACE), parts.may_have(other)) == (True, False)
    assert not parts.may_have(replace(PLACE, audience=ANN))
    again = TurnStore(database).parts
    await again.load()
    assert (again.may_have(PLACE), again.may_have(other)) == (True, False)


async def test_parts_end_when_the_scene_changes_and_outlive_its_turns(turns: TurnStore) -> None:
    await turns.parts.take(PLACE, 1, "ROMEO", ANN, 1.0)
    only = await add(turns, 1)
    await add(turns, 5, place=replace(PLACE, audience=ANN))  # a scene of hers alone
    assert await held(turns) == {"ROMEO": ANN}
    await turns.deletions.delete(only.id)
    assert await held(turns) == {"ROMEO": ANN}
    await add(turns, 1)
    last = await add(turns, 2)
    assert await held(turns) == {}
    await turns.parts.take(PLACE, 2, "ROMEO", ANN, 1.0)
    await turns.deletions.delete_before(10.0**12)
    assert (await turns.scene(PLACE), await turns.find(last.id)) == (0, None)
    assert await held(turns) == {"ROMEO": ANN}  # of the scene that is about to begin
    await add(turns, 1)
    await turns.start_scene(PLACE)
    assert await held(turns) == {}


WAYS: dict[str, Callable[[TurnStore], Awaitable[object]]] = {
    "person": lambda turns: turns.deletions.record("user", ANN),
    "channel": lambda turns: turns.deletions.record("channel", 3),
    "deleted channel": lambda turns: turns.deletions.record("channel", 3, gone=True),
    "server": lambda turns: turns.deletions.record("guild", 7, gone=True),
    "a day": lambda turns: turns.parts.delete_idle(1.5),
}


@pytest.mark.parametrize("way", WAYS)
async def test_deletions_cover_parts(turns: TurnStore, path: Path, way: str) -> None:
    await turns.parts.take(PLACE, 1, "ROMEO", ANN, 1.0)
    other = Place(guild_id=8, channel_id=4)
    await turns.parts.take(other, 1, "ROMEO", BEN, 2.0)
    await WAYS[way](turns)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT user_id FROM parts").fetchall() == [(BEN,)]


async def test_takes_keep_the_part_that_speaks_next(
    turns: TurnStore, database: Database, path: Path
) -> None:
    turn = await add(turns, 1, replace(TAKE, cue="ROMEO"))
    second = await turns.add_take(turn, replace(TAKE, reply=""))
    assert second is not None
    await turns.show(second, turn.id)
    (shown,) = await turns.tail(PLACE, 1, chars=9)
    assert shown.take.cue is None
    first = await turns.take(turn, 1)
    assert first is not None
    assert first.take.cue == "ROMEO"
    (exported,) = [json.loads(text) async for text in ExportStore(database).read(turn.user_id)]
    assert [take["cue"] for take in exported["takes"]] == ["ROMEO", None]
    await turns.deletions.delete(turn.id)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM cues").fetchall() == [(0,)]


async def test_export_has_a_persons_parts(turns: TurnStore, database: Database) -> None:
    await turns.parts.take(PLACE, 1, "ROMEO", ANN, 0.0)
    await turns.parts.take(PLACE, 1, "JULIET", BEN, 0.0)
    (exported,) = [json.loads(text) async for text in ExportStore(database).read(ANN)]
    assert exported == {
        "type": "part",
        "name": "ROMEO",
        "user_id": str(ANN),
        "server_id": "7",
        "channel_id": "3",
        "scene": 1,
        "active_at": "1970-01-01T00:00:00Z",
    }
