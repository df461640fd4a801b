"""Processes that share a folder use the weights, and carry out the deletions, of each other."""

import asyncio
import json
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from bot.concurrency import Threads
from bot.core import promotions
from bot.core.promotions import Promotions, Sharing, weights_path
from bot.core.request_queue import RequestQueue
from bot.core.shared_deletions import SharedDeletions
from bot.core.shared_folder import (
    DELETION_DAYS,
    KEPT_WEIGHTS,
    Decision,
    SharedFolder,
    new_request_id,
)
from bot.errors import Reason, StartupError
from bot.storage.database import open_database
from bot.storage.runs import RunStore
from bot.storage.shared_deletions import SharedDeletionStore
from bot.storage.turns import TurnStore
from noskgpt import checkpoint as checkpoints
from tests.bot.conftest import rejected
from tests.bot.core.conftest import ANN, TrainingServices, name_of, trained, truncate


class Process(TrainingServices):
    """The services of one process that shares a folder."""

    shared: SharedFolder

    async def start(self) -> None:
        """Open what a process opens, or open it again as after a restart."""
        self.shared = SharedFolder(self.folder.parent.parent / "shared")
        self.promotions = Promotions(
            self.runs, self.inference, self.folder, Sharing(self.shared, self.threads)
        )
        await self.promotions.load()

    async def finished(self, seed: int) -> int:
        """Store a finished run; return its id."""
        self.training._promotions = self.promotions
        return (await self.finish_run(trained(seed))).id


@asynccontextmanager
async def opened(folder: Path, name: str, threads: Threads) -> AsyncIterator[Process]:
    weights = folder / "configured.pth"
    if not weights.exists():
        checkpoints.save(trained(1, 2.0), weights)
    own = folder / name
    own.mkdir()
    async with open_database(own / "bard.sqlite3") as database:
        process = Process(RunStore(database), weights, own / "runs", threads)
        await process.start()
        try:
            yield process
        finally:
            await process.training.close()
            await process.inference.close()


@pytest.fixture
async def processes(tmp_path: Path, threads: Threads) -> AsyncIterator[tuple[Process, Process]]:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(opened(tmp_path, "first", threads))
        second = await stack.enter_async_context(opened(tmp_path, "second", threads))
        yield first, second


async def test_last_decision_of_any_process_holds_for_all(
    processes: tuple[Process, Process],
) -> None:
    first, second = processes
    configured = first.active_weights
    run, other = await first.finished(2), await second.finished(3)
    await first.promotions.promote(run, ANN)
    await second.promotions.promote(other, ANN)
    for process in processes:
        await process.promotions.follow()
        assert process.active_weights == name_of(trained(3))
    assert await first.promotions.active() is None
    assert await second.promotions.active() == other
    # A rollback restores what was active in that process before, for all.
    assert await first.promotions.roll_back(ANN) is not None
    await second.promotions.follow()
    assert {p.active_weights for p in processes} == {name_of(trained(2))}
    assert await second.promotions.roll_back(ANN) is not None
    await first.promotions.follow()
    assert {p.active_weights for p in processes} == {name_of(trained(3))}
    assert await second.promotions.roll_back(ANN) is None
    await first.promotions.follow()
    assert {p.active_weights for p in processes} == {configured}
    with rejected(Reason.NOTHING_TO_ROLL_BACK):
        await second.promotions.roll_back(ANN)


async def test_restarted_process_has_the_last_decision_and_knows_whose_it_is(
    processes: tuple[Process, Process],
) -> None:
    first, second = processes
    run = await first.finished(2)
    await first.promotions.promote(run, ANN)
    for process in processes:
        await process.start()
        assert process.active_weights == name_of(trained(2))
    assert await first.promotions.active() == run
    assert await second.promotions.active() is None


async def test_promotion_from_before_there_was_a_folder_is_shared(
    processes: tuple[Process, Process],
) -> None:
    first, second = processes
    run = await first.finished(2)
    await first.runs.promote(run, ANN)
    await first.start()
    await second.promotions.follow()
    assert second.active_weights == name_of(trained(2))


@pytest.mark.parametrize("damage", ["truncated", "other weights", "missing", "foreign"])
async def test_damaged_weights_are_refused_and_used_once_they_are_complete(
    processes: tuple[Process, Process], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = processes
    configured = second.active_weights
    await first.promotions.promote(await first.finished(2), ANN)
    path = first.shared.path(name_of(trained(2)))
    good = path.read_bytes()
    match damage:
        case "truncated":
            await truncate(path)
        case "other weights":
            checkpoints.save(trained(3), path)
        case "missing":
            path.unlink()
        case _:
            path.write_bytes(b"PK\x03\x04" + os.urandom(1000))
    for _ in range(2):
        await second.promotions.follow()
        assert second.active_weights == configured
    assert len([r for r in caplog.records if "Cannot use the shared weights" in r.message]) == 1
    path.write_bytes(good)
    await second.promotions.follow()
    assert second.active_weights == name_of(trained(2))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"weights": "../../configured", "id": "1"}',
        b'{"weights": "/etc/passwd", "id": "1"}',
        b'{"weights": 5, "id": "1"}',
        b"\xff\xfe",
        b"[" * 4000,
        b'{"weights": null, "id": "' + b"1" * 5000 + b'"}',
    ],
)
async def test_damaged_decision_changes_nothing(
    processes: tuple[Process, Process], text: bytes
) -> None:
    first, second = processes
    await first.promotions.promote(await first.finished(2), ANN)
    await second.promotions.follow()
    (second.folder.parent.parent / "shared/active.json").write_bytes(text)
    await second.promotions.follow()
    assert second.active_weights == name_of(trained(2))
    await first.promotions.roll_back(ANN)
    await second.promotions.follow()
    assert second.active_weights == first.active_weights != name_of(trained(2))


async def test_decision_that_cannot_be_shared_holds_here_and_is_shared_later(
    processes: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = processes
    run = await first.finished(2)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(first.shared, "decide", full)
        await first.promotions.promote(run, ANN)
        await first.promotions.follow()
        await second.promotions.follow()
        assert first.active_weights == name_of(trained(2)) != second.active_weights
    await first.promotions.follow()
    await second.promotions.follow()
    assert second.active_weights == name_of(trained(2))


async def test_decision_that_could_not_be_shared_is_shared_after_a_restart(
    processes: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = processes
    run, other = await first.finished(2), await second.finished(3)
    await second.promotions.promote(other, ANN)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(first.shared, "decide", full)
        await first.promotions.promote(run, ANN)
    await first.start()
    await second.promotions.follow()
    assert {p.active_weights for p in processes} == {name_of(trained(2))}
    await second.promotions.promote(other, ANN)
    await first.start()
    assert {p.active_weights for p in processes} == {name_of(trained(3))}


async def test_decision_that_was_being_shared_at_a_shutdown_is_shared_after_it(
    processes: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = processes
    run, other = await first.finished(2), await second.finished(3)
    await second.promotions.promote(other, ANN)
    asked, over = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hang(*_: object) -> None:
        loop.call_soon_threadsafe(asked.set)
        over.wait()
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(first.shared, "decide", hang)
        decision = asyncio.create_task(first.promotions.promote(run, ANN))
        try:
            await asked.wait()
            decision.cancel()
            await asyncio.wait({decision})
        finally:
            over.set()
    await first.start()
    await second.promotions.follow()
    assert {p.active_weights for p in processes} == {name_of(trained(2))}


async def test_old_weights_are_removed_and_the_active_ones_stay(
    processes: tuple[Process, Process],
) -> None:
    first, _ = processes
    names = []
    for number in range(KEPT_WEIGHTS + 2):
        path = weights_path(first.folder, 90 + number)
        checkpoints.save(trained(50 + number), path)
        names.append(name_of(trained(50 + number)))
        first.shared.decide(names[-1], path)
        os.utime(first.shared.path(names[-1]), (number, number))
    kept = {file.stem for file in (first.folder.parent.parent / "shared/weights").iterdir()}
    assert kept == set(names[-KEPT_WEIGHTS:])


async def test_folder_that_does_not_answer_delays_no_decision_for_long(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    monkeypatch.setattr(promotions, "ANSWER_SECONDS", 0.05)
    async with opened(tmp_path, "first", threads) as process:
        run, decide = await process.finished(2), process.shared.decide

        def decide_late(weights: str | None, source: Path | None) -> Decision:
            answer.wait(60)
            return decide(weights, source)

        process.promotions._sharing = Sharing(process.shared, slow := Threads(1, "slow"))
        monkeypatch.setattr(process.shared, "decide", decide_late)
        await process.promotions.promote(run, ANN)
        with pytest.raises(OSError, match="does not answer"):
            await process.promotions._sharing.run(process.shared.decision)
        assert not process.promotions.lock.locked()
        answer.set()
        await slow.close()
        process.promotions._sharing = Sharing(process.shared, threads)
        await process.promotions.follow()
    decision = SharedFolder(tmp_path / "shared").decision()
    assert decision is not None
    assert decision.weights == name_of(trained(2))


async def test_deletion_is_carried_out_once_by_each_other_process(
    tmp_path: Path, threads: Threads, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    shared = Sharing(SharedFolder(tmp_path / "shared"), threads)
    async with AsyncExitStack() as stack:
        asked, *others = [
            SharedDeletions(
                shared,
                SharedDeletionStore(database),
                TurnStore(database).deletions,
                RequestQueue(1, 1),
            )
            for database in [
                await stack.enter_async_context(open_database(tmp_path / f"{number}.sqlite3"))
                for number in range(3)
            ]
        ]
        await asked.request(ANN)
        for each in (asked, *others, asked, *others):
            await each.carry_out()
    assert caplog.text.count("Deleted the turns of a person who asked for it") == len(others)
    for number in range(3):
        with closing(sqlite3.connect(tmp_path / f"{number}.sqlite3")) as database:
            ((request,),) = database.execute("SELECT request FROM shared_deletions").fetchall()
            assert len(request) == len(new_request_id())


def test_old_requests_are_over_and_other_files_are_left_alone(tmp_path: Path) -> None:
    shared, folder = SharedFolder(tmp_path), tmp_path / "deletions"
    new = new_request_id()
    shared.request_deletion(new, ANN)
    old = f"{time.time() - (DELETION_DAYS + 1) * 86_400:.0f}-5-{'0' * 16}"
    for name in (old, "notes.txt", ".new-abc"):
        (folder / name).touch()
    assert shared.deletions() == {new: ANN}
    names = {path.name for path in folder.iterdir()}
    assert old not in names
    assert {"notes.txt", ".new-abc"} < names


def test_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps({}))
    with pytest.raises(StartupError, match="BARD_SHARED_DIR"):
        SharedFolder(tmp_path / "file")
