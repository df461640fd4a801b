"""Processes that share a folder hold the blocks of each other, and the last decision holds."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from bot.concurrency import Threads
from bot.core.promotions import Sharing
from bot.core.shared_blocks import SharedBlocks
from bot.core.shared_folder import LIFT_DAYS, BlockDecision, SharedFolder
from bot.errors import Reason
from bot.storage.blocks import BlockStore
from bot.storage.database import Database, open_database
from tests.bot.conftest import rejected
from tests.bot.core.conftest import ANN, BEN

DAY = 86_400


class Process:
    """The blocks of one process that shares a folder."""

    blocks: SharedBlocks
    store: BlockStore

    def __init__(self, database: Database, folder: Path, threads: Threads) -> None:
        self._database = database
        self._threads = threads
        self.folder = folder

    async def start(self) -> None:
        """Open what a process opens, or open it again as after a restart."""
        self.store = BlockStore(self._database)
        await self.store.load()
        shared = Sharing(SharedFolder(self.folder), self._threads)
        self.blocks = SharedBlocks(self.store, shared)
        await self.blocks.follow()

    def blocked(self) -> set[int]:
        return set(self.store.all())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shared"


@pytest.fixture
async def processes(
    tmp_path: Path, folder: Path, threads: Threads
) -> AsyncIterator[tuple[Process, Process]]:
    async with AsyncExitStack() as stack:
        started = []
        for number in range(2):
            opened = open_database(tmp_path / f"{number}.sqlite3")
            process = Process(await stack.enter_async_context(opened), folder, threads)
            await process.start()
            started.append(process)
        first, second = started
        yield first, second


def decisions(folder: Path) -> list[str]:
    """Return what the folder says about each person."""
    return sorted(path.name.partition("-")[2] for path in (folder / "blocks").iterdir())


@contextmanager
def a_day_ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the clock forward during the block."""
    tomorrow = time.time() + DAY
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: tomorrow)
        yield


@contextmanager
def away(folder: Path) -> Iterator[None]:
    """Make a folder unavailable during the block."""
    elsewhere = folder.rename(folder.with_name("elsewhere"))
    yield
    elsewhere.rename(folder)


async def test_last_decision_about_each_person_holds_in_all_processes(
    processes: tuple[Process, Process], folder: Path
) -> None:
    first, second = processes
    assert await first.blocks.block(ANN)
    assert not await first.blocks.block(ANN)
    assert await second.blocks.block(BEN)
    for process in processes:
        await process.blocks.follow()
        assert process.blocked() == {ANN, BEN}
    assert await second.blocks.lift(ANN)
    await first.blocks.follow()
    assert first.blocked() == second.blocked() == {BEN}
    assert not await first.blocks.lift(ANN)
    # Within the same second, and before the other process has looked.
    await first.blocks.block(ANN)
    await second.blocks.lift(ANN)
    await first.blocks.block(ANN)
    for process in processes:
        await process.blocks.follow()
        assert process.blocked() == {ANN, BEN}
    assert decisions(folder) == [f"{ANN}-blocked", f"{BEN}-blocked"]


@pytest.mark.parametrize("restarted", [0, 1])
async def test_decision_holds_after_a_restart_and_reaches_a_process_that_did_not_run(
    processes: tuple[Process, Process], restarted: int
) -> None:
    first, _ = processes
    await first.blocks.block(ANN)
    await processes[restarted].start()
    for process in processes:
        await process.blocks.follow()
        assert process.blocked() == {ANN}
    await first.blocks.lift(ANN)
    await processes[restarted].start()
    for process in processes:
        await process.blocks.follow()
        assert process.blocked() == set()


async def test_block_that_cannot_be_shared_holds_though_it_follows_a_lift_at_once(
    processes: tuple[Process, Process], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, behind = processes
    with a_day_ahead(monkeypatch):
        await ahead.blocks.block(ANN)
    await behind.blocks.follow()
    await behind.blocks.lift(ANN)
    with away(folder):
        await behind.blocks.block(ANN)
    for process in (behind, ahead):
        await process.blocks.follow()
        assert process.blocked() == {ANN}


async def test_clocks_that_differ_do_not_decide(
    processes: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, behind = processes
    with a_day_ahead(monkeypatch):
        await ahead.blocks.block(ANN)
        await ahead.blocks.block(BEN)
    await behind.blocks.follow()
    await behind.blocks.lift(ANN)
    await behind.blocks.lift(BEN)
    await behind.blocks.block(BEN)
    for process in processes:
        await process.blocks.follow()
        assert process.blocked() == {BEN}
    for process in processes:
        await process.start()
        assert process.blocked() == {BEN}


async def test_block_from_before_there_was_a_folder_is_shared(
    processes: tuple[Process, Process],
) -> None:
    first, second = processes
    await first.store.add(ANN, time.time())
    await first.start()
    await second.blocks.follow()
    assert second.blocked() == {ANN}


async def test_block_that_cannot_be_shared_binds_here_and_is_shared_later_also_after_a_restart(
    processes: tuple[Process, Process],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = processes
    await first.blocks.block(ANN)
    with a_day_ahead(monkeypatch):
        await second.blocks.lift(ANN)
    await first.blocks.follow()
    assert first.blocked() == set()
    with away(folder):
        assert await first.blocks.block(ANN)
        assert first.blocked() == {ANN}
        assert "Other processes do not know of a block yet" in caplog.text
        with pytest.raises(FileNotFoundError):
            await second.blocks.follow()
    await first.start()
    await second.blocks.follow()
    assert first.blocked() == second.blocked() == {ANN}


async def test_lift_that_cannot_be_shared_is_rejected_and_the_block_stays(
    processes: tuple[Process, Process], folder: Path
) -> None:
    first, second = processes
    await first.blocks.block(ANN)
    with away(folder), rejected(Reason.LIFT_NOT_SHARED):
        await first.blocks.lift(ANN)
    assert first.blocked() == {ANN}
    await second.blocks.follow()
    assert second.blocked() == {ANN}


async def test_person_who_is_blocked_again_while_the_folder_is_read_stays_blocked(
    processes: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = processes
    await first.blocks.block(ANN)
    await second.blocks.lift(ANN)
    has_read, go, read = threading.Event(), threading.Event(), SharedFolder.block_decisions

    def read_slowly(shared: SharedFolder) -> dict[int, BlockDecision]:
        found = read(shared)
        has_read.set()
        go.wait()
        return found

    monkeypatch.setattr(SharedFolder, "block_decisions", read_slowly)
    following = asyncio.create_task(first.blocks.follow())
    await asyncio.to_thread(has_read.wait)
    before = first.store.blocked_at(ANN)
    blocking = asyncio.create_task(first.blocks.block(ANN))
    async with asyncio.timeout(60):
        while first.store.blocked_at(ANN) == before:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)
    go.set()
    await following
    assert first.blocked() == {ANN}
    await blocking
    await second.blocks.follow()
    assert second.blocked() == {ANN}


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        ".1-5-blocked.abc",
        "1-5-banned",
        "01-5-blocked",
        "1-0-blocked",
        "1-05-blocked",
        f"1-{2**63}-blocked",
        f"{10**12}-5-blocked",
        "-1-5-blocked",
        "1-5-blocked ",
        "\u0661-5-blocked",
    ],
)
async def test_foreign_file_changes_nothing_and_stays(
    processes: tuple[Process, Process], folder: Path, name: str
) -> None:
    first, second = processes
    (folder / "blocks" / name).write_bytes(b"\xff" * 100)
    (folder / "blocks" / f"1-{BEN}-blocked").mkdir()  # a name is all that counts
    await first.blocks.block(ANN)
    await second.blocks.follow()
    assert second.blocked() == {ANN, BEN}
    await second.blocks.lift(BEN)
    await first.blocks.follow()
    assert first.blocked() == {ANN}
    assert (folder / "blocks" / name).exists()


async def test_folder_has_a_file_for_each_block_and_each_lift_of_late(
    processes: tuple[Process, Process], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = processes
    for _ in range(5):
        await first.blocks.block(ANN)
        await second.blocks.lift(ANN)
    await first.blocks.block(BEN)
    for process in processes:
        await process.blocks.follow()
    assert decisions(folder) == [f"{ANN}-lifted", f"{BEN}-blocked"]
    later = time.time() + (LIFT_DAYS + 1) * DAY
    monkeypatch.setattr(time, "time", lambda: later)
    await first.blocks.follow()
    assert decisions(folder) == [f"{BEN}-blocked"]
    assert first.blocked() == {BEN}
