"""Turns without Discord: concurrent changes in one channel, and outcomes that are not known."""

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.config import Settings
from bot.core import settlement
from bot.core.inference import Inference
from bot.core.request_queue import Request, RequestQueue
from bot.core.scenes import Scenes
from bot.core.settlement import Display, MessageRef, Shown, Sighting
from bot.core.voices import Voices
from bot.errors import Reason, RejectedError, StoppedError, UncertainError
from bot.storage import database as storage
from bot.storage.database import Database, open_database
from bot.storage.deletions import Scope
from bot.storage.guild_settings import GuildSettingsStore
from bot.storage.records import Place, Turn, TurnRequest
from bot.storage.turns import TurnStore
from bot.storage.voices import VoiceStore
from tests.bot.conftest import rejected

GARDEN = Place(guild_id=1, channel_id=2)
REQUEST = TurnRequest(place=GARDEN, user_id=3, prompt="ROMEO:", max_chars=20, temperature=0.8)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "bard.sqlite3") as database:
        yield database


@pytest.fixture
def turns(database: Database) -> TurnStore:
    return TurnStore(database)


@pytest.fixture
async def scenes(database: Database, turns: TurnStore, weights: Path) -> AsyncIterator[Scenes]:
    inference = Inference(weights, workers=2)
    await inference.load()
    rules = GuildSettingsStore(database, Settings()).rules
    yield Scenes(turns, inference, rules, Voices(VoiceStore(database), inference, Path()))
    await inference.close()


@contextmanager
def admitted() -> Iterator[Request]:
    with RequestQueue(workers=1, waiting=0).admit(1, REQUEST.user_id, 1) as request:
        yield request


class FakeChannel:
    """Record the turn that each message shows; a message has the id of its turn.

    Attributes:
        error: Raised by the next attempts to show a turn.
        arrives: Whether they show it nevertheless.
    """

    def __init__(self) -> None:
        self.shown: dict[int, Turn] = {}
        self.error: Exception | None = None
        self.arrives = False
        self.audience = 0
        self.message_id: int | None = None
        self.token: str | None = None

    async def show(self, turn: Turn, _dropped: str) -> Shown:
        await asyncio.sleep(0)
        if self.error is None or self.arrives:
            self.shown[turn.id] = turn
        if self.error is not None:
            raise self.error
        return Shown(self.message_id or turn.id, self.audience)

    async def delete(self) -> None:
        self.shown.clear()

    def ref(self, turn: Turn) -> MessageRef:
        """Return the message of a turn as somebody sees it."""
        shown = self.shown[turn.id]
        return MessageRef(turn.id, self.message_id or turn.id, self.audience, shown.reply)


async def play(scenes: Scenes, display: Display, turn_request: TurnRequest = REQUEST) -> Turn:
    with admitted() as request:
        return await scenes.play(turn_request, display, request)


async def reroll(scenes: Scenes, ref: MessageRef, display: Display) -> None:
    with admitted() as request:
        await scenes.reroll(ref, display, request)


async def tail(turns: TurnStore, place: Place = GARDEN) -> list[Turn]:
    return await turns.tail(place, await turns.scene(place), chars=10_000)


async def test_two_concurrent_rerolls_make_two_takes(scenes: Scenes, turns: TurnStore) -> None:
    channel = FakeChannel()
    turn = await play(scenes, channel)
    ref = channel.ref(turn)
    await asyncio.gather(*(reroll(scenes, ref, channel) for _ in range(2)))
    (stored,) = await tail(turns)
    assert stored.number == stored.takes == stored.shown == 3
    assert channel.shown[turn.id].reply == stored.reply


async def test_reroll_during_a_deletion_is_rejected(scenes: Scenes, turns: TurnStore) -> None:
    channel = FakeChannel()
    turn = await play(scenes, channel)
    ref = channel.ref(turn)
    deletion = asyncio.create_task(scenes.delete(ref, channel.delete))
    await asyncio.sleep(0)
    with pytest.raises(RejectedError):
        await reroll(scenes, ref, channel)
    await deletion
    assert not channel.shown
    assert await tail(turns) == []


async def test_changing_a_message_does_not_wait_for_a_running_turn(
    scenes: Scenes, turns: TurnStore
) -> None:
    channel = FakeChannel()
    turn = await play(scenes, channel)
    ref = channel.ref(turn)
    await reroll(scenes, ref, channel)
    sending, gate = asyncio.Event(), asyncio.Event()

    class Gated(FakeChannel):
        async def show(self, turn: Turn, dropped: str) -> Shown:
            sending.set()
            await gate.wait()
            return await super().show(turn, dropped)

    playing = asyncio.create_task(play(scenes, Gated()))
    await sending.wait()
    await scenes.select_take(ref, 1, channel)
    assert channel.shown[turn.id].reply == turn.reply
    await scenes.delete(ref, channel.delete)
    assert not channel.shown
    gate.set()
    later = await playing
    assert [turn.id for turn in await tail(turns)] == [later.id]


async def test_missing_take_is_rejected(scenes: Scenes) -> None:
    channel = FakeChannel()
    turn = await play(scenes, channel)
    with pytest.raises(RejectedError):
        await scenes.select_take(channel.ref(turn), 2, channel)
    assert channel.shown[turn.id].reply == turn.reply


async def test_turn_played_during_a_deletion_of_its_channel_is_deleted(
    scenes: Scenes, turns: TurnStore
) -> None:
    channel = FakeChannel()
    playing = asyncio.create_task(play(scenes, channel))
    await asyncio.sleep(0)
    assert (await scenes.delete_channel(2))[1] == 1
    await playing
    assert await tail(turns) == []


async def test_reply_that_discord_refuses_is_not_kept(scenes: Scenes, turns: TurnStore) -> None:
    channel = FakeChannel()
    channel.error = ValueError("refused")
    with pytest.raises(ValueError, match="refused"):
        await play(scenes, channel)
    assert await turns.unsettled() == []
    assert await turns.scene(GARDEN) == 0


async def test_take_that_discord_refuses_is_not_kept(scenes: Scenes, turns: TurnStore) -> None:
    channel = FakeChannel()
    turn = await play(scenes, channel)
    ref = channel.ref(turn)
    channel.error = ValueError("refused")
    with pytest.raises(ValueError, match="refused"):
        await reroll(scenes, ref, channel)
    (stored,) = await tail(turns)
    assert (stored.reply, stored.takes) == (turn.reply, 1)


@pytest.mark.parametrize("arrives", [True, False])
async def test_outcome_that_is_not_known_is_looked_up_before_the_next_turn(
    scenes: Scenes,
    turns: TurnStore,
    arrives: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    channel = FakeChannel()
    channel.message_id, channel.error, channel.arrives = 9, UncertainError(), arrives
    with pytest.raises(UncertainError):
        await play(scenes, channel)
    (pending,) = await turns.unsettled()

    async def look(turn: Turn) -> Sighting | None:
        shown = channel.shown.get(turn.id)
        return Sighting(None if shown is None else shown.reply)

    scenes.look = look
    later = FakeChannel()
    turn = await play(scenes, later)
    assert [turn.id for turn in await tail(turns)] == ([pending.id] if arrives else []) + [turn.id]
    assert await turns.unsettled() == []


async def test_press_of_a_button_proves_that_the_message_shows_its_turn(
    scenes: Scenes, turns: TurnStore
) -> None:
    channel = FakeChannel()
    channel.error, channel.arrives = UncertainError(), True
    with pytest.raises(UncertainError):
        await play(scenes, channel)
    (pending,) = await turns.unsettled()
    turn = await scenes.find_in_scene(channel.ref(pending))
    assert (turn.id, turn.shown) == (pending.id, 1)
    assert [turn.id for turn in await tail(turns)] == [pending.id]


@pytest.mark.parametrize("arrives", [True, False])
async def test_press_of_a_button_proves_which_take_the_message_shows(
    scenes: Scenes,
    turns: TurnStore,
    arrives: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    channel = FakeChannel()
    turn = await play(scenes, channel)
    first = channel.ref(turn)
    channel.error, channel.arrives = UncertainError(), arrives
    with pytest.raises(UncertainError):
        await reroll(scenes, first, channel)
    found = await scenes.find(channel.ref(turn))
    assert found.reply == channel.shown[turn.id].reply
    assert (found.number, found.takes) == (2 if arrives else 1, 2)
    assert [turn.reply for turn in await tail(turns)] == [found.reply]
    assert await turns.unsettled() == []


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the database as another process does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize("pressed", [True, False])
async def test_reply_shown_while_the_database_is_locked_is_recorded_later(
    scenes: Scenes,
    turns: TurnStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    pressed: bool,
) -> None:
    monkeypatch.setattr(storage, "BUSY_SECONDS", 0.0)
    path = tmp_path / "bard.sqlite3"

    class Locking(FakeChannel):
        async def show(self, turn: Turn, dropped: str) -> Shown:
            lock.__enter__()
            return await super().show(turn, dropped)

    lock, channel = locked(path), Locking()
    turn = await play(scenes, channel)  # without an error: the reply is shown
    assert await tail(turns) == []
    with rejected(Reason.MEMORY_BUSY):
        await play(scenes, FakeChannel())
    lock.__exit__(None, None, None)
    if pressed:
        assert (await scenes.find(channel.ref(turn))).shown == 1
    later = await play(scenes, FakeChannel())
    assert [turn.id for turn in await tail(turns)] == [turn.id, later.id]


async def test_owed_outcome_is_recorded_without_a_further_request(
    scenes: Scenes, turns: TurnStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "BUSY_SECONDS", 0.0)

    class Locking(FakeChannel):
        async def show(self, turn: Turn, dropped: str) -> Shown:
            lock.__enter__()
            return await super().show(turn, dropped)

    lock = locked(tmp_path / "bard.sqlite3")
    turn = await play(scenes, Locking())
    with rejected(Reason.MEMORY_BUSY):
        await scenes.record_owed()
    lock.__exit__(None, None, None)
    await scenes.record_owed()
    assert [found.id for found in await tail(turns)] == [turn.id]


async def test_turn_in_progress_is_not_looked_at(scenes: Scenes, turns: TurnStore) -> None:
    async def look(_turn: Turn) -> Sighting | None:
        return Sighting(None)  # the placeholder

    scenes.look = look

    class Settling(FakeChannel):
        async def show(self, turn: Turn, dropped: str) -> Shown:
            await scenes.settle()
            return await super().show(turn, dropped)

    channel = Settling()
    channel.message_id = 9
    turn = await play(scenes, channel)
    assert [found.id for found in await tail(turns)] == [turn.id]


async def test_turn_that_was_just_stored_is_not_looked_at(
    scenes: Scenes, turns: TurnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(_turn: Turn) -> Sighting | None:
        return Sighting(None)  # the placeholder

    add = turns.add

    async def adding(*args: Any, **values: Any) -> Turn:
        turn = await add(*args, **values)
        await scenes.settle()
        return turn

    scenes.look = look
    monkeypatch.setattr(turns, "add", adding)
    channel = FakeChannel()
    channel.message_id = 9
    turn = await play(scenes, channel)
    assert [found.id for found in await tail(turns)] == [turn.id]


async def test_words_stay_forgotten_if_their_message_cannot_be_deleted(
    scenes: Scenes, turns: TurnStore
) -> None:
    channel = FakeChannel()
    turn = await play(scenes, channel)

    async def fail() -> None:
        raise RejectedError(Reason.MESSAGE_STAYS)

    with rejected(Reason.MESSAGE_STAYS):
        await scenes.delete(channel.ref(turn), fail)
    assert await turns.find(turn.id) is None


async def test_message_stays_if_the_words_cannot_be_deleted(
    scenes: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "BUSY_SECONDS", 0.0)
    channel = FakeChannel()
    turn = await play(scenes, channel)
    ref = channel.ref(turn)
    with locked(tmp_path / "bard.sqlite3"), rejected(Reason.MEMORY_BUSY):
        await scenes.delete(ref, channel.delete)
    assert turn.id in channel.shown
    assert (await scenes.find(ref)).reply == turn.reply


async def test_private_reply_is_no_part_of_the_channels_scene(
    scenes: Scenes, turns: TurnStore
) -> None:
    await play(scenes, FakeChannel())
    channel = FakeChannel()
    channel.audience = REQUEST.user_id
    turn = await play(scenes, channel)
    own = replace(GARDEN, audience=REQUEST.user_id)
    assert [found.id for found in await tail(turns, own)] == [turn.id]
    assert len(await tail(turns)) == 1
    assert await scenes.read_by(GARDEN, REQUEST.user_id) == own
    assert await scenes.read_by(GARDEN, 99) == GARDEN


async def test_limit_binds_when_the_reply_is_generated(
    database: Database, turns: TurnStore, weights: Path
) -> None:
    settings = GuildSettingsStore(database, Settings())
    inference = Inference(weights, workers=2)
    await inference.load()
    voices = Voices(VoiceStore(database), inference, Path())
    scenes, channel = Scenes(turns, inference, settings.rules, voices), FakeChannel()
    with RequestQueue(workers=1, waiting=2).admit(1, 3, 1) as request:
        async with request.worker():
            playing = asyncio.create_task(scenes.play(REQUEST, channel, request))
            while await asyncio.sleep(0, not playing.done() and not scenes._locks):
                pass
            await settings.change(1, max_chars=5)
        turn = await playing
    assert turn.max_chars == 5
    assert len(turn.reply) <= 5
    await settings.change(1, max_chars=2)
    await reroll(scenes, channel.ref(turn), channel)
    assert channel.shown[turn.id].number == 2
    assert len(channel.shown[turn.id].reply) <= 2
    await inference.close()


async def test_stopped_request_stores_nothing(scenes: Scenes, turns: TurnStore) -> None:
    with admitted() as request:
        request.stop()
        with pytest.raises(StoppedError):
            await scenes.play(REQUEST, FakeChannel(), request)
    assert await turns.unsettled() == []


async def test_take_that_was_shown_before_stays_if_discord_refuses_to_show_it_again(
    scenes: Scenes,
) -> None:
    channel = FakeChannel()
    turn = await play(scenes, channel)
    ref = channel.ref(turn)
    await reroll(scenes, ref, channel)
    newest = channel.shown[turn.id]
    await scenes.select_take(channel.ref(turn), 1, channel)
    channel.error = ValueError("too many edits of an old message")
    with pytest.raises(ValueError, match="old message"):
        await scenes.select_take(channel.ref(turn), 2, channel)
    channel.error = None
    found = await scenes.find(channel.ref(turn))
    assert (found.number, found.takes) == (1, 2)
    await scenes.select_take(channel.ref(turn), 2, channel)
    assert channel.shown[turn.id].reply == newest.reply


class Gated(FakeChannel):
    """A channel whose attempts to show a turn wait until the test lets them go on."""

    def __init__(self) -> None:
        super().__init__()
        self.sending, self.gate = asyncio.Event(), asyncio.Event()

    async def show(self, turn: Turn, dropped: str) -> Shown:
        self.sending.set()
        await self.gate.wait()
        return await super().show(turn, dropped)


async def test_press_during_an_edit_does_not_settle_it(scenes: Scenes, turns: TurnStore) -> None:
    channel = Gated()
    channel.gate.set()
    turn = await play(scenes, channel)
    ref = channel.ref(turn)
    channel.sending.clear()
    channel.gate.clear()
    channel.error, channel.arrives = UncertainError(), True
    rerolling = asyncio.create_task(reroll(scenes, ref, channel))
    await channel.sending.wait()
    assert (await scenes.find_in_scene(ref)).number == 1  # the message shows the first take
    channel.gate.set()
    with pytest.raises(UncertainError):
        await rerolling
    assert (await scenes.find(channel.ref(turn))).reply == channel.shown[turn.id].reply
    assert [turn.reply for turn in await tail(turns)] == [channel.shown[turn.id].reply]


async def test_look_that_takes_long_does_not_undo_a_later_choice(
    scenes: Scenes, turns: TurnStore
) -> None:
    channel = FakeChannel()
    turn = await play(scenes, channel)
    first = channel.ref(turn)
    channel.error, channel.arrives = UncertainError(), True
    with pytest.raises(UncertainError):
        await reroll(scenes, first, channel)
    channel.error = None
    looking, gate = asyncio.Event(), asyncio.Event()

    async def look(turn: Turn) -> Sighting | None:
        seen = channel.shown[turn.id].reply
        looking.set()
        await gate.wait()
        return Sighting(seen)

    scenes.look = look
    settling = asyncio.create_task(scenes.settle())
    await looking.wait()
    choosing = asyncio.create_task(scenes.select_take(channel.ref(turn), 1, channel))
    lock = scenes._locks.get(("message", first.message_id))
    while await asyncio.sleep(0, not choosing.done() and not (lock and lock._waiters)):
        pass
    gate.set()
    await asyncio.gather(settling, choosing)
    assert channel.shown[turn.id].number == 1
    assert [turn.number for turn in await tail(turns)] == [1]


@contextmanager
def unrecorded(turns: TurnStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the database be busy when the outcome of a turn is recorded."""

    async def fail(*_args: object) -> None:
        raise RejectedError(Reason.MEMORY_BUSY)

    with monkeypatch.context() as patch:
        patch.setattr(turns, "show", fail)
        yield


async def test_owed_outcome_may_be_dropped_while_others_are_recorded(
    scenes: Scenes, turns: TurnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = FakeChannel()
    with unrecorded(turns, monkeypatch):
        first = await play(scenes, channel)
        second = await play(scenes, channel, replace(REQUEST, place=replace(GARDEN, channel_id=4)))
    recording = asyncio.create_task(scenes.record_owed())
    await asyncio.sleep(0)
    await scenes.delete(channel.ref(second), channel.delete)
    await recording
    assert [turn.id for turn in await tail(turns)] == [first.id]
    assert await turns.find(second.id) is None


async def test_scene_whose_first_turn_is_not_recorded_yet_can_be_continued_and_read(
    scenes: Scenes, turns: TurnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = FakeChannel()
    with rejected(Reason.NO_SCENE):
        await scenes.require_scene(GARDEN)
    with unrecorded(turns, monkeypatch):
        turn = await play(scenes, channel)
        await scenes.require_scene(GARDEN)
        assert await scenes.read_by(GARDEN, REQUEST.user_id) == GARDEN
    place = await scenes.read_by(GARDEN, REQUEST.user_id)
    assert [shown.id for shown in (await scenes.page(place)).turns] == [turn.id]


async def test_refusal_is_told_although_it_cannot_be_recorded(
    scenes: Scenes, turns: TurnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = FakeChannel()
    channel.message_id, channel.error = 9, ValueError("refused")

    async def fail(*_args: object, **_options: object) -> None:
        raise RejectedError(Reason.MEMORY_BUSY)

    with monkeypatch.context() as patch:
        patch.setattr(turns, "withdraw", fail)
        with pytest.raises(ValueError, match="refused"):
            await play(scenes, channel)

    async def look(_turn: Turn) -> Sighting | None:
        return Sighting(None)

    scenes.look = look
    await scenes.settle()
    assert await turns.unsettled() == []
    assert await tail(turns) == []


async def test_new_scene_is_not_that_of_a_turn_of_unknown_outcome(
    scenes: Scenes, turns: TurnStore
) -> None:
    channel, lost = FakeChannel(), FakeChannel()
    lost.error, lost.arrives = UncertainError(), True
    fresh = replace(REQUEST, fresh=True)
    with pytest.raises(UncertainError):
        await play(scenes, lost, fresh)
    later = await play(scenes, channel, fresh)
    (pending,) = await turns.unsettled()
    await scenes.find(lost.ref(pending))
    assert [turn.id for turn in await tail(turns)] == [later.id]


async def test_end_also_ends_the_scene_of_a_turn_of_unknown_outcome(
    scenes: Scenes, turns: TurnStore
) -> None:
    lost = FakeChannel()
    lost.error, lost.arrives = UncertainError(), True
    with pytest.raises(UncertainError):
        await play(scenes, lost)
    (pending,) = await turns.unsettled()
    await scenes.end(GARDEN)
    with rejected(Reason.SCENE_OVER):
        await scenes.find_in_scene(lost.ref(pending))
    assert await tail(turns) == []


async def test_take_whose_message_cannot_be_read_counts_as_shown(
    scenes: Scenes, turns: TurnStore
) -> None:
    channel, looked = FakeChannel(), []

    async def look(turn: Turn) -> Sighting | None:
        looked.append(turn.id)
        return Sighting(None, readable=False)

    scenes.look = look
    turn = await play(scenes, channel)
    ref = channel.ref(turn)
    channel.error = UncertainError()
    with pytest.raises(UncertainError):
        await reroll(scenes, ref, channel)
    channel.error = None
    for _ in range(3):
        await play(scenes, channel)
    assert looked == [turn.id]
    assert await turns.unsettled() == []
    assert (await tail(turns))[0].number == 2


class Closed:
    """Looks at the messages of a channel, which may be closed to the bot for a while."""

    def __init__(self, channel: FakeChannel) -> None:
        self.channel = channel
        self.closed = True
        self.looked: list[int] = []

    async def look(self, turn: Turn) -> Sighting | None:
        self.looked.append(turn.id)
        if self.closed:
            return Sighting(None, readable=False, closed=True)
        return Sighting(self.channel.shown[turn.id].reply)


@pytest.fixture
def closed(scenes: Scenes, monkeypatch: pytest.MonkeyPatch) -> Closed:
    closed = Closed(FakeChannel())
    scenes.look = closed.look
    monkeypatch.setattr(settlement, "CLOSED_SECONDS", 0.0)
    return closed


@pytest.mark.parametrize("arrives", [False, True])
async def test_take_counts_as_shown_while_its_channel_is_closed_and_no_longer(
    scenes: Scenes, turns: TurnStore, closed: Closed, *, arrives: bool
) -> None:
    channel = closed.channel
    turn = await play(scenes, channel)
    channel.error, channel.arrives = UncertainError(), arrives
    with pytest.raises(UncertainError):
        await reroll(scenes, channel.ref(turn), channel)
    channel.error = None
    await play(scenes, channel)
    assert (await tail(turns))[0].number == 2
    closed.closed = False
    await play(scenes, channel)
    shown = (await tail(turns))[0]
    assert (shown.number, shown.reply) == (1 + arrives, channel.shown[turn.id].reply)
    assert await turns.unsettled() == []


async def test_press_decides_which_take_is_shown_in_a_channel_that_stays_closed(
    scenes: Scenes, turns: TurnStore, closed: Closed
) -> None:
    channel = closed.channel
    turn = await play(scenes, channel)
    channel.error = UncertainError()
    with pytest.raises(UncertainError):
        await reroll(scenes, channel.ref(turn), channel)
    channel.error = None
    await play(scenes, channel)
    assert (await scenes.find(channel.ref(turn))).number == 1
    assert (await tail(turns))[0].number == 1
    assert await turns.unsettled() == []


async def test_new_message_is_found_once_its_channel_is_open_again(
    scenes: Scenes, turns: TurnStore, closed: Closed
) -> None:
    channel = closed.channel
    channel.error, channel.arrives, channel.message_id = UncertainError(), True, 77
    with pytest.raises(UncertainError):
        await play(scenes, channel)
    channel.error = channel.message_id = None
    second = await play(scenes, channel)
    assert [turn.id for turn in await tail(turns)] == [second.id]
    closed.closed = False
    await play(scenes, channel)
    assert len(await tail(turns)) == 3


async def test_closed_channel_is_looked_at_from_time_to_time(
    scenes: Scenes, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = closed.channel
    monkeypatch.setattr(settlement, "CLOSED_SECONDS", math.inf)
    turn = await play(scenes, channel)
    channel.error = UncertainError()
    for attempt in (1, 2):
        with pytest.raises(UncertainError):
            await reroll(scenes, channel.ref(turn), channel)
        channel.error = None
        for _ in range(3):
            await play(scenes, channel)
        await scenes.settle()
        assert closed.looked == [turn.id] * attempt
        channel.error = UncertainError()


@pytest.mark.parametrize("arrives", [False, True])
async def test_refusal_does_not_hide_that_an_earlier_attempt_has_shown_the_take(
    scenes: Scenes, turns: TurnStore, closed: Closed, *, arrives: bool
) -> None:
    """The library repeats a request by itself, and tells the last answer alone."""
    channel, closed.closed = closed.channel, False
    turn = await play(scenes, channel)
    ref = channel.ref(turn)
    channel.error, channel.arrives = ValueError("refused"), arrives
    if arrives:
        await reroll(scenes, ref, channel)
    else:
        with pytest.raises(ValueError, match="refused"):
            await reroll(scenes, ref, channel)
    assert [shown.reply for shown in await tail(turns)] == [channel.shown[turn.id].reply]
    assert await turns.unsettled() == []
    assert (await turns.find(turn.id) or turn).takes == 1 + arrives


async def test_new_message_that_cannot_be_read_is_looked_at_once(
    scenes: Scenes, turns: TurnStore
) -> None:
    channel, looked = FakeChannel(), []

    async def look(turn: Turn) -> Sighting | None:
        looked.append(turn.id)
        return Sighting(None, readable=False)

    scenes.look = look
    channel.error, channel.arrives, channel.message_id = UncertainError(), True, 77
    with pytest.raises(UncertainError):
        await play(scenes, channel)
    (turn,) = await turns.unsettled()
    ref = channel.ref(turn)
    channel.error = channel.message_id = None
    for _ in range(3):
        await play(scenes, channel)
    await scenes.settle()
    assert looked == [turn.id]
    assert (await scenes.find(ref)).shown == 1  # a press of its button decides


@pytest.mark.parametrize(("scope", "target"), [("user", REQUEST.user_id), ("guild", 1)])
async def test_reply_that_is_generated_during_a_deletion_is_not_stored(
    scenes: Scenes, turns: TurnStore, monkeypatch: pytest.MonkeyPatch, scope: Scope, target: int
) -> None:
    channel, add = FakeChannel(), turns.add

    async def add_later(*args: Any, **values: Any) -> Turn:
        deletion = await turns.deletions.record(scope, target, gone=scope == "guild")
        await turns.deletions.carry_out(deletion)
        return await add(*args, **values)

    monkeypatch.setattr(turns, "add", add_later)
    with pytest.raises(StoppedError):
        await play(scenes, channel)
    assert not channel.shown
    assert await turns.unsettled() == []


async def test_deleted_message_is_found_without_its_channel(
    scenes: Scenes, turns: TurnStore
) -> None:
    channel = FakeChannel()
    turn = await play(scenes, channel)  # in a place with the id of the interaction
    other_channel = GARDEN.channel_id + 1
    assert await scenes.delete_messages(other_channel, {turn.id}) == 1
    assert await tail(turns) == []


async def test_message_that_is_deleted_before_its_turn_is_recorded_takes_it_along(
    scenes: Scenes, turns: TurnStore
) -> None:
    """The turn of a reply to a message has no id of its own message before that."""
    deletions: list[asyncio.Task[int]] = []

    class Channel(FakeChannel):
        async def show(self, turn: Turn, dropped: str) -> Shown:
            shown = await super().show(turn, dropped)
            deleting = scenes.delete_messages(2, {shown.message_id})
            deletions.append(asyncio.create_task(deleting))
            await turns.unsettled()
            return shown

    await play(scenes, Channel())
    assert await asyncio.gather(*deletions) == [1]
    assert await tail(turns) == []


async def test_deleted_message_does_not_wait_for_a_turn_in_progress(
    scenes: Scenes, turns: TurnStore
) -> None:
    """Discord tells it once, and the bot may be killed before that turn is shown."""
    turn = await play(scenes, FakeChannel())
    async with asyncio.timeout(60), scenes._lock("channel", 2):
        deleting = asyncio.create_task(scenes.delete_messages(2, {turn.id}))
        while await tail(turns):  # noqa: ASYNC110 - a database has no event
            await asyncio.sleep(0)
    assert await deleting == 1


async def test_message_whose_turn_is_owed_takes_it_along(
    scenes: Scenes, turns: TurnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = FakeChannel()

    async def busy(*_: object) -> None:
        raise RejectedError(Reason.MEMORY_BUSY)

    with monkeypatch.context() as patch:
        patch.setattr(turns, "show", busy)
        turn = await play(scenes, channel)
    assert await scenes.delete_messages(2, {turn.id}) == 1
    await scenes.record_owed()
    assert await tail(turns) == await turns.unsettled() == []
