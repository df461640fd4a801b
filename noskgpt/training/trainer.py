"""Train a model from a configuration, yield progress events, and return a checkpoint at the end.

The trainer is independent of terminals, files and Discord: the caller that iterates over the events
displays and saves them. `noskgpt.training.recipe` defines the configurations, and
`noskgpt.training.run_files` saves and resumes runs.
"""

import copy
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from noskgpt import lexicon, scene
from noskgpt.checkpoint import Checkpoint, TrainingRecord
from noskgpt.config import ModelConfig
from noskgpt.corpus import Corpus
from noskgpt.errors import TrainingError
from noskgpt.evaluation import evaluate
from noskgpt.inference.generator import Generator
from noskgpt.model import GPT
from noskgpt.runs import SAMPLE_CHARS, Event, Finished, Interrupted, Progress, Started
from noskgpt.tokenizer import VOCABULARY, Tokenizer
from noskgpt.training import hardware, planning, warm_start
from noskgpt.training.batches import Batches
from noskgpt.training.distributed import Group
from noskgpt.training.gradients import Gradients
from noskgpt.training.muon import Muon
from noskgpt.training.planning import Costs, Plan
from noskgpt.training.recipe import (
    TrainingConfig,
    build_optimizers,
    fine_tuning_factor,
    lr_factor,
)
from noskgpt.training.warm_start import StartWeights

_SPEED_STEPS = 30
"""Number of latest steps over which the reported speed is averaged."""
_MAX_POINTS = 50_000
"""Points of a curve: a file of more values than `limits.MAX_OPERATIONS` allows cannot be loaded."""


class Trainer:
    """Train a model on `corpus.train`, of the reference's shape or from trained weights.

    A model that starts from nothing has the reference's 65 symbols as its vocabulary if they cover
    the text, otherwise the characters of the text. With `start`, the model has its vocabulary and
    shape, and the text is converted to that vocabulary.

    The same corpus, configuration, precision, machine and number of threads and processes give the
    same losses, also if the run is stopped and resumed. The number of steps of a run with a time
    limit depends on the speed of the machine; a resumed run keeps the number that was planned last.
    With `start`, the learning rates are lower; see `fine_tuning_factor`.

    Args:
        corpus: The text.
        config: The configuration of the run; None uses the defaults.
        command: The command line, stored in the checkpoint.
        group: The device, and the processes that share the run; each creates a trainer.
        start: The weights to start from; None starts from nothing.
        began: The value of `time.perf_counter` at which the time of the run began; None is now.
        state: Resumes the run that returned it from `Trainer.state`; replaces `config`, `command`
            and `start`.

    Raises:
        TrainingError: The text is too short or does not fit the vocabulary of `start`, the batch
            cannot be divided among the processes, or the state belongs to another text or another
            number of processes.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: TrainingConfig | None = None,
        *,
        command: str = "",
        group: Group | None = None,
        start: Checkpoint | None = None,
        began: float | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._start_time = time.perf_counter() if began is None else began
        self._resumed = state is not None
        if state is not None:
            config, command = _read_config(state), state["command"]
        self.config = config = config or TrainingConfig()
        self.corpus = corpus
        self.command = command
        self.group = group or Group(hardware.best_device())
        if config.batch % self.group.size:
            msg = (
                f"A batch of {config.batch} cannot be divided among {self.group.size} processes. "
                f"Choose a --batch that is a multiple of {self.group.size}."
            )
            raise TrainingError(msg)
        self.start = _read_start(state, start)
        """The weights that the run started from; None if it started from nothing."""
        self.start_loss: float | None = None
        ids = self._encode(corpus)
        self._train_characters = len(ids)
        self.model = self._create_model(start)
        self._batches = Batches(ids, config.batch, self.model.config.context, config.seed)
        self._optimizers = build_optimizers(self.model, config)
        self._peak_lrs = [[g["lr"] for g in o.param_groups] for o in self._optimizers]

        self.step = 0
        self.steps = config.steps
        self.evaluations = config.evaluations
        """Number of evaluations after steps; a time limit may reduce it to 1."""
        self.evaluated_characters = len(self._held_out)
        """Number of held-out characters that are evaluated; a time limit may reduce it."""
        self.precision = config.precision
        self.curve: list[tuple[int, float, float | None]] = []
        """(step, training loss, held-out loss or None) of every progress event so far."""
        self._evaluations_done = 0
        self._evaluation_seconds = 0.0
        self._lr_scale = 1.0
        self._losses: list[float] = []
        self._seconds_before_resume = 0.0
        self._stopping = False
        if state is not None:
            self._restore(state)
        elif self.precision == "auto":
            # The processes measure different times, so the first one decides for all.
            faster = hardware.choose_precision(self.model) == "bf16"
            self.precision = "bf16" if self.group.broadcast(faster)[0] else "fp32"
        self.peak_flops = 0.0
        self._measure_peak()
        self._step_seconds = 0.0
        self._measured_steps = 0
        self._latest_seconds: deque[float] = deque(maxlen=_SPEED_STEPS)

    def _encode(self, corpus: Corpus) -> Tensor:
        """Choose the vocabulary; return the ids of the training text, and keep the held-out ones.

        Raises:
            TrainingError: The text does not fit the vocabulary of the start weights.
        """
        self.vocabulary, self._left_out, words = corpus.vocabulary, "", frozenset[str]()
        if self.start is not None:
            self.vocabulary, words = self.start.vocabulary, self.start.words
            corpus, (self._left_out, _) = warm_start.fold(corpus, self.start)
        elif set(self.vocabulary) <= set(VOCABULARY):
            self.vocabulary = VOCABULARY
        # Before the plan of a run with a time limit, which then contains what a text takes.
        self._lexicon = lexicon.build(self.vocabulary, lexicon.words(corpus.train) | words)
        self._casts = scene.build(self.corpus.plays)
        tokenizer, device = Tokenizer(self.vocabulary), self.group.device
        self._held_out = torch.tensor(tokenizer.encode(corpus.held_out)).to(device)
        return torch.tensor(tokenizer.encode(corpus.train)).to(device)

    def _create_model(self, start: Checkpoint | None) -> GPT:
        """Return the model before the first step, with the start weights or random ones."""
        config = self.start.config if self.start else ModelConfig(vocab_size=len(self.vocabulary))
        model = GPT(
            config,
            dropout=self.config.dropout,
            attention_dropout=self.config.attention_dropout,
        )
        model.initialize(torch.Generator().manual_seed(self.config.seed))
        if start is not None:
            model.load_arrays(start.weights)
        return model.to(self.group.device)

    def stop(self) -> None:
        """Stop the run after the current step. Safe to call from a signal handler."""
        self._stopping = True

    def run(self) -> Iterator[Event]:
        """Train; yield an event at the start, every few steps, and at the end.

        Raises:
            TrainingError: The loss or a weight is not finite, or the run has a time limit that is
                too short.
        """
        network = self.group.wrap(self.model)
        with closing(Gradients(network, self.precision, self._gradient_threads())) as gradients:
            yield from self._run(gradients)

    def _run(self, gradients: Gradients) -> Iterator[Event]:
        self.model.train()
        if self.config.minutes is not None and not self._resumed:
            self._plan(gradients)
        if self.start is not None and not self._resumed:
            self.start_loss = self._measure_loss()
            characters = self.steps * self.config.batch * self.model.config.context
            self._lr_scale = fine_tuning_factor(characters / self._train_characters)
        yield Started(
            step=self.step,
            steps=self.steps,
            parameters=self.model.parameter_count(),
            characters=len(self.corpus.train),
            precision=self.precision,
            device=str(self.group.device),
            threads=torch.get_num_threads(),
            processes=self.group.size,
            characters_per_step=self.config.batch * self.model.config.context,
            peak_flops=self.peak_flops,
            start_weights=self.start.name if self.start else None,
            start_loss=self.start_loss,
            left_out=self._left_out,
            held_out_characters=len(self._held_out),
            evaluated_characters=self.evaluated_characters,
        )
        while self.step < self.steps:
            step_start = time.perf_counter()
            self._losses.append(self._train_step(gradients))
            self.step += 1
            seconds = time.perf_counter() - step_start
            self._latest_seconds.append(seconds)
            self._step_seconds += seconds
            self._measured_steps += 1
            stopping = self._update_plan()
            last = self.step == self.steps
            if last:
                self._round_weights()
            due = self.step * self.evaluations >= (self._evaluations_done + 1) * self.steps
            interval = max(self.config.report_every, self.steps // _MAX_POINTS)
            if due or self.step % interval == 0 or self.step == 1:
                yield self._report(evaluate_now=due)
            if stopping and not last:
                self._check_losses()
                yield Interrupted(self.step, self.steps)
                return
        yield Finished(self._checkpoint())

    def state(self) -> dict[str, Any]:
        """Return the state that resumes the run from here, bit for bit: plain values and tensors.

        The order of the text and the random choices of dropout are functions of the seed and the
        step, so that these two replace the data position and the random state.

        Raises:
            TrainingError: A weight is not finite, so the run could not be resumed.
        """
        if not self._is_finite():
            raise TrainingError(self._not_finite_message())
        return copy.deepcopy(
            {
                "config": asdict(self.config),
                "command": self.command,
                "corpus_sha256": self.corpus.sha256,
                "processes": self.group.size,
                "threads": torch.get_num_threads(),
                "precision": self.precision,
                "step": self.step,
                "steps": self.steps,
                "evaluated": self._evaluations_done,
                "evaluations": self.evaluations,
                "evaluated_characters": self.evaluated_characters,
                "evaluation_seconds": self._evaluation_seconds,
                "start": self.start.to_values() if self.start else None,
                "start_loss": self.start_loss,
                "lr_scale": self._lr_scale,
                "losses": self._losses,
                "curve": self.curve,
                "seconds": self.seconds,
                "weights": self.model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            }
        )

    @property
    def seconds(self) -> float:
        """Return the duration of the run in seconds, including the time before a resume."""
        return self._seconds_before_resume + time.perf_counter() - self._start_time

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Set the trainer to an earlier state."""
        if state["corpus_sha256"] != self.corpus.sha256:
            msg = (
                f"{self.corpus.name} is not the text that this run started with. "
                "Give the path of that text with --corpus."
            )
            raise TrainingError(msg)
        if state["processes"] != self.group.size:
            msg = (
                f"This run started with {state['processes']} processes. "
                "Resume it with the same number."
            )
            raise TrainingError(msg)
        self.precision = state["precision"]
        self.step, self.steps = state["step"], state["steps"]
        self._evaluations_done = state["evaluated"]
        # States of earlier versions do not have these.
        self.evaluations = state.get("evaluations", self.evaluations)
        self.evaluated_characters = state.get("evaluated_characters", self.evaluated_characters)
        if not 1 < self.evaluated_characters <= len(self._held_out):
            msg = "it evaluates more or less than the held-out text"
            raise ValueError(msg)
        self._evaluation_seconds = state.get("evaluation_seconds", 0.0)
        self.start_loss = state.get("start_loss")
        self._lr_scale = state.get("lr_scale", 1.0)
        self._losses = list(state["losses"])
        self.curve = [tuple(point) for point in state["curve"]]
        self._seconds_before_resume = state["seconds"]
        self.model.load_state_dict(state["weights"])
        if not self._is_finite():
            msg = "a weight is not finite"
            raise ValueError(msg)
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            _check_moments(optimizer, saved["state"])
            # The settings are those of the configuration.
            settings = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict(
                {"state": copy.deepcopy(saved["state"]), "param_groups": settings}
            )

    def _is_finite(self) -> bool:
        """Return whether all weights are finite."""
        return all(bool(p.isfinite().all()) for p in self.model.parameters())

    def _gradient_threads(self) -> int:
        """Return the number of threads among which the rows of a batch are divided."""
        config = self.config
        # Dropout uses one random generator; several threads would use it in a varying order.
        random = config.dropout or config.attention_dropout
        if random or self.group.size > 1:
            return 1
        return min(torch.get_num_threads(), config.batch)

    def _train_step(self, gradients: Gradients) -> float:
        """Run one training step; return the mean loss of the batch over all processes."""
        config, group = self.config, self.group
        factor = self._lr_scale * lr_factor(self.step, self.steps, config)
        for optimizer, peak_lrs in zip(self._optimizers, self._peak_lrs, strict=True):
            for param_group, peak_lr in zip(optimizer.param_groups, peak_lrs, strict=True):
                param_group["lr"] = peak_lr * factor
        if config.dropout or config.attention_dropout:
            # Dropout uses the global random generator.
            torch.manual_seed(hash((config.seed, self.step, group.rank)) % 2**63)
        rows = slice(group.rank, None, group.size)
        inputs, targets = self._batches.get(self.step, rows)
        loss = gradients.compute(inputs, targets)
        if math.isfinite(config.gradient_clip):
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(group.sum(loss) / group.size)

    def _update_plan(self) -> bool:
        """Update the planned number of steps; return whether to stop after this one.

        The first process decides for all, because each has its own clock and receives signals
        between different steps.
        """
        steps = self.steps
        if self.config.minutes is not None and not self._resumed:
            evaluations_left = self.evaluations - self._evaluations_done
            seconds_left = 60 * self.config.minutes - self.seconds - planning.FINISH_SECONDS
            seconds_left -= evaluations_left * self._evaluation_seconds
            # The mean over all steps keeps the learning-rate schedule stable while other work
            # slows some steps down. The run still ends on time, because the number of steps left
            # shrinks with the time left.
            mean = self._step_seconds / self._measured_steps
            steps = self.step + max(0, round(seconds_left / mean))
        self.steps, stopping = self.group.broadcast(steps, self._stopping)
        return bool(stopping)

    def _measure_peak(self) -> None:
        """Measure the peak again and keep the maximum: other work can make a result far too low."""
        peak = hardware.measure_peak(self.group.device, self.precision) * self.group.size
        self.peak_flops = max(self.peak_flops, peak)

    def _plan(self, gradients: Gradients) -> None:
        """Plan evaluations and steps of a run with a time limit.

        The first process decides for all, as in `_update_plan`.

        Raises:
            TrainingError: The time is too short.
        """
        assert self.config.minutes is not None  # noqa: S101 - the caller's condition
        costs = self._measure_costs(gradients)
        plan, problem = Plan(steps=0, evaluations=0, evaluated=0, evaluation_seconds=0.0), None
        try:
            plan = planning.plan(
                self.config.minutes,
                spent=self.seconds,
                costs=costs,
                evaluations=self.config.evaluations,
                held_out=len(self._held_out),
                context=self.model.config.context,
                warm_start=self.start is not None,
            )
        except TrainingError as error:
            problem = error
        self.steps, self.evaluations, self.evaluated_characters = self.group.broadcast(
            plan.steps, plan.evaluations, plan.evaluated
        )
        if not self.steps:
            raise problem or TrainingError("The first process found the time too short.")
        self._evaluation_seconds = plan.evaluation_seconds
        self._step_seconds, self._measured_steps = costs.step, 1

    def _measure_costs(self, gradients: Gradients) -> Costs:
        """Measure what the parts of a run take, the second time: the first may be slower.

        The weights do not change: the optimizers update a copy.
        """
        trial = copy.deepcopy(self.model)
        for parameter in trial.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizers = build_optimizers(trial, self.config)
        batch = self._batches.get(self.step, slice(self.group.rank, None, self.group.size))
        part = self._held_out[: 64 * self.model.config.context]

        def measure(work: Callable[[], object]) -> float:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start

        def take_step() -> None:
            gradients.compute(*batch)
            for optimizer in optimizers:
                optimizer.step()

        _, step = [measure(take_step) for _ in range(2)]
        self.model.zero_grad(set_to_none=True)
        _, evaluation = [measure(lambda: evaluate(self.model, part, self.group)) for _ in range(2)]
        _, sample = [measure(lambda: self._sample(SAMPLE_CHARS // 5)) for _ in range(2)]
        return Costs(
            step=step,
            evaluation=evaluation * len(self._held_out) / len(part),
            sample=5 * sample + measure(self._measure_peak),
        )

    def _check_losses(self) -> None:
        if not all(map(math.isfinite, self._losses)):
            raise TrainingError(self._not_finite_message())

    def _not_finite_message(self) -> str:
        return (
            f"The loss is not finite at step {self.step}. "
            "Use lower learning rates or --precision fp32."
        )

    def _round_weights(self) -> None:
        """Finish the weights: round the hidden matrices, which the decoder then reads faster.

        The last evaluation measures the rounded weights, which are those of the checkpoint.
        """
        self.model.round_to_bfloat16()

    def _report(self, *, evaluate_now: bool) -> Progress:
        """Record the losses since the last event in the curve; return the event."""
        self._check_losses()
        train_loss = sum(self._losses) / len(self._losses)
        self._losses.clear()
        held_out, sample = self._evaluate() if evaluate_now else (None, None)
        self.curve.append((self.step, train_loss, held_out))
        step_seconds = sum(self._latest_seconds) / len(self._latest_seconds)
        characters_per_second = self.config.batch * self.model.config.context / step_seconds
        evaluations_left = self.evaluations - self._evaluations_done
        return Progress(
            step=self.step,
            steps=self.steps,
            train_loss=train_loss,
            held_out_loss=held_out,
            characters_per_second=characters_per_second,
            peak_fraction=characters_per_second * self.model.training_flops() / self.peak_flops,
            seconds=self.seconds,
            seconds_left=step_seconds * (self.steps - self.step)
            + evaluations_left * self._evaluation_seconds,
            sample=sample,
        )

    def _evaluate(self) -> tuple[float, str]:
        """Return the held-out loss and a sample of text, both with the current weights."""
        start = time.perf_counter()
        loss = self._measure_loss()
        self._evaluations_done += 1
        self._measure_peak()
        sample = self._sample()
        self._evaluation_seconds = time.perf_counter() - start
        return loss, sample

    def _measure_loss(self) -> float:
        """Return the loss of the current weights over the evaluated part of the held-out text."""
        return evaluate(self.model, self._held_out[: self.evaluated_characters], self.group).loss

    def _sample(self, characters: int = SAMPLE_CHARS) -> str:
        """Return a text of the current weights.

        PyTorch decodes it: the loops of the compiled decoder may not be in the cache yet, and to
        compile them takes longer than a short run has.
        """
        checkpoint = Checkpoint(
            config=self.model.config, vocabulary=self.vocabulary, weights=self.model.arrays()
        )
        decoder = Generator(checkpoint, fast=False)
        threads = torch.get_num_threads()
        # Its operations are so small that threads mostly wait for each other.
        torch.set_num_threads(1)
        try:
            return decoder.generate("", characters, seed=self.config.seed)
        finally:
            torch.set_num_threads(threads)

    def _checkpoint(self) -> Checkpoint:
        """Return the current weights with the record of the run."""
        _, train_loss, held_out = self.curve[-1]
        return Checkpoint(
            config=self.model.config,
            vocabulary=self.vocabulary,
            weights=self.model.arrays(),
            lexicon=self._lexicon,
            casts=self._casts,
            training=TrainingRecord(
                steps=self.steps,
                batch=self.config.batch,
                train_loss=train_loss,
                held_out_loss=held_out,
                held_out_characters=len(self._held_out),
                evaluated_characters=self.evaluated_characters,
                start_weights=self.start.name if self.start else None,
                start_command=self.start.command if self.start else None,
                start_loss=self.start_loss,
                curve=tuple(self.curve),
                corpus_sha256=self.corpus.sha256,
                command=self.command,
                seed=self.config.seed,
                seconds=self.seconds,
                precision=self.precision,
                device=str(self.group.device),
                threads=torch.get_num_threads(),
                processes=self.group.size,
                torch_version=str(torch.__version__),
                finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
        )


def _check_moments(optimizer: torch.optim.Optimizer, state: Mapping[int, Any]) -> None:
    """Raise `ValueError` unless a saved state has the moments of the optimizer's parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    names = {"momentum"} if isinstance(optimizer, Muon) else {"step", "exp_avg", "exp_avg_sq"}
    for index, moments in state.items():
        shapes = {name: parameters[index].shape if name != "step" else () for name in names}
        if {name: tuple(moment.shape) for name, moment in moments.items()} != shapes or not all(
            bool(moment.isfinite().all()) for moment in moments.values()
        ):
            msg = "a moment of the optimizer is missing, not finite, or of a wrong shape"
            raise ValueError(msg)


_RENAMED_SETTINGS = {
    "muon_rate": "muon_lr",
    "adam_rate": "adam_lr",
    "warmup_share": "warmup_fraction",
    "decay_share": "decay_fraction",
}
"""Settings that a state saved by an earlier version has under another name."""
_REMOVED_SETTINGS = {"sharpening": 1.0}
"""Settings of earlier versions, with the values that have no effect."""


def _read_start(state: Mapping[str, Any] | None, start: Checkpoint | None) -> StartWeights | None:
    """Return what describes the start weights of a new or a resumed run."""
    if state is None:
        return StartWeights.of(start) if start is not None else None
    values = state.get("start")  # states of earlier versions do not have it
    return StartWeights.from_values(values) if values is not None else None


def _read_config(state: Mapping[str, Any]) -> TrainingConfig:
    """Return the configuration of the run that a `Trainer.state` resumes.

    Raises:
        TrainingError: The state has a setting that this version does not have.
    """
    settings = {_RENAMED_SETTINGS.get(k, k): v for k, v in state["config"].items()}
    for name, value in _REMOVED_SETTINGS.items():
        if settings.get(name) == value:
            del settings[name]
    unknown = sorted(settings.keys() - {field.name for field in fields(TrainingConfig)})
    if unknown:
        msg = (
            f"This run has settings that this version of noskgpt does not have: "
            f"{', '.join(unknown)}. Resume it with the version that started it."
        )
        raise TrainingError(msg)
    return TrainingConfig(**settings)
