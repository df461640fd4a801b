"""Provide a small corpus and untrained weights for tests that do not depend on text quality."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from noskgpt import checkpoint as checkpoints
from noskgpt.config import ModelConfig
from noskgpt.model import GPT
from noskgpt.tokenizer import VOCABULARY


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """Return a function that sets PyTorch's number of threads until the end of a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a text of 40,000 characters that a model learns in a few steps."""
    draw = random.Random(1)  # noqa: S311  (a fixture, not a secret)
    words = ["thou", "art", "a", "king", "and", "I", "am", "thy", "fool"]
    lines = [" ".join(draw.choices(words, k=7)) + ".\n" for _ in range(1300)]
    path = tmp_path_factory.mktemp("corpus") / "small.txt"
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def random_checkpoint() -> checkpoints.Checkpoint:
    """Return an untrained checkpoint of the reference's shape."""
    model = GPT(ModelConfig())
    model.initialize(torch.Generator().manual_seed(5))
    return checkpoints.Checkpoint(
        config=model.config, vocabulary=VOCABULARY, weights=model.arrays()
    )


@pytest.fixture(scope="session")
def weights_file(
    random_checkpoint: checkpoints.Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the path of a weights file with that checkpoint."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    checkpoints.save(random_checkpoint, path)
    return path
