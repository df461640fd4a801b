"""The trainer: a generator of progress events that ends with a checkpoint.

It knows nothing of terminals, files of weights or Discord; whoever iterates decides what to
show and where to write. Closing the iterator stops the run.

Muon moves the hidden matrices, AdamW the rest.
"""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from noskgpt import lexicon
from noskgpt.checkpoint import Checkpoint, TrainingRecord
from noskgpt.corpus import Corpus
from noskgpt.errors import TrainingError
from noskgpt.evaluation import evaluate
from noskgpt.model import GPT, ModelConfig
from noskgpt.muon import Muon
from noskgpt.tokenizer import VOCABULARY, Tokenizer


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One run. The defaults are the default run of ``noskgpt train``."""

    steps: int = 1200
    batch: int = 32
    muon_rate: float = 0.02
    adam_rate: float = 0.004
    weight_decay: float = 0.01
    warmup_steps: int = 100
    decay_share: float = 0.6
    """Share of the steps, at the end, over which the rates fall to zero in a line."""
    dropout: float = 0.0
    gradient_clip: float = 1.0
    seed: int = 1
    report_every: int = 10
    evaluate_every: int = 250
    precision: str = "auto"
    """``fp32``, ``bf16``, or ``auto``: whichever is measured to be faster here."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for settings that make no run."""
        if self.steps < 1 or self.batch < 1:
            msg = "steps and batch must be at least 1"
            raise ValueError(msg)
        if self.precision not in ("auto", "fp32", "bf16"):
            msg = f"precision must be auto, fp32 or bf16, not {self.precision!r}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. Losses are nats per character."""

    step: int
    steps: int
    train_loss: float
    """Mean over the steps since the last event."""
    held_out_loss: float | None
    """Exact, over the whole held-out part; only on the steps that measured it."""
    characters_per_second: float
    seconds: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a run."""

    checkpoint: Checkpoint


Event = Progress | Finished


def train(corpus: Corpus, config: TrainingConfig, *, command: str = "") -> Iterator[Event]:
    """Train a model of the reference's shape on `corpus.train`.

    The alphabet is the reference's 65 symbols where they cover the text, else the text's own.
    The same corpus, configuration, precision, machine and number of threads give the same losses.

    Raises:
        TrainingError: The loss is no longer a number.
    """
    started = time.perf_counter()
    vocabulary = corpus.vocabulary
    if set(vocabulary) <= set(VOCABULARY):
        vocabulary = VOCABULARY
    tokenizer = Tokenizer(vocabulary)
    words = lexicon.build(vocabulary, lexicon.words(corpus.train))
    train_ids = torch.tensor(tokenizer.encode(corpus.train))
    held_out_ids = torch.tensor(tokenizer.encode(corpus.held_out))

    random = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)  # dropout draws from the global generator
    model = GPT(ModelConfig(vocab_size=len(vocabulary)), dropout=config.dropout)
    model.initialize(random)
    precision = config.precision if config.precision != "auto" else faster_precision(model)
    optimizers = build_optimizers(model, config)
    base_rates = [[group["lr"] for group in o.param_groups] for o in optimizers]
    batches = draw_batches(train_ids, config.batch, model.config.context, random)

    model.train()
    losses: list[Tensor] = []
    held_out: float | None = None
    mean = math.nan
    for step in range(1, config.steps + 1):
        for optimizer, rates in zip(optimizers, base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * rate_factor(step - 1, config)
        inputs, targets = next(batches)
        with _autocast(precision):
            logits = model(inputs)
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())

        last = step == config.steps
        measured = last or step % config.evaluate_every == 0
        if not (measured or step % config.report_every == 0 or step == 1):
            continue
        mean = float(torch.stack(losses).mean())
        losses.clear()
        if not math.isfinite(mean):
            msg = (
                f"The loss is no longer a number at step {step}. "
                "Lower the learning rates or train with --precision fp32."
            )
            raise TrainingError(msg)
        if last:
            model.round_to_bfloat16()
        if measured:
            held_out = evaluate(model, held_out_ids).loss
        seconds = time.perf_counter() - started
        yield Progress(
            step=step,
            steps=config.steps,
            train_loss=mean,
            held_out_loss=held_out if measured else None,
            characters_per_second=step * config.batch * model.config.context / seconds,
            seconds=seconds,
            seconds_left=seconds / step * (config.steps - step),
        )
    yield Finished(
        Checkpoint(
            config=model.config,
            vocabulary=vocabulary,
            weights={name: t.detach().clone() for name, t in model.state_dict().items()},
            lexicon=words,
            training=TrainingRecord(
                steps=config.steps,
                train_loss=mean,
                held_out_loss=held_out,
                corpus_sha256=corpus.sha256,
                command=command,
                seed=config.seed,
                seconds=time.perf_counter() - started,
                precision=precision,
                torch_version=str(torch.__version__),
                finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
        )
    )


def build_optimizers(model: GPT, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside the blocks and the last feed-forward, AdamW for the rest.

    Embeddings, the head, LayerNorms and biases are what Muon is not made for.
    """
    hidden = model.hidden_matrices()
    rest = [p for name, p in model.named_parameters() if name not in hidden]
    return [
        Muon(hidden.values(), lr=config.muon_rate, weight_decay=config.weight_decay),
        torch.optim.AdamW(
            rest,
            lr=config.adam_rate,
            betas=(0.9, 0.95),
            weight_decay=config.weight_decay,
            fused=True,
        ),
    ]


def rate_factor(step: int, config: TrainingConfig) -> float:
    """Return what the learning rates are multiplied by at `step` (from 0).

    A linear warm-up, a constant middle, and a linear fall to zero at the last step.
    """
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    decay = min(1.0, (config.steps - step) / max(1.0, config.steps * config.decay_share))
    return min(warmup, decay)


def draw_batches(
    ids: Tensor, batch: int, context: int, random: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (B, T) inputs and their targets, for ever.

    Each epoch cuts the text at a fresh offset into windows and deals them in a new order, so
    that every character is seen once an epoch.

    Raises:
        TrainingError: The text is shorter than one window.
    """
    windows = (len(ids) - 1) // context - 1
    if windows < 1:
        msg = f"{len(ids):,} characters are too few for windows of {context}. Give a longer text."
        raise TrainingError(msg)
    reach = torch.arange(context)
    starts = torch.empty(0, dtype=torch.int64)
    while True:
        while len(starts) < batch:
            offset = int(torch.randint(context, (1,), generator=random))
            order = torch.randperm(windows, generator=random)
            starts = torch.cat([starts, order * context + offset])
        places = starts[:batch, None] + reach  # (B, T)
        starts = starts[batch:]
        yield ids[places], ids[places + 1]


def faster_precision(model: GPT) -> str:
    """Time training passes each way and return ``bf16`` if it is the faster here.

    Two short passages are enough: where bfloat16 is emulated it is ten times as slow.
    """
    ids = torch.zeros((2, model.config.context), dtype=torch.int64)
    seconds = {}
    for precision in ("fp32", "bf16"):
        times = []
        for _ in range(3):
            started = time.perf_counter()
            with _autocast(precision):
                logits = model(ids)
            logits.float().square().mean().backward()
            times.append(time.perf_counter() - started)
        seconds[precision] = min(times)
    model.zero_grad(set_to_none=True)
    return min(seconds, key=lambda precision: seconds[precision])


def _autocast(precision: str) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()
