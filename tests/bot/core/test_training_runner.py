"""Training runs: automatic promotion, kept files, one run at a time, and failures of the child."""

import asyncio
import dataclasses
import errno
import os
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path
from typing import IO, Any

import pytest
from discord import ButtonStyle
from discord.ui import Button, DynamicItem

from bot.core import run_results, training_runner
from bot.core.active_run import ActiveRun
from bot.core.promotions import weights_path
from bot.core.run_folders import RunFolders
from bot.core.run_results import is_better
from bot.core.training_child import NICENESS, TrainingChild
from bot.core.training_runner import TrainingRequest
from bot.errors import Reason, RejectedError
from bot.languages import ENGLISH
from bot.storage.runs import Run
from bot.ui.training_status import decision_view, describe_losses
from noskgpt import archive
from noskgpt import checkpoint as checkpoints
from noskgpt.checkpoint import Checkpoint
from noskgpt.runs import run_path
from tests.bot.conftest import rejected
from tests.bot.core.conftest import ANN, TrainingServices, name_of, trained

REQUEST = TrainingRequest(user_id=ANN, guild_id=1, channel_id=2, preset="quick", minutes=30)


@pytest.mark.parametrize(
    ("checkpoint", "corpus", "comparable", "promoted"),
    [
        (trained(2, 1.9), None, True, True),
        (trained(2, 2.0), None, True, False),
        (trained(2, 2.1), None, True, False),
        (trained(2, 1.9, corpus="b"), None, False, False),
        (trained(2, 1.9), "mine.txt", False, False),
        (trained(2, None), None, True, False),
    ],
    ids=["lower", "equal", "higher", "other text", "attached text", "not measured"],
)
async def test_automatic_promotion_requires_a_lower_loss_on_the_same_text(
    services: TrainingServices,
    checkpoint: Checkpoint,
    corpus: str | None,
    *,
    comparable: bool,
    promoted: bool,
) -> None:
    for auto_promote in (False, True):
        services.training._results._auto_promote = auto_promote
        run = await services.finish_run(checkpoint, corpus=corpus)
        assert run.old_weights == name_of(trained(1, 2.0))
        assert (run.old_loss is not None) == comparable
        assert is_better(run) == promoted
        assert (services.active_weights == run.weights) == (promoted and auto_promote)


async def test_files_of_old_runs_are_deleted_unless_promoted(services: TrainingServices) -> None:
    first = await services.finish_run(trained(2))
    await services.promotions.promote(first.id, ANN)
    for seed in (3, 4, 5):
        await services.finish_run(trained(seed))
    unfinished = await services.start_run()
    folder = weights_path(services.folder, unfinished.id).parent
    await asyncio.to_thread(folder.mkdir)
    run_path(weights_path(services.folder, unfinished.id)).write_bytes(b"")
    (services.folder / "notes").mkdir()
    await services.runs.end(unfinished.id, "cancelled")
    await services.training._delete_old_files()
    assert sorted(path.name for path in services.folder.iterdir()) == ["1", "4", "5", "notes"]
    with rejected(Reason.RUN_DAMAGED, run_id=2):
        await services.promotions.promote(2, ANN)


async def test_discard_deletes_files_and_rejects_promoted_runs(services: TrainingServices) -> None:
    first, second = [await services.finish_run(trained(seed)) for seed in (2, 3)]
    await services.promotions.promote(first.id, ANN)
    with rejected(Reason.RUN_IN_USE):
        await services.training.discard(first.id)
    await services.training.discard(second.id)
    assert [path.name for path in services.folder.iterdir()] == ["1"]
    for action in (
        services.training.discard(second.id),
        services.promotions.promote(second.id, ANN),
    ):
        with rejected(Reason.RUN_NOT_FINISHED, state="discarded"):
            await action


async def test_only_one_of_several_concurrent_starts_succeeds(services: TrainingServices) -> None:
    results = await asyncio.gather(
        *(services.training.start(REQUEST) for _ in range(3)), return_exceptions=True
    )
    (active,) = (result for result in results if not isinstance(result, BaseException))
    reasons = [result.reason for result in results if isinstance(result, RejectedError)]
    assert reasons == [Reason.RUN_ACTIVE] * 2
    with pytest.raises(RejectedError):
        await services.start_run()
    await services.training.close()
    assert active.ended.result().state == "interrupted"


def be_child(services: TrainingServices, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let runs start a Python program in place of `noskgpt train`."""
    pipe = asyncio.subprocess.PIPE

    async def spawn(*_: object) -> TrainingChild:
        return TrainingChild(
            await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-c", program, stdin=pipe, stdout=pipe
            )
        )

    monkeypatch.setattr(services.training, "_spawn", spawn)


async def test_invalid_events_of_the_child_are_ignored(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["gar{bage", "[1]", "7", '{"event": "progress"}', '{"event": "error"}']
    too_long = "print('x' * 2**21)"
    program = f"print({chr(10).join(lines)!r}); {too_long}; raise SystemExit(3)"
    be_child(services, monkeypatch, program)
    active = await services.training.start(REQUEST)
    run = await active.ended
    assert run.state == "failed"
    assert "exit code 3" in (run.problem or "")
    assert caplog.text.count("ignored an invalid event") >= len(lines)
    assert "too long" in caplog.text
    assert services.training.active is None


async def test_unwritable_folder_rejects_the_run(services: TrainingServices) -> None:
    services.folder.write_text("not a folder")
    with rejected(Reason.RUN_NOT_STARTED):
        await services.training.start(REQUEST)
    (run,) = await services.runs.newest()
    assert run.state == "failed"
    assert run.problem is not None


async def test_new_run_keeps_away_from_files_of_another_database(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ids begin again if the database was moved away, or if `restore` was killed."""
    await asyncio.to_thread(checkpoints.save, trained(2), weights_path(services.folder, 1))
    run_path(weights_path(services.folder, 1)).write_bytes(b"")
    be_child(services, monkeypatch, "raise SystemExit(3)")
    active = await services.training.start(REQUEST)
    assert active.run.id == 1
    assert not weights_path(services.folder, 1).exists()
    assert not await services.training.is_resumable(await active.ended)
    (kept,) = services.folder.iterdir()
    assert kept.name.startswith("1.replaced-")
    assert sorted(file.name for file in kept.iterdir()) == ["weights.pth", "weights.pth.run"]


async def test_files_of_another_database_do_not_count_as_newer_runs(
    services: TrainingServices,
) -> None:
    for number in (7, 8, 9):
        await asyncio.to_thread(checkpoints.save, trained(3), weights_path(services.folder, number))
    run = await services.finish_run(trained(2))
    await services.training._delete_old_files()
    assert sorted(path.name for path in services.folder.iterdir()) == ["1", "7", "8", "9"]
    await services.promotions.promote(run.id, ANN)


async def test_close_stops_a_run_that_starts_at_that_moment(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, spawning, released = services.training, asyncio.Event(), asyncio.Event()
    spawn = training._spawn

    async def slow_spawn(*args: Any) -> TrainingChild:
        spawning.set()
        await released.wait()
        return await spawn(*args)

    monkeypatch.setattr(training, "_spawn", slow_spawn)
    starting = asyncio.create_task(training.start(REQUEST))
    await spawning.wait()
    closing = asyncio.create_task(training.close())
    done, _ = await asyncio.wait({closing}, timeout=0.05)
    assert not done
    released.set()
    await closing
    active = await starting
    assert active.child.returncode is not None
    assert (await services.runs.get(1)).state == "interrupted"
    with rejected(Reason.CLOSING):
        await training.start(REQUEST)
    with rejected(Reason.CLOSING):
        await training.resume(user_id=ANN, guild_id=1, channel_id=2)


async def test_child_is_started_as_every_event_loop_can_and_has_a_group_of_its_own(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop uvloop rejects asyncio's argument `process_group`."""
    start = asyncio.create_subprocess_exec

    async def of_uvloop(
        *command: str, stdin: int, stdout: int, stderr: IO[bytes], env: dict[str, str], limit: int
    ) -> Process:
        return await start(
            *command, stdin=stdin, stdout=stdout, stderr=stderr, env=env, limit=limit
        )

    monkeypatch.setattr(asyncio, "create_subprocess_exec", of_uvloop)
    active = await services.training.start(REQUEST)
    pid = active.child.pid
    async with asyncio.timeout(30):
        while os.getpgid(pid) != pid:  # noqa: ASYNC110 - it is another process's doing
            await asyncio.sleep(0.01)
    assert os.getpriority(os.PRIO_PROCESS, pid) == NICENESS
    await services.training.close()
    assert (await services.runs.get(1)).state == "interrupted"


def tuned(seed: int, start: str | None, before: float, after: float, part: float = 1) -> Checkpoint:
    """Return weights whose record says that they were trained from others on the text "a"."""
    checkpoint = trained(seed, after)
    record = dataclasses.replace(
        checkpoint.training,
        start_weights=start,
        start_loss=before,
        held_out_characters=1000,
        evaluated_characters=round(1000 * part),
    )
    return dataclasses.replace(checkpoint, training=record)


@pytest.mark.parametrize("corpus", [None, "mine.txt"])
@pytest.mark.parametrize("part", [1, 0.5])
@pytest.mark.parametrize(("after", "better"), [(1.4, True), (1.5, False), (1.6, False)])
async def test_run_from_the_active_weights_is_compared_with_their_loss_before(
    services: TrainingServices, corpus: str | None, part: float, after: float, *, better: bool
) -> None:
    services.training._results._auto_promote = True
    run = await services.finish_run(
        tuned(2, services.active_weights, 1.5, after, part), corpus=corpus
    )
    assert (run.start_loss, run.old_loss, run.loss) == (1.5, 1.5, after)
    assert run.evaluated_fraction == part
    assert is_better(run) == better
    assert (services.active_weights == run.weights) == better
    shown = describe_losses(run, ENGLISH)
    assert "1.500 before" in shown
    assert ("Warning" in shown) == (not better)
    assert ("on the first 50.0% of the held-out text" in shown) == (part < 1)
    assert_styles(run, green=better)


async def test_loss_over_a_part_is_not_compared_with_one_over_the_whole(
    services: TrainingServices,
) -> None:
    from_nothing = dataclasses.replace(
        tuned(2, None, 0, 1.0, 0.5).training, start_weights=None, start_loss=None
    )
    run = await services.finish_run(dataclasses.replace(trained(2), training=from_nothing))
    assert (run.loss, run.old_loss) == (1.0, None)
    assert "nothing shows that the new weights are better" in describe_losses(run, ENGLISH)
    assert_styles(run, green=False)


async def test_loss_in_another_alphabet_is_not_compared(services: TrainingServices) -> None:
    run = await services.finish_run(trained(2, 1.0, vocabulary="\n abcdefghijklmnopqrstuvwxyz"))
    assert (run.loss, run.old_loss) == (1.0, None)


async def test_start_weights_that_are_not_active_any_more_are_no_comparison(
    services: TrainingServices,
) -> None:
    run = await services.finish_run(tuned(2, "noskgpt-00000000", 1.5, 1.4), corpus="mine.txt")
    assert (run.start_weights, run.start_loss, run.old_loss) == ("noskgpt-00000000", 1.5, None)
    assert not is_better(run)


def assert_styles(run: Run, *, green: bool) -> None:
    view = decision_view(run, ENGLISH)
    assert view is not None
    promote, discard = [item.item for item in view.children if isinstance(item, DynamicItem)]
    assert isinstance(promote, Button)
    assert isinstance(discard, Button)
    assert (promote.style == ButtonStyle.success) == green
    assert discard.style == ButtonStyle.danger


async def test_cause_of_a_failure_has_no_folder_of_the_host(
    services: TrainingServices, tmp_path: Path
) -> None:
    services.training._folders._corpus = tmp_path / "configured" / "plays.txt"
    active = await services.training.start(REQUEST)
    run = await active.ended
    assert run.state == "failed"
    assert run.problem is not None
    assert "plays.txt" in run.problem
    assert str(tmp_path) not in run.problem


STUBBORN = (
    "import signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('{}', flush=True)\n"
    "time.sleep(600)"
)
"""A child that does not stop."""


async def start_stubborn(services: TrainingServices, monkeypatch: pytest.MonkeyPatch) -> ActiveRun:
    """Start a run whose child does not stop; return it once the child ignores the signal."""
    be_child(services, monkeypatch, STUBBORN)
    deaf, apply = asyncio.Event(), ActiveRun.apply

    def applied(active: ActiveRun, event: dict[str, Any]) -> None:
        deaf.set()
        apply(active, event)

    monkeypatch.setattr(ActiveRun, "apply", applied)
    active = await services.training.start(REQUEST)
    await deaf.wait()
    return active


@pytest.mark.parametrize("seconds", [0, 0.05])
async def test_close_kills_a_child_that_does_not_stop_in_time(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(training_runner, "GRACE_SECONDS", seconds)
    active = await start_stubborn(services, monkeypatch)
    await services.training.close()
    assert active.child.returncode == -signal.SIGKILL
    run = await services.runs.get(1)
    assert run.state == "interrupted"
    assert await services.runs.unshown() == [run]


async def test_cancelled_close_kills_the_child(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    active = await start_stubborn(services, monkeypatch)
    closing = asyncio.create_task(services.training.close())
    await asyncio.wait({closing}, timeout=0.05)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert await active.child.wait() == -signal.SIGKILL
    run = await services.training.recover()
    assert run is not None
    assert run.state == "interrupted"


async def test_cancelled_close_leaves_the_record_to_the_next_process(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_runner, "GRACE_SECONDS", 0.0)
    active = await start_stubborn(services, monkeypatch)
    recording, end = asyncio.Event(), services.runs.end

    async def never(*_: object, **__: object) -> Run:
        recording.set()
        return await asyncio.Event().wait()  # type: ignore[return-value]  # it never does

    monkeypatch.setattr(services.runs, "end", never)
    cancelling = asyncio.create_task(services.training.cancel())
    closing = asyncio.create_task(services.training.close())
    await recording.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    with rejected(Reason.CLOSING):
        await cancelling
    assert active.ended.cancelled()
    monkeypatch.setattr(services.runs, "end", end)
    run = await services.training.recover()
    assert run is not None
    assert run.state == "interrupted"


async def test_end_is_recorded_when_the_database_can_be_written_again(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_results, "_RETRY_SECONDS", (0.01, 0.02))
    be_child(services, monkeypatch, 'print(\'{"event": "error", "problem": "lost"}\')')
    busy, full = Reason.MEMORY_BUSY, Reason.MEMORY_FULL
    end, failures = services.runs.end, iter([busy] * 3 + [full] * 2)

    async def fail_first(*args: Any, **results: Any) -> Run:
        for reason in failures:
            raise RejectedError(reason)
        return await end(*args, **results)

    monkeypatch.setattr(services.runs, "end", fail_first)
    active = await services.training.start(REQUEST)
    run = await active.ended
    assert (run.state, run.problem) == ("failed", "lost")
    assert services.training.active is None
    records = [r.message for r in caplog.records if "cannot be recorded" in r.message]
    assert [message.rpartition(" ")[2] for message in records] == [busy.name, full.name]


async def test_weights_that_cannot_be_read_for_long_are_logged_once(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = await services.start_run()
    await asyncio.to_thread(checkpoints.save, trained(2), weights_path(services.folder, run.id))

    def fail(*_args: object) -> None:
        raise PermissionError(errno.EACCES, "Denied")

    with monkeypatch.context() as patch:
        patch.setattr(archive, "read", fail)
        for _ in range(3):
            with rejected(Reason.WEIGHTS_UNREADABLE):
                await services.training.recover()
    recovered = await services.training.recover()
    assert recovered is not None
    assert recovered.state == "finished"
    assert len([record for record in caplog.records if "Run 1:" in record.message]) == 1


async def test_run_cannot_start_while_the_files_of_the_last_are_tidied_up(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_child(services, monkeypatch, "")
    tidying, go, tidy_up = asyncio.Event(), asyncio.Event(), services.training._tidy_up

    async def slow_tidy_up(run: Run) -> None:
        tidying.set()
        await go.wait()
        await tidy_up(run)

    monkeypatch.setattr(services.training, "_tidy_up", slow_tidy_up)
    active = await services.training.start(REQUEST)
    await tidying.wait()
    assert (await services.runs.get(1)).state == "failed"
    with rejected(Reason.RUN_ACTIVE):
        await services.training.start(REQUEST)
    go.set()
    await active.ended
    again = await services.training.start(REQUEST)
    assert (await again.ended).state == "failed"


async def test_start_waits_for_a_decision_about_weights(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_child(services, monkeypatch, "")
    async with services.promotions.lock:
        starting = asyncio.create_task(services.training.start(REQUEST))
        done, _ = await asyncio.wait({starting}, timeout=0.1)
        assert not done
        assert await services.runs.running() is None
    active = await starting
    await active.ended


CAUSES = {
    "/data/some where/runs/1/weights.pth.run: cannot be written (the disk is full)": (
        "weights.pth.run: cannot be written (the disk is full)"
    ),
    "[Errno 13] Permission denied: '/home/ann/.cache/x.nbi'": (
        "[Errno 13] Permission denied: 'x.nbi'"
    ),
    r"C:\Users\ann\text.txt: too short": "text.txt: too short",
    "/srv/plays of ann/plays.txt: not a UTF-8 text": "plays.txt: not a UTF-8 text",
    "3,700 characters/s, see https://example.org/a/b": (
        "3,700 characters/s, see https://example.org/a/b"
    ),
}


@pytest.mark.parametrize(("reported", "stored"), CAUSES.items())
async def test_cause_that_the_child_reports_is_stored_without_folders(
    services: TrainingServices, reported: str, stored: str
) -> None:
    run = await services.start_run()
    corpus = Path("/srv/plays of ann/plays.txt")
    folders = RunFolders(Path("/data/some where/runs"), corpus, keep=1)
    assert folders.hide(run, reported) == stored


async def test_run_is_resumable_if_it_has_the_last_checkpoint(services: TrainingServices) -> None:
    runs = []
    for _ in range(3):
        run = await services.start_run()
        runs.append(await services.runs.end(run.id, "interrupted"))
    assert not any([await services.training.is_resumable(run) for run in runs])
    for run in runs[:2]:
        path = run_path(weights_path(services.folder, run.id))
        path.parent.mkdir(parents=True)
        path.touch()
    assert [await services.training.is_resumable(run) for run in runs] == [False, True, False]


async def test_rejection_of_a_start_is_its_end(services: TrainingServices) -> None:
    services.folder.write_text("not a folder")
    with rejected(Reason.RUN_NOT_STARTED):
        await services.training.start(REQUEST)
    assert await services.runs.unshown() == []
