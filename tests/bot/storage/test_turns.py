"""Stored turns and takes: intents, reading, exporting, and deletion from the file."""

import asyncio
import itertools
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.errors import Reason, RejectedError
from bot.storage import database as module
from bot.storage.database import Database
from bot.storage.deletions import Deletion
from bot.storage.exports import ExportStore
from bot.storage.records import Page, Place, Take, Turn, TurnRequest
from bot.storage.statistics import StatisticsStore
from bot.storage.turns import TurnStore
from tests.bot.conftest import rejected

ANN, BEN = 2**62 + 1, 2**62 + 2
GARDEN, TAVERN = 3, 4
GLOBE = 7


_message_ids = itertools.count(1000)


def place(channel: int = GARDEN, audience: int = 0) -> Place:
    return Place(guild_id=GLOBE, channel_id=channel, audience=audience)


def a_take(reply: str = "O.", seed: int = 1) -> Take:
    return Take(reply=reply, seed=seed, weights="w", seconds=0.5)


async def add_pending(
    turns: TurnStore,
    prompt: str | None = "ROMEO:",
    reply: str = "O.",
    *,
    user: int = ANN,
    where: Place | None = None,
    scene: int = 1,
    message_id: int | None = None,
) -> Turn:
    """Store a turn that is about to be shown."""
    request = TurnRequest(place=where or place(), user_id=user, prompt=prompt)
    return await turns.add(
        request,
        a_take(reply),
        scene=scene,
        max_chars=9,
        temperature=0.8,
        message_id=message_id,
    )


async def add(
    turns: TurnStore,
    prompt: str | None = "ROMEO:",
    reply: str = "O.",
    *,
    user: int = ANN,
    channel: int = GARDEN,
    scene: int = 1,
) -> Turn:
    """Store a shown turn and return it as stored."""
    turn = await add_pending(turns, prompt, reply, user=user, where=place(channel), scene=scene)
    await turns.show(turn, next(_message_ids))
    return await stored(turns, turn)


async def stored(turns: TurnStore, turn: Turn) -> Turn:
    found = await turns.find(turn.id)
    assert found is not None
    return found


async def show_new_take(turns: TurnStore, turn: Turn, reply: str) -> Turn:
    taken = await turns.add_take(turn, a_take(reply, seed=2))
    assert taken is not None
    assert turn.message_id is not None
    await turns.show(taken, turn.message_id)
    return await stored(turns, turn)


async def tail(turns: TurnStore, where: Place, scene: int = 1, chars: int = 100_000) -> list[Turn]:
    return await turns.tail(where, scene, chars=chars)


async def delete_user(turns: TurnStore, user: int) -> int | None:
    return await turns.deletions.carry_out(await turns.deletions.record("user", user))


async def delete_channel(turns: TurnStore, channel: int) -> int | None:
    return await turns.deletions.carry_out(await turns.deletions.record("channel", channel))


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
        for user, channel in ((ANN, GARDEN), (ANN, TAVERN), (BEN, TAVERN), (BEN, GARDEN))
    ]
    for turn in deleted:
        await show_new_take(turns, turn, "covert" * length)
    words = ("sekritsekrit", "hiddenhidden", "covertcovert")
    assert all(on_disk(path, word) for word in words)

    assert deleted[0].message_id is not None
    assert await turns.deletions.delete_messages({deleted[0].message_id}) == 1
    assert await delete_user(turns, ANN) == 1
    assert await delete_channel(turns, TAVERN) == 1
    assert await turns.deletions.delete(deleted[3].id) == 1
    assert not any(on_disk(path, word) for word in words)
    assert on_disk(path, "Neighbour 29")
    assert len(await tail(turns, place())) == 30


def is_owed(database: Database) -> bool:
    """Return whether deleted text is still to be erased."""
    return database.erasure_owed


async def test_erasing_is_owed_while_somebody_reads_the_file(
    turns: TurnStore, database: Database, path: Path
) -> None:
    turn = await add(turns, "sekrit" * 300)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM turns").fetchall()
        assert await turns.deletions.delete(turn.id) == 1
        assert is_owed(database)
        assert on_disk(path, "sekritsekrit")
    assert await turns.deletions.delete(turn.id) == 0  # a retry erases, though it deletes nothing
    assert not is_owed(database)
    assert not on_disk(path, "sekritsekrit")


async def test_takes_are_deleted_with_their_turn(turns: TurnStore, path: Path) -> None:
    turn = await add(turns)
    await show_new_take(turns, turn, "Two.")
    await turns.deletions.delete(turn.id)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM takes").fetchone() == (0,)


async def test_delete_user_keeps_turns_of_others(turns: TurnStore) -> None:
    await add(turns, "Mine", user=ANN)
    await add(turns, "Theirs", user=BEN)
    await add(turns, "Mine elsewhere", user=ANN, channel=TAVERN)
    assert await delete_user(turns, ANN) == 2
    assert await delete_user(turns, ANN) == 0
    assert [turn.prompt for turn in await tail(turns, place())] == ["Theirs"]
    assert await tail(turns, place(TAVERN)) == []
    assert await turns.scene(place(TAVERN)) == 0


async def test_delete_channel_starts_a_new_scene_at_once(turns: TurnStore) -> None:
    await add(turns, "Before")
    await add(turns, "Elsewhere", channel=TAVERN)
    deletion = await turns.deletions.record("channel", GARDEN)
    assert await turns.scene(place()) == 2
    await add(turns, "After", scene=2)
    assert await turns.deletions.carry_out(deletion) == 1
    assert [turn.prompt for turn in await tail(turns, place(), scene=2)] == ["After"]
    assert [turn.prompt for turn in await tail(turns, place(TAVERN))] == ["Elsewhere"]


async def test_interrupted_deletion_is_resumed(turns: TurnStore, path: Path) -> None:
    for _ in range(250):  # in several pieces
        await add(turns)
    await turns.deletions.record("guild", GLOBE, gone=True)
    await add(turns, channel=TAVERN)
    await turns.deletions.resume()
    assert await tail(turns, place()) == []
    assert len(await tail(turns, place(TAVERN))) == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM erasures").fetchall() == []
    assert await turns.deletions.carry_out(Deletion(1, "guild", GLOBE, 0)) == 0


async def test_deletion_that_cannot_go_on_is_resumed_later(
    turns: TurnStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.0)
    await add(turns, "sekrit" * 300)
    deletion = await turns.deletions.record("user", ANN)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await turns.deletions.carry_out(deletion) is None
        assert on_disk(path, "sekritsekrit")
    await turns.deletions.resume()
    assert not on_disk(path, "sekritsekrit")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM erasures").fetchall() == []


async def test_pieces_of_an_interrupted_deletion_are_erased(
    turns: TurnStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(turns, "sekrit" * 300)
    deletion = await turns.deletions.record("user", ANN)
    run = turns._database.run

    async def fail_at_the_end(sql: str, parameters: Any, **options: bool) -> int:
        if "erasures" in sql:
            raise RejectedError(Reason.MEMORY_BUSY)
        return await run(sql, parameters, **options)

    with monkeypatch.context() as patch:
        patch.setattr(turns._database, "run", fail_at_the_end)
        assert await turns.deletions.carry_out(deletion) is None
    assert await turns.find(1) is None
    await turns.deletions.resume()
    assert not on_disk(path, "sekritsekrit")


async def test_deletion_in_progress_is_not_resumed(turns: TurnStore) -> None:
    for _ in range(250):
        await add(turns)
    deletion = await turns.deletions.record("user", ANN)
    counts = await asyncio.gather(turns.deletions.carry_out(deletion), turns.deletions.resume())
    assert counts[0] == 250


async def test_nothing_of_a_person_stays_in_the_list_of_scenes(
    turns: TurnStore, path: Path
) -> None:
    def audiences() -> list[int]:
        with closing(sqlite3.connect(path)) as connection:
            return [row[0] for row in connection.execute("SELECT audience FROM places")]

    for user in (ANN, BEN):
        turn = await add_pending(turns, user=user, where=place(audience=user))
        await turns.show(turn, user)
    await add(turns)
    deletion = await turns.deletions.record("user", ANN)
    assert await turns.scene(place(audience=ANN)) == 2
    assert await turns.deletions.carry_out(deletion) == 2
    assert audiences() == [BEN]

    deletion = await turns.deletions.record("user", BEN)
    later = await add_pending(turns, user=BEN, where=place(audience=BEN), scene=2)
    await turns.show(later, 9)
    assert await turns.deletions.carry_out(deletion) == 1
    assert await turns.scene(place(audience=BEN)) == 2
    assert [turn.id for turn in await tail(turns, place(audience=BEN), scene=2)] == [later.id]


async def test_deletion_of_a_message_without_a_turn_needs_no_lock(
    turns: TurnStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.0)
    turn = await add(turns)
    assert turn.message_id is not None
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await turns.deletions.delete_messages([1, 2, 3]) == 0
        with rejected(Reason.MEMORY_BUSY):
            await turns.deletions.delete_messages([1, turn.message_id])
    assert await turns.deletions.delete_messages([1, turn.message_id]) == 1


async def test_deleted_channel_takes_its_threads_along(turns: TurnStore, path: Path) -> None:
    def count(table: str) -> int:
        with closing(sqlite3.connect(path)) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608

    for thread, parent in ((31, GARDEN), (32, GARDEN), (41, TAVERN)):
        where = replace(place(thread), parent_id=parent)
        for _ in range(2):
            turn = await add_pending(turns, where=where)
            await turns.show(turn, next(_message_ids))
    await delete_channel(turns, GARDEN)  # by a moderator: its threads are channels of their own
    assert count("turns") == 6
    await turns.deletions.carry_out(await turns.deletions.record("channel", 31, gone=True))
    assert (count("turns"), count("threads"), count("places")) == (4, 2, 2)
    await turns.deletions.carry_out(await turns.deletions.record("channel", GARDEN, gone=True))
    await turns.deletions.resume()
    assert (count("turns"), count("threads"), count("places")) == (2, 1, 1)
    await turns.deletions.carry_out(await turns.deletions.record("guild", GLOBE, gone=True))
    assert (count("turns"), count("threads"), count("places"), count("erasures")) == (0, 0, 0, 0)


async def test_ids_are_not_given_again(turns: TurnStore) -> None:
    turn = await add(turns)
    await turns.deletions.delete(turn.id)
    assert (await add(turns)).id > turn.id


async def test_turn_deleted_before_it_is_shown_stays_deleted(turns: TurnStore) -> None:
    turn = await add_pending(turns)
    await delete_user(turns, ANN)
    await turns.show(turn, 9)
    assert await turns.find(turn.id) is None
    assert await turns.scene(place()) == 0


async def test_turn_is_part_of_the_scene_once_shown(turns: TurnStore) -> None:
    turn = await add_pending(turns, message_id=9)
    assert await turns.scene(place()) == 0
    assert await tail(turns, place()) == []
    assert await turns.unsettled() == await turns.unsettled(GARDEN) == [turn]
    assert await turns.unsettled(TAVERN) == []
    await turns.show(turn, 9)
    assert await turns.scene(place()) == 1
    assert [found.id for found in await tail(turns, place())] == [turn.id]
    assert await turns.unsettled() == []


async def test_turn_that_only_one_person_sees_is_in_a_scene_of_their_own(turns: TurnStore) -> None:
    await add(turns, "For all")
    turn = await add_pending(turns, "For Ann", scene=1)
    await turns.show(turn, 9, audience=ANN)
    assert [turn.prompt for turn in await tail(turns, place())] == ["For all"]
    assert [turn.prompt for turn in await tail(turns, place(audience=ANN))] == ["For Ann"]
    assert await tail(turns, place(audience=BEN)) == []
    assert await turns.scene(place(audience=ANN)) == 1
    await turns.start_scene(place(audience=ANN))
    await turns.start_scene(place(audience=ANN))
    later = await add_pending(turns, "Later", scene=2)
    await turns.show(later, 10, audience=ANN)
    assert (await stored(turns, later)).scene == await turns.scene(place(audience=ANN)) == 3
    assert await delete_channel(turns, GARDEN) == 3


async def test_takes(turns: TurnStore) -> None:
    first = await add(turns, reply="One.")
    second = await show_new_take(turns, first, "Two.")
    assert (second.reply, second.number, second.takes, second.take.seed) == ("Two.", 2, 2, 2)
    assert second.shown == 2

    earlier = await turns.take(second, 1)
    assert earlier is not None
    assert (earlier.reply, earlier.number, earlier.takes, earlier.shown) == ("One.", 1, 2, 2)
    assert await turns.take(second, 3) is None
    assert await turns.intend(earlier)
    assert [(turn.number, turn.shown) for turn in await turns.unsettled()] == [(1, 2)]
    assert [turn.reply for turn in await tail(turns, place())] == ["Two."]
    await turns.show(earlier, 9)
    assert [turn.reply for turn in await tail(turns, place())] == ["One."]


async def test_withdrawn_take_is_deleted(turns: TurnStore) -> None:
    first = await add(turns, reply="One.")
    second = await turns.add_take(first, a_take("Two."))
    assert second is not None
    await turns.withdraw(second)
    assert await stored(turns, first) == first
    assert await turns.unsettled() == []


async def test_withdrawn_choice_keeps_its_take(turns: TurnStore) -> None:
    second = await show_new_take(turns, await add(turns, reply="One."), "Two.")
    earlier = await turns.take(second, 1)
    assert earlier is not None
    await turns.intend(earlier)
    await turns.withdraw(earlier)
    assert await stored(turns, second) == second


async def test_withdrawn_turn_is_deleted(turns: TurnStore) -> None:
    turn = await add_pending(turns)
    await turns.withdraw(turn)
    assert await turns.find(turn.id) is None


async def test_turns_that_are_never_shown_are_forgotten(turns: TurnStore, path: Path) -> None:
    shown, pending = await add(turns), await add_pending(turns)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE turns SET created_at = 5")
    new = await add_pending(turns)
    assert await turns.deletions.forget_unseen(10) == 1
    assert await turns.find(pending.id) is None
    assert await turns.find(shown.id) == shown
    assert await turns.find(new.id) == new


async def test_no_take_of_a_deleted_turn(turns: TurnStore) -> None:
    turn = await add(turns)
    await delete_channel(turns, GARDEN)
    assert await turns.add_take(turn, a_take()) is None
    assert not await turns.intend(turn)


async def test_tail_of_many_short_turns(turns: TurnStore) -> None:
    for number in range(120):
        await add(turns, str(number % 10), "")
    found = await tail(turns, place(), chars=105)
    assert [turn.id for turn in found] == list(range(16, 121))
    before = await turns.tail(place(), 1, chars=2, before=found[0].id)
    assert [turn.id for turn in before] == [14, 15]


def ids(page: Page) -> list[int]:
    return [turn.id for turn in page.turns]


async def test_pages(turns: TurnStore) -> None:
    for number in range(7):
        await add(turns, "P", "x" * 99 if number != 3 else "x" * 500)
    limits = {"turns": 3, "chars": 300}
    last = await turns.page(place(), 1, **limits)
    assert (ids(last), last.has_earlier, last.has_later) == ([5, 6, 7], True, False)
    long = await turns.page(place(), 1, before=5, **limits)
    assert (ids(long), long.has_earlier, long.has_later) == ([4], True, True)
    first = await turns.page(place(), 1, before=4, **limits)
    assert (ids(first), first.has_earlier, first.has_later) == ([1, 2, 3], False, True)
    again = await turns.page(place(), 1, after=3, **limits)
    assert (ids(again), again.has_earlier, again.has_later) == ([4], True, True)
    end = await turns.page(place(), 1, after=4, **limits)
    assert (ids(end), end.has_earlier, end.has_later) == ([5, 6, 7], True, False)
    assert ids(await turns.page(place(), 1, after=7, **limits)) == []


async def test_scene_started_without_a_turn(turns: TurnStore) -> None:
    await add(turns)
    await turns.start_scene(place())
    assert await turns.scene(place()) == 2
    assert await tail(turns, place(), scene=2) == []


async def test_totals_count_shown_scenes_and_characters_once(
    turns: TurnStore, database: Database
) -> None:
    first = await add(turns, reply="12345")
    await add(turns, reply="678")
    await add_pending(turns, reply="never shown")
    await show_new_take(turns, first, "90")
    await turns.start_scene(place())
    await turns.start_scene(place())
    await add(turns, reply="abc", scene=3)
    await turns.deletions.delete(first.id)
    await add(turns, reply="d", scene=3)
    found = await StatisticsStore(database).read()
    assert (found.scenes, found.characters, found.timed) == (2, 5 + 3 + 2 + 3 + 1, 4)


async def test_prompts_are_recent_and_distinct(turns: TurnStore) -> None:
    for number in range(60):
        await add(turns, f"Prompt {number}", scene=1 + number // 50)
    await add(turns, "Prompt 55", scene=2)
    await add(turns, None, scene=2)
    await add(turns, "Elsewhere", channel=TAVERN)
    await add_pending(turns, "Not shown", scene=2)
    gone = await add(turns, "Gone", scene=2)
    await turns.deletions.delete(gone.id)
    prompts = await turns.prompts(place())
    assert prompts[:3] == ["Prompt 55", "Prompt 59", "Prompt 58"]
    assert 40 < len(prompts) == len(set(prompts)) <= 50
    assert await turns.prompts(place(5)) == []


async def test_export_returns_all_turns_of_a_person(turns: TurnStore, database: Database) -> None:
    exports = ExportStore(database)
    for number in range(60):
        await add(turns, f"Prompt {number}", user=ANN)
        await add(turns, "Another's", user=BEN)
    turn = await add(turns, None, 'Say "ay"\n\u00e9', channel=TAVERN)
    await show_new_take(turns, turn, "Two.")
    exported: list[dict[str, Any]] = [json.loads(text) async for text in exports.read(ANN)]

    assert len(exported) == 61
    assert [turn["prompt"] for turn in exported] == [*(f"Prompt {n}" for n in range(60)), None]
    last = exported[-1]
    assert last["user_id"] == str(ANN)
    assert last["message_id"] == str(turn.message_id)
    assert last["channel_id"] == str(TAVERN)
    assert last["server_id"] == "7"
    assert last["private"] is False
    assert last["shown_take"] == 2
    assert [take["reply"] for take in last["takes"]] == ['Say "ay"\n\u00e9', "Two."]
    assert last["asked_at"].endswith("Z")
    assert [text async for text in exports.read(5)] == []
