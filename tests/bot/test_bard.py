"""The services, opened and closed together without Discord."""

import asyncio
import math
import signal
import sqlite3
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

import bot.bard
from bot import Bard, Settings, StartupError
from bot.core.settlement import Shown
from bot.core.shared_folder import SharedFolder
from bot.core.training_runner import TrainingRequest
from bot.errors import Reason, RejectedError
from bot.storage.blocks import BlockStore
from bot.storage.records import Place, TurnRequest
from tests.bot.conftest import rejected

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
    rules = partial(bard.guild_settings.rules, None)

    class Message:
        message_id: int | None = 5
        token: str | None = None

        async def show(self, _turn: object, _dropped: str) -> Shown:
            return Shown(5, 0)

    with bard.admission.accept(1, user_id=3, guild_id=None, channels={2}, rules=rules) as request:
        turn = await bard.scenes.play(REQUEST, Message(), request)
    assert [found.id for found in await bard.turns.tail(PLACE, 1, chars=100)] == [turn.id]
    # Not that all of those before still run: one of an earlier test may have ended meanwhile.
    assert set(threading.enumerate()) - threads_before
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


async def test_blocks_of_other_processes_that_cannot_be_stored_yet_do_not_prevent_the_start(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> bool:
        raise RejectedError(Reason.MEMORY_FULL)

    shared = tmp_path / "shared"
    SharedFolder(shared).decide_block(7, blocked=True)
    with monkeypatch.context() as patched:
        patched.setattr(BlockStore, "add", fail)
        bard = await Bard.open(settings.model_copy(update={"shared_dir": shared}))
    assert 7 not in bard.blocks
    await bard.shared_blocks.follow()
    assert 7 in bard.blocks
    await bard.close()


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
    monkeypatch.setattr(bot.bard, "GRACE_SECONDS", 0.0)
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


async def submit(bard: Bard) -> None:
    """Make a request for which there is no worker."""
    rules = partial(bard.guild_settings.rules, None)
    with bard.admission.accept(1, user_id=3, guild_id=None, channels={2}, rules=rules) as request:
        async with request.stoppable(), request.worker():
            await asyncio.Event().wait()


async def test_hasten_ends_requests_with_a_reason_and_others_after_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bot.bard, "GRACE_SECONDS", math.inf)
    bard = await Bard.open(settings)
    other = asyncio.create_task(asyncio.Event().wait())
    running = asyncio.create_task(submit(bard))
    for task in (running, other):
        bard.track(task)
    closing = asyncio.create_task(bard.close())
    await asyncio.sleep(0)
    assert bard.closing
    assert not closing.done()
    bard.hasten()
    with rejected(Reason.CLOSING):
        await running
    assert not other.done()
    await closing
    assert other.cancelled()
    assert is_closed(settings.database_path)


async def test_hasten_before_the_end(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bot.bard, "GRACE_SECONDS", math.inf)
    bard = await Bard.open(settings)
    running = asyncio.create_task(submit(bard))
    bard.track(running)
    await asyncio.sleep(0)
    bard.hasten()
    await asyncio.wait_for(bard.close(), 30)
    assert isinstance(running.exception(), RejectedError)


@pytest.mark.parametrize("everything", [False, True], ids=["the caller", "every task"])
async def test_cancelled_close_hastens_and_skips_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, *, everything: bool
) -> None:
    monkeypatch.setattr(bot.bard, "GRACE_SECONDS", math.inf)
    bard = await Bard.open(settings)
    running = asyncio.create_task(submit(bard))
    bard.track(running)
    closing = asyncio.create_task(bard.close())
    await asyncio.sleep(0)
    # As `asyncio.run` does after a second Ctrl-C.
    for task in asyncio.all_tasks() - {asyncio.current_task()} if everything else {closing}:
        task.cancel()
    await asyncio.wait({closing}, timeout=30)
    assert closing.cancelled()
    (end,) = await asyncio.gather(running, return_exceptions=True)
    assert isinstance(end, asyncio.CancelledError if everything else RejectedError)
    assert is_closed(settings.database_path)
    await (await Bard.open(settings)).close()  # the locks are free


async def test_service_that_hangs_does_not_keep_the_bard_open(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    bard = await Bard.open(settings)
    started, gate = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        gate.wait()

    hanging = bard.inference._threads.run(hang)
    await asyncio.to_thread(started.wait)
    bard.hasten()
    await asyncio.wait_for(bard.close(), 30)
    assert "did not end in time" in caplog.text
    # Its files are released when it ends.
    with pytest.raises(StartupError, match="in use"):
        await Bard.open(settings)
    gate.set()
    await hanging
    assert bard._closed is not None
    await bard._closed
    await (await Bard.open(settings)).close()


async def test_child_that_goes_on_is_killed_at_the_end_of_the_grace(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bot.bard, "GRACE_SECONDS", 0.0)
    bard = await Bard.open(settings)
    active = await bard.training.start(
        TrainingRequest(user_id=3, guild_id=None, channel_id=2, preset="quick", minutes=1)
    )
    await asyncio.wait_for(bard.close(), 30)
    # The request to end comes first, and ends a child that does not handle it yet.
    assert active.child.returncode in {-signal.SIGKILL, -signal.SIGTERM}
    assert active.ended.result().state == "interrupted"


async def test_second_bard_on_the_same_files_is_refused(settings: Settings) -> None:
    bard = await Bard.open(settings)
    for changed in ("database", "runs_dir"):
        other = settings.model_copy(update={changed: settings.database_path.with_name("other")})
        with pytest.raises(StartupError, match="in use by another bot"):
            await Bard.open(other)
    await bard.close()
    await (await Bard.open(settings)).close()


async def test_close_in_a_tracked_task_does_not_wait_for_itself(settings: Settings) -> None:
    bard = await Bard.open(settings)
    task = asyncio.create_task(bard.close())
    bard.track(task)
    await asyncio.wait_for(task, 30)
    assert is_closed(settings.database_path)
