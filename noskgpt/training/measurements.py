"""Measure a model in training: its held-out loss, a sample, and the durations of a run's parts."""

import copy
import time
from collections.abc import Callable

import torch

from noskgpt.checkpoint import Checkpoint
from noskgpt.evaluation import evaluate
from noskgpt.inference.generator import Generator
from noskgpt.model import GPT
from noskgpt.runs import SAMPLE_CHARS
from noskgpt.training import hardware
from noskgpt.training.distributed import Group
from noskgpt.training.gradients import Gradients
from noskgpt.training.planning import Costs
from noskgpt.training.recipe import TrainingConfig, build_optimizers
from noskgpt.training.text import TrainingText
from noskgpt.training.updates import Updates


class Measurements:
    """Measure the current weights of a model, and the machine.

    Args:
        model: The model.
        text: Its text, whose held-out part is evaluated.
        config: The configuration of the run.
        group: The device, and the processes that share the run.
    """

    def __init__(
        self, model: GPT, text: TrainingText, config: TrainingConfig, group: Group
    ) -> None:
        self.peak_flops = 0.0
        """Highest measured speed of the processes together, in operations per second."""
        self._model = model
        self._text = text
        self._config = config
        self._group = group

    def loss(self, characters: int) -> float:
        """Return the loss over the first characters of the held-out text."""
        return evaluate(self._model, self._text.held_out[:characters], self._group).loss

    def sample(self, characters: int = SAMPLE_CHARS) -> str:
        """Return a text of the current weights.

        PyTorch decodes it: the loops of the compiled decoder may not be in the cache yet, and to
        compile them takes longer than a short run has.
        """
        checkpoint = Checkpoint(
            config=self._model.config,
            vocabulary=self._text.vocabulary,
            weights=self._model.arrays(),
        )
        decoder = Generator(checkpoint, fast=False)
        threads = torch.get_num_threads()
        # Its operations are so small that threads mostly wait for each other.
        torch.set_num_threads(1)
        try:
            return decoder.generate("", characters, seed=self._config.seed)
        finally:
            torch.set_num_threads(threads)

    def update_peak(self, precision: str) -> None:
        """Measure the peak again and keep the maximum: other work can make a result far too low."""
        peak = hardware.measure_peak(self._group.device, precision) * self._group.size
        self.peak_flops = max(self.peak_flops, peak)

    def costs(self, updates: Updates, gradients: Gradients, precision: str) -> Costs:
        """Measure what the parts of a run take, the second time: the first may be slower.

        The weights do not change: the optimizers update a copy.

        Args:
            updates: The updates of the run, before the first step.
            gradients: Computes the gradients.
            precision: The precision of the run.
        """
        trial = copy.deepcopy(self._model)
        for parameter in trial.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizers = build_optimizers(trial, self._config)
        batch = updates.batch(0)
        part = min(64 * self._model.config.context, len(self._text.held_out))

        def take_step() -> None:
            gradients.compute(*batch)
            for optimizer in optimizers:
                optimizer.step()

        _, step = [_seconds(take_step) for _ in range(2)]
        self._model.zero_grad(set_to_none=True)
        _, evaluation = [_seconds(lambda: self.loss(part)) for _ in range(2)]
        _, sample = [_seconds(lambda: self.sample(SAMPLE_CHARS // 5)) for _ in range(2)]
        return Costs(
            step=step,
            evaluation=evaluation * len(self._text.held_out) / part,
            sample=5 * sample + _seconds(lambda: self.update_peak(precision)),
        )


def _seconds(work: Callable[[], object]) -> float:
    """Return the duration of `work`."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
