"""Threads: results, errors, and the end of calls and threads on `close`."""

import asyncio
import threading

import pytest

from bot.concurrency import Threads, plain_wait


def alive(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


async def test_run_returns_the_result_or_raises_the_error() -> None:
    threads = Threads(1, "test-results")
    assert await threads.run(divmod, 7, 2) == (3, 1)
    assert (await threads.run(threading.current_thread)).name.startswith("test-results")
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)
    await threads.close()


async def test_initializer_runs_in_each_thread() -> None:
    initialized: list[str] = []
    threads = Threads(
        1, "test-initializer", lambda: initialized.append(threading.current_thread().name)
    )
    thread = await threads.run(threading.current_thread)
    await threads.close()
    assert initialized == [thread.name]


async def test_close_drops_queued_calls_waits_for_running_ones_and_ends_the_threads() -> None:
    threads = Threads(1, "test-close")
    started, gate = threading.Event(), threading.Event()
    finished: list[str] = []

    def work(name: str) -> str:
        started.set()
        assert gate.wait(30)
        finished.append(name)
        return name

    running, queued = threads.run(work, "running"), threads.run(work, "queued")
    assert await asyncio.to_thread(started.wait, 30)
    closing = asyncio.create_task(threads.close())
    with pytest.raises(asyncio.CancelledError):
        await queued
    assert not closing.done()
    gate.set()
    await closing
    assert await running == "running"
    assert finished == ["running"]
    assert not alive("test-close")
    with pytest.raises(RuntimeError):
        threads.run(work, "late")


async def test_close_waits_for_a_call_whose_caller_was_cancelled() -> None:
    threads = Threads(1, "test-cancelled")
    started, gate = threading.Event(), threading.Event()

    def work() -> bool:
        started.set()
        return gate.wait(30)

    caller = threads.run(work)
    assert await asyncio.to_thread(started.wait, 30)
    caller.cancel()
    closing = asyncio.create_task(threads.close())
    await asyncio.sleep(0)
    assert not closing.done()
    gate.set()
    await closing
    assert not alive("test-cancelled")


async def test_close_without_calls() -> None:
    threads = Threads(2, "test-unused")
    await threads.close()
    await threads.close()


def test_plain_wait_returns_the_awaitable() -> None:
    future: asyncio.Future[None] = asyncio.Future(loop=asyncio.new_event_loop())
    assert plain_wait(future) is future
    future.get_loop().close()
