"""The services of training and promotion, on real weights and files."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch

from bot.concurrency import Threads
from bot.core.inference import Inference
from bot.core.promotions import Promotions, weights_path
from bot.core.training_runner import TrainingRunner
from bot.storage.database import open_database
from bot.storage.runs import Run, RunStore
from noskgpt import checkpoint as checkpoints
from noskgpt import lexicon
from noskgpt.checkpoint import Checkpoint, TrainingRecord
from noskgpt.config import ModelConfig
from noskgpt.model import GPT
from noskgpt.tokenizer import VOCABULARY

ANN, BEN = 11, 12


class TrainingServices:
    """The services of training, connected as `bot.bard` connects them."""

    def __init__(
        self,
        runs: RunStore,
        weights: Path,
        folder: Path,
        threads: Threads,
        *,
        keep: int = 5,
        auto_promote: bool = False,
    ) -> None:
        self.runs = runs
        self.folder = folder
        self.threads = threads
        self.inference = Inference(weights, workers=1)
        self.promotions = Promotions(runs, self.inference, folder)
        self.training = TrainingRunner(
            runs,
            self.promotions,
            self.inference,
            threads,
            folder=folder,
            corpus=None,
            keep=keep,
            auto_promote=auto_promote,
        )

    async def finish_run(self, checkpoint: Checkpoint, *, corpus: str | None = None) -> Run:
        """Store a run, save its weights as a child that outlives its bot does, and recover it."""
        run = await self.start_run(corpus=corpus)
        await asyncio.to_thread(checkpoints.save, checkpoint, weights_path(self.folder, run.id))
        recovered = await self.training.recover()
        assert recovered is not None
        assert recovered.id == run.id
        return recovered

    async def start_run(self, *, corpus: str | None = None) -> Run:
        """Store a run as running, without a child process."""
        return await self.runs.start(
            user_id=ANN, guild_id=1, channel_id=2, preset="quick", minutes=1, corpus=corpus
        )

    @property
    def active_weights(self) -> str:
        return self.inference.model.name

    async def restart(self) -> "TrainingServices":
        """Return the services that a new process opens on the same files."""
        restarted = TrainingServices(
            self.runs, self.inference._path or Path(), self.folder, self.threads
        )
        await self.inference.close()
        await restarted.promotions.load()
        return restarted


def trained(
    seed: int, loss: float | None = None, corpus: str | None = "a", vocabulary: str = VOCABULARY
) -> Checkpoint:
    """Return a checkpoint of a small real model whose record has this held-out loss."""
    torch.manual_seed(seed)
    config = ModelConfig(n_layer=1, n_head=2, n_embd=16, vocab_size=len(vocabulary))
    model = GPT(config)
    model.round_to_bfloat16()
    return Checkpoint(
        config=config,
        vocabulary=vocabulary,
        weights=model.arrays(),
        lexicon=lexicon.build(vocabulary, lexicon.words("but soft, what light is this?")),
        training=TrainingRecord(steps=7, held_out_loss=loss, corpus_sha256=corpus),
    )


def name_of(checkpoint: Checkpoint) -> str:
    return f"noskgpt-{checkpoint.fingerprint()}"


async def truncate(path: Path) -> None:
    """Cut a file to half its length."""
    data = await asyncio.to_thread(path.read_bytes)
    await asyncio.to_thread(path.write_bytes, data[: len(data) // 2])


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[RunStore]:
    async with open_database(tmp_path / "bard.sqlite3") as connection:
        yield RunStore(connection)


@pytest.fixture
async def services(
    runs: RunStore, tmp_path: Path, threads: Threads
) -> AsyncIterator[TrainingServices]:
    """Services whose configured weights have a held-out loss of 2.0 on the text "a"."""
    weights = tmp_path / "configured.pth"
    checkpoints.save(trained(1, 2.0), weights)
    services = TrainingServices(runs, weights, tmp_path / "runs", threads, keep=2)
    await services.promotions.load()
    yield services
    await services.training.close()
    await services.inference.close()
