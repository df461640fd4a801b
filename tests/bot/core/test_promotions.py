"""Promotion and rollback of weights, across restarts and with damaged files."""

import asyncio
from pathlib import Path

import pytest

from bot.core.promotions import weights_path
from bot.errors import Reason, StartupError
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


async def test_rollback_skips_damaged_weights(services: TrainingServices) -> None:
    configured = services.active_weights
    for seed in (2, 3):
        run = await services.finish_run(trained(seed))
        await services.promotions.promote(run.id, ANN)
    await truncate(weights_path(services.folder, 1))
    assert await services.promotions.roll_back(ANN) is None
    assert services.active_weights == configured
