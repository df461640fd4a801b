"""Measure training speed: `python -m benchmarks.training`.

Compares the duration of a step in one run: the reference's network and recipe (one module per
head, dropout on the attention weights, AdamW, fp32), its recipe with this project's network, and
this project's network and recipe. Then measures the time to a held-out loss. The last line of
output is JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from noskgpt.config import ModelConfig
from noskgpt.corpus import Corpus, load_corpus
from noskgpt.model import GPT
from noskgpt.runs import Finished, Progress
from noskgpt.training import hardware
from noskgpt.training.gradients import Gradients
from noskgpt.training.recipe import PRESETS, TrainingConfig, build_optimizers
from noskgpt.training.trainer import Trainer
from tests.noskgpt.reference import Reference

BATCHES = (16, 64)
ROUNDS = 4
VOCABULARY = 65


def main() -> None:
    """Print a table and a line of JSON; exit with code 1 if the bound is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loss", type=float, default=1.8, help="held-out loss to reach")
    parser.add_argument("--minutes", type=float, default=5.0, help="time limit for reaching it")
    options = parser.parse_args()

    device = hardware.best_device()
    precision = hardware.choose_precision(GPT(ModelConfig()).to(device))
    seconds = {batch: step_seconds(batch, precision) for batch in BATCHES}
    table = Table("", *(f"batch {batch}, s" for batch in BATCHES), "times", title="One step")
    names = list(seconds[BATCHES[0]])
    for name in names:
        row = [seconds[batch][name] for batch in BATCHES]
        ratios = [seconds[batch][names[0]] / seconds[batch][name] for batch in BATCHES]
        table.add_row(
            name, *(f"{s:.3f}" for s in row), " / ".join(f"{ratio:.1f}" for ratio in ratios)
        )
    Console().print(table)
    # 64 is the reference's batch. With a smaller one, its many small products cost even more.
    ratio = seconds[64][names[0]] / seconds[64][names[-1]]
    bound = 3 if precision == "bf16" else 2
    reached = time_to_loss(options.loss, options.minutes, load_corpus())
    print(
        json.dumps(
            {
                "precision": precision,
                "threads": torch.get_num_threads(),
                "step_seconds": {str(batch): times for batch, times in seconds.items()},
                "speedup": ratio,
                "bound": bound,
                "held_out_loss": options.loss,
                **reached,
            }
        )
    )
    raise SystemExit(0 if ratio >= bound else 1)


def step_seconds(batch: int, precision: str) -> dict[str, float]:
    """Return the median seconds of a step of `batch` windows, measured alternately."""
    torch.manual_seed(1)
    original = PRESETS["original"]
    threads = torch.get_num_threads()
    steppers = {
        "reference network and recipe": stepper(Reference(dropout=0.1), original, batch, "fp32"),
        "this network, reference recipe": stepper(
            GPT(ModelConfig(), dropout=0.1, attention_dropout=0.1), original, batch, "fp32"
        ),
        "this project, PyTorch's threads": stepper(
            GPT(ModelConfig()), TrainingConfig(), batch, "fp32"
        ),
        "this project, fp32": stepper(GPT(ModelConfig()), TrainingConfig(), batch, "fp32", threads),
    }
    if precision == "bf16":
        steppers["this project, bf16"] = stepper(
            GPT(ModelConfig()), TrainingConfig(), batch, "bf16", threads
        )
    times: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in range(ROUNDS):
        for name, step in steppers.items():
            started = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - started)
    # The first round warms up.
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


def stepper(
    model: nn.Module, config: TrainingConfig, batch: int, precision: str, threads: int = 1
) -> Callable[[], None]:
    """Return a function that runs one training step on a fixed batch."""
    device = hardware.best_device()
    model.to(device).train()
    ids = torch.randint(VOCABULARY, (batch, 257), device=device)
    if isinstance(model, GPT):
        optimizers = build_optimizers(model, config)
    else:
        optimizers = [torch.optim.AdamW(model.parameters(), lr=config.adam_lr)]

    gradients = Gradients(model, precision, threads)

    def step() -> None:
        loss = gradients.compute(ids[:, :-1], ids[:, 1:])
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        float(loss)  # waits for a GPU

    return step


def time_to_loss(target: float, minutes: float, corpus: Corpus) -> dict[str, float | None]:
    """Return the steps and seconds of training until the held-out loss is at most `target`.

    Both are None if the run does not reach it in `minutes`. The loss is measured every 50 steps;
    that time is not counted.
    """
    config = replace(PRESETS["default"], evaluations=PRESETS["default"].steps // 50)
    trained = 0.0
    for event in Trainer(corpus, config).run():
        match event:
            case Progress():
                characters = event.step * config.batch * 256
                trained = characters / event.characters_per_second
                if event.held_out_loss is not None and event.held_out_loss <= target:
                    return {"steps": event.step, "seconds": trained}
                if trained > 60 * minutes:
                    break
            case Finished():
                break
    return {"steps": None, "seconds": None}


if __name__ == "__main__":
    main()
