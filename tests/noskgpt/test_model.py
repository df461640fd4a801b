"""Test the network against an independent implementation."""

from pathlib import Path

import pytest
import torch

from noskgpt import checkpoint as checkpoints
from noskgpt.config import ModelConfig
from noskgpt.model import GPT, KVCache
from tests.noskgpt.reference import Reference


def test_has_as_many_parameters_as_the_reference() -> None:
    assert GPT(ModelConfig()).parameter_count() == 1_170_625


@torch.inference_mode()
def test_logits_equal_the_naive_reference(tmp_path: Path) -> None:
    torch.manual_seed(3)
    reference = Reference()
    torch.save(reference.state_dict(), tmp_path / "old.pth")
    imported = checkpoints.import_reference(tmp_path / "old.pth", tmp_path / "new.pth")
    ids = torch.randint(65, (3, 256))
    expected = reference(ids)
    for checkpoint in (imported, checkpoints.load(tmp_path / "new.pth")):
        torch.testing.assert_close(checkpoint.build_model()(ids), expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_logits_with_a_cache_equal_those_without(
    random_checkpoint: checkpoints.Checkpoint,
) -> None:
    model = random_checkpoint.build_model()
    ids = torch.randint(65, (2, 256))
    expected = model(ids)
    cache = KVCache(model.config, batch=2)
    parts = [model(ids[:, :100], cache)]
    parts += [model(ids[:, i : i + 1], cache) for i in range(100, 256)]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_position_does_not_depend_on_later_ones(
    random_checkpoint: checkpoints.Checkpoint,
) -> None:
    model = random_checkpoint.build_model()
    ids = torch.randint(65, (1, 64))
    changed = ids.clone()
    changed[0, 40:] = (changed[0, 40:] + 1) % 65
    before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :40], after[:, :40])
    assert not torch.allclose(before[:, 40:], after[:, 40:])


def test_rejects_input_that_does_not_fit(random_checkpoint: checkpoints.Checkpoint) -> None:
    model = random_checkpoint.build_model()
    with pytest.raises(ValueError, match="context of 256"):
        model(torch.zeros((1, 257), dtype=torch.int64))
    cache = KVCache(model.config)
    model(torch.zeros((1, 4), dtype=torch.int64), cache)
    with pytest.raises(ValueError, match="one at a time"):
        model(torch.zeros((1, 2), dtype=torch.int64), cache)


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(),
        ModelConfig(vocab_size=7, context=11, n_layer=3, n_head=2, n_embd=10),
    ],
)
def test_a_shape_knows_the_number_of_its_parameters(config: ModelConfig) -> None:
    assert config.parameters == GPT(config).parameter_count()


@pytest.mark.parametrize(
    "change",
    [
        *(
            {"n_embd": 10**6},
            {"n_embd": 2**600},
            {"vocab_size": 10**7},
            {"n_head": 1, "n_embd": 1300},
        ),
        *({"context": 10**9, "n_embd": 4}, {"n_layer": 10**9, "n_embd": 4}),
    ],
    ids=str,
)
def test_rejects_shapes_beyond_a_hundred_times_the_reference(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must be at most|more than 120,000,000 parameters"):
        ModelConfig(**{"n_layer": 6} | change)


@pytest.mark.parametrize("change", [{"n_head": 3}, {"n_layer": 0}, {"vocab_size": "65"}])
def test_rejects_invalid_shapes(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ModelConfig(**change)
