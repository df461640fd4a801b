"""The services, opened and closed together without Discord."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

import bot.bard
from bot import Bard, Settings, StartupError
from bot.core.scenes import Shown
from bot.storage.turns import Place, TurnRequest

PLACE = Place(guild_id=None, channel_id=2)
REQUEST = TurnRequest(place=PLACE, user_id=3, prompt="ROMEO:", max_chars=20)


@pytest.fixture
def threads_before() -> set[threading.Thread]:
    return set(threading.enumerate())


def remaining_threads(before: set[threading.Thread]) -> list[str]:
    """Return the names of later threads that do not end, except those of asyncio's executor."""
    later = [thread for thread in threading.enumerate() if thread not in before]
    later = [thread for thread in later if not thread.name.startswith("asyncio_")]
    for thread in later:
        thread.join(5)  # SQLite's ends shortly after its connection was closed
    return [thread.name for thread in later if thread.is_alive()]


def is_closed(database: Path) -> bool:
    """Return whether no connection to a database is open: the last one deletes the log."""
    return not database.with_name(f"{database.name}-wal").exists()


async def test_open_and_close(settings: Settings, threads_before: set[threading.Thread]) -> None:
    bard = await Bard.open(settings)
    rules = bard.guild_settings.rules(None)

    class Message:
        message_id: int | None = 5
        token: str | None = None

        async def show(self, _turn: object, _dropped: str) -> Shown:
            return Shown(5, 0)

    with bard.admission.accept(1, user_id=3, guild_id=None, channels={2}, rules=rules) as request:
        turn = await bard.scenes.play(REQUEST, Message(), request)
    assert [found.id for found in await bard.turns.tail(PLACE, 1, chars=100)] == [turn.id]
    assert set(threading.enumerate()) > threads_before
    assert not is_closed(settings.database_path)

    await bard.close()
    assert bard.closing
    assert remaining_threads(threads_before) == []
    assert is_closed(settings.database_path)
    reopened = await Bard.open(settings)
    assert [found.id for found in await reopened.turns.tail(PLACE, 1, chars=100)] == [turn.id]
    await reopened.close()


@pytest.mark.parametrize("problem", ["weights", "database"])
async def test_failed_open_leaves_nothing_open(
    settings: Settings, threads_before: set[threading.Thread], problem: str
) -> None:
    if problem == "weights":
        settings = settings.model_copy(update={"weights": Path("missing.pth")})
    else:
        with closing(sqlite3.connect(settings.database_path)) as connection:
            connection.execute("CREATE TABLE other (x)")
    with pytest.raises(StartupError):
        await Bard.open(settings)
    assert remaining_threads(threads_before) == []
    assert is_closed(settings.database_path)


async def test_close_waits_for_tracked_tasks(settings: Settings) -> None:
    bard = await Bard.open(settings)
    gate = asyncio.Event()

    async def read_late() -> int:
        await gate.wait()
        return await bard.turns.scene(PLACE)

    task = asyncio.create_task(read_late())
    bard.track(task)
    closing = asyncio.create_task(bard.close())
    await asyncio.sleep(0)
    assert bard.closing
    assert not closing.done()
    gate.set()
    await closing
    assert task.result() == 0


async def test_close_cancels_late_tasks(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bot.bard, "DRAIN_SECONDS", 0.0)
    bard = await Bard.open(settings)
    cleaned_up = []

    async def never_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            # The services are still open while a cancelled task cleans up.
            cleaned_up.append(await bard.turns.scene(PLACE))

    task = asyncio.create_task(never_end())
    bard.track(task)
    await asyncio.sleep(0)
    await asyncio.wait_for(bard.close(), 30)
    assert task.cancelled()
    assert cleaned_up == [0]


async def test_close_in_a_tracked_task_does_not_wait_for_itself(settings: Settings) -> None:
    bard = await Bard.open(settings)
    task = asyncio.create_task(bard.close())
    bard.track(task)
    await asyncio.wait_for(task, 30)
    assert is_closed(settings.database_path)
