"""Promotion and rollback of weights, across restarts and with damaged files."""

import asyncio
import errno
from pathlib import Path
from unittest.mock import Mock

import pytest

import noskgpt
from bot.core.promotions import weights_path
from bot.errors import Reason, StartupError
from noskgpt import archive
from noskgpt.checkpoint import save
from tests.bot.conftest import rejected
from tests.bot.core.conftest import ANN, BEN, TrainingServices, name_of, trained, truncate


async def test_rollback_restores_earlier_weights_step_by_step(services: TrainingServices) -> None:
    configured = services.active_weights
    checkpoints = [trained(seed) for seed in (2, 3)]
    for checkpoint in checkpoints:
        run = await services.finish_run(checkpoint)
        assert run.state == "finished"
        assert services.active_weights != name_of(checkpoint)
        await services.promotions.promote(run.id, ANN)
        assert services.active_weights == name_of(checkpoint)
    with rejected(Reason.RUN_PROMOTED_ALREADY):
        await services.promotions.promote(2, ANN)
    services = await services.restart()
    assert services.active_weights == name_of(checkpoints[1])
    restored = await services.promotions.roll_back(BEN)
    assert restored is not None
    assert (restored.id, services.active_weights) == (1, name_of(checkpoints[0]))
    services = await services.restart()
    assert services.active_weights == name_of(checkpoints[0])
    assert await services.promotions.roll_back(BEN) is None
    assert services.active_weights == configured
    with rejected(Reason.NOTHING_TO_ROLL_BACK):
        await services.promotions.roll_back(BEN)
    await services.promotions.promote(1, BEN)
    assert services.active_weights == name_of(checkpoints[0])
    await services.inference.close()


async def test_running_generation_keeps_its_weights(services: TrainingServices) -> None:
    run = await services.finish_run(trained(2))
    old = services.active_weights
    request = asyncio.create_task(
        services.inference.generate("ROMEO:\n", max_chars=4000, temperature=0.8, seed=1)
    )
    await asyncio.sleep(0)
    await services.promotions.promote(run.id, ANN)
    assert (await request).weights == old
    after = await services.inference.generate("ROMEO:\n", max_chars=4, temperature=0.8)
    assert after.weights == run.weights


async def test_weights_with_another_alphabet_continue_a_context(services: TrainingServices) -> None:
    run = await services.finish_run(trained(2, vocabulary="\n abcdefghijklmnopqrstuvwxyz"))
    await services.promotions.promote(run.id, ANN)
    result = await services.inference.generate("ROMEO:\nO, she", max_chars=40, temperature=0.8)
    assert len(result.text) == 40
    assert set(result.text) <= set(services.inference.model.tokenizer.vocabulary)
    assert services.inference.fold("ROMEO: 😀") == ("romeo ", ":😀")


async def test_damaged_or_replaced_weights_are_not_promoted(services: TrainingServices) -> None:
    configured = services.active_weights
    run = await services.finish_run(trained(2))
    await truncate(weights_path(services.folder, run.id))
    with rejected(Reason.RUN_DAMAGED, run_id=run.id):
        await services.promotions.promote(run.id, ANN)
    save(trained(3), weights_path(services.folder, run.id))
    with rejected(Reason.RUN_DAMAGED, run_id=run.id):
        await services.promotions.promote(run.id, ANN)
    assert services.active_weights == configured
    assert await services.runs.promotions() == []
    with rejected(Reason.UNKNOWN_RUN, run_id=9):
        await services.promotions.promote(9, ANN)


async def test_startup_falls_back_from_damaged_promoted_weights(
    services: TrainingServices, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = [trained(seed) for seed in (2, 3)]
    for checkpoint in checkpoints:
        run = await services.finish_run(checkpoint)
        await services.promotions.promote(run.id, ANN)
    await truncate(weights_path(services.folder, 2))
    services = await services.restart()
    assert services.active_weights == name_of(checkpoints[0])
    assert "weights of run 2" in caplog.text
    weights_path(services.folder, 1).unlink()
    services = await services.restart()
    assert services.active_weights == name_of(trained(1, 2.0))
    assert await services.runs.promotions() == []
    await services.inference.close()
    missing = TrainingServices(
        services.runs, Path("missing.pth"), services.folder, services.threads
    )
    with pytest.raises(StartupError, match=r"missing\.pth"):
        await missing.promotions.load()
    await missing.inference.close()


@pytest.mark.parametrize(
    "cause", [OSError(errno.EMFILE, "Too many open files"), PermissionError(errno.EACCES, "Denied")]
)
async def test_weights_that_cannot_be_read_for_a_while_are_not_called_damaged(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch, cause: OSError
) -> None:
    for seed in (2, 3):
        run = await services.finish_run(trained(seed))
        await services.promotions.promote(run.id, ANN)
    third = await services.finish_run(trained(4))
    active = services.active_weights

    def fail(*_args: object) -> None:
        raise cause

    with monkeypatch.context() as patch:
        patch.setattr(archive, "read", fail)
        with rejected(Reason.WEIGHTS_UNREADABLE):
            await services.promotions.promote(third.id, ANN)
        with rejected(Reason.WEIGHTS_UNREADABLE):
            await services.promotions.roll_back(ANN)
        with pytest.raises(StartupError, match="run 2, which are promoted; if"):
            await services.promotions.load()
    assert len(await services.runs.promotions()) == 2
    services = await services.restart()
    assert services.active_weights == active
    await services.inference.close()


async def test_rollback_skips_damaged_weights(services: TrainingServices) -> None:
    configured = services.active_weights
    for seed in (2, 3):
        run = await services.finish_run(trained(seed))
        await services.promotions.promote(run.id, ANN)
    await truncate(weights_path(services.folder, 1))
    assert await services.promotions.roll_back(ANN) is None
    assert services.active_weights == configured


class SlowRead:
    """Replaces the loading of weights, and waits in it until `go` is set."""

    def __init__(self, services: TrainingServices, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self._read = services.inference.read
        monkeypatch.setattr(services.inference, "read", self)

    async def __call__(self, path: Path | None = None) -> noskgpt.Generator:
        model = await self._read(path)
        self.begun.set()
        await self.go.wait()
        return model


async def test_weights_are_not_deleted_while_they_are_promoted(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await services.finish_run(trained(2))
    services.training._folders._keep = 0
    slow = SlowRead(services, monkeypatch)
    promoting = asyncio.create_task(services.promotions.promote(run.id, ANN))
    await slow.begun.wait()
    discarding = asyncio.create_task(services.training.discard(run.id))
    pruning = asyncio.create_task(services.training._delete_old_files())
    done, _ = await asyncio.wait({discarding, pruning}, timeout=0.2)
    assert not done
    slow.go.set()
    await promoting
    with rejected(Reason.RUN_IN_USE, run_id=run.id):
        await discarding
    await pruning
    assert services.active_weights == run.weights
    services = await services.restart()
    assert services.active_weights == run.weights
    await services.inference.close()


async def test_rollback_waits_for_another_decision(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, configured = await services.finish_run(trained(2)), services.active_weights
    await services.promotions.promote(run.id, ANN)
    asked = Mock(wraps=services.runs.promotions)
    monkeypatch.setattr(services.runs, "promotions", asked)
    async with services.promotions.lock:
        rolling = asyncio.create_task(services.promotions.roll_back(ANN))
        for _ in range(3):
            await asyncio.sleep(0)
        asked.assert_not_called()
    await rolling
    assert services.active_weights == configured


async def test_promotion_looks_at_the_run_again_after_loading(
    services: TrainingServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, configured = await services.finish_run(trained(2)), services.active_weights
    slow = SlowRead(services, monkeypatch)
    promoting = asyncio.create_task(services.promotions.promote(run.id, ANN))
    await slow.begun.wait()
    assert await services.runs.discard(run.id)
    slow.go.set()
    with rejected(Reason.RUN_NOT_FINISHED, state="discarded"):
        await promoting
    assert services.active_weights == configured
    assert await services.runs.promotions() == []


async def test_discard_during_a_discard_is_rejected(services: TrainingServices) -> None:
    run = await services.finish_run(trained(2))
    results = await asyncio.gather(
        *(services.training.discard(run.id) for _ in range(2)), return_exceptions=True
    )
    assert [getattr(result, "reason", None) for result in results] == [
        None,
        Reason.RUN_NOT_FINISHED,
    ]
    assert list(services.folder.iterdir()) == []


async def test_decisions_at_once_leave_the_active_weights_as_recorded(
    services: TrainingServices,
) -> None:
    for seed in (2, 3):
        await services.finish_run(trained(seed))
    await asyncio.gather(
        services.promotions.promote(1, ANN),
        services.promotions.promote(2, BEN),
        services.promotions.roll_back(ANN),
        services.promotions.promote(2, ANN),
        return_exceptions=True,
    )
    active = services.active_weights
    assert active == (await services.runs.get(await services.promotions.active() or 0)).weights
    services = await services.restart()
    assert services.active_weights == active
    await services.inference.close()


async def test_rollback_over_damaged_weights_withdraws_all_at_once(
    services: TrainingServices,
) -> None:
    for seed in (2, 3, 4):
        run = await services.finish_run(trained(seed))
        await services.promotions.promote(run.id, ANN)
    await truncate(weights_path(services.folder, 2))
    restored = await services.promotions.roll_back(BEN)
    assert restored is not None
    assert restored.id == 1
    assert [promotion.run_id for promotion in await services.runs.promotions()] == [1]
