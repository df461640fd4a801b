"""Train a model from a configuration, yield progress events, and return a checkpoint at the end.

The trainer is independent of terminals, files and Discord: the caller that iterates over the events
displays and saves them. `noskgpt.training.recipe` defines the configurations, and
`noskgpt.training.run_files` saves and resumes runs.
"""

import copy
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

import torch

from noskgpt import lexicon, scene
from noskgpt.checkpoint import Checkpoint, TrainingRecord
from noskgpt.corpus import Corpus
from noskgpt.errors import TrainingError
from noskgpt.evaluation import evaluate
from noskgpt.inference.generator import Generator
from noskgpt.model import GPT, ModelConfig
from noskgpt.tokenizer import VOCABULARY, Tokenizer
from noskgpt.training import hardware
from noskgpt.training.batches import Batches
from noskgpt.training.distributed import Group
from noskgpt.training.gradients import Gradients
from noskgpt.training.recipe import TrainingConfig, build_optimizers, lr_factor

SAMPLE_CHARS = 240
_SPEED_STEPS = 30
"""Number of latest steps over which the reported speed is averaged."""


@dataclass(frozen=True, slots=True)
class Started:
    """Signal that a run starts or resumes."""

    step: int
    """Number of completed steps; 0 unless the run resumes."""
    steps: int
    """Planned number of steps."""
    parameters: int
    characters: int
    """Length of the training text."""
    precision: str
    device: str
    threads: int
    processes: int
    peak_flops: float
    """Floating-point operations per second of large matrix products, over all processes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Report the state of a run after a step. Losses are nats per character."""

    step: int
    steps: int
    """Planned number of steps; may change from event to event if the run has a time limit."""
    train_loss: float
    """Mean over the steps since the last event."""
    held_out_loss: float | None
    """Exact, over the entire held-out text; None if not measured at this step."""
    characters_per_second: float
    """Training speed over the latest steps, without the time of evaluations."""
    peak_fraction: float
    """Floating-point operations of these steps as a fraction of the peak of `Started`."""
    seconds: float
    """Duration of the run so far, without interruptions."""
    seconds_left: float
    sample: str | None
    """Text generated with the current weights; None if the held-out loss was not measured."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Signal that a run has stopped on request; `Trainer.state` returns the state to resume it."""

    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Signal that a run is complete."""

    checkpoint: Checkpoint


Event = Started | Progress | Interrupted | Finished


class Trainer:
    """Train a model of the reference's shape on `corpus.train`.

    The vocabulary is the reference's 65 symbols if they cover the text, otherwise the characters
    of the text. The same corpus, configuration, precision, machine and number of threads and
    processes give the same losses, also if the run is stopped and resumed. The number of steps of
    a run with a time limit depends on the speed of the machine.

    Args:
        corpus: The text.
        config: The configuration of the run; None uses the defaults.
        command: The command line, stored in the checkpoint.
        group: The device, and the processes that share the run; each creates a trainer.
        state: Resumes the run that returned it from `Trainer.state`; replaces `config` and
            `command`.

    Raises:
        TrainingError: The text is too short, the batch cannot be divided among the processes, or
            the state belongs to another text or another number of processes.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: TrainingConfig | None = None,
        *,
        command: str = "",
        group: Group | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._start_time = time.perf_counter()
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
        vocabulary = corpus.vocabulary
        if set(vocabulary) <= set(VOCABULARY):
            vocabulary = VOCABULARY
        self._lexicon = lexicon.build(vocabulary, lexicon.words(corpus.train))
        tokenizer = Tokenizer(vocabulary)
        self.vocabulary = vocabulary
        device = self.group.device
        self._held_out = torch.tensor(tokenizer.encode(corpus.held_out)).to(device)
        ids = torch.tensor(tokenizer.encode(corpus.train)).to(device)

        self.model = GPT(
            ModelConfig(vocab_size=len(vocabulary)),
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
        )
        self.model.initialize(torch.Generator().manual_seed(config.seed))
        self.model.to(device)
        self._batches = Batches(ids, config.batch, self.model.config.context, config.seed)
        self._optimizers = build_optimizers(self.model, config)
        self._peak_lrs = [[g["lr"] for g in o.param_groups] for o in self._optimizers]

        self.step = 0
        self.steps = config.steps
        self.precision = config.precision
        self.curve: list[tuple[int, float, float | None]] = []
        """(step, training loss, held-out loss or None) of every progress event so far."""
        self._evaluations_done = 0
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
        self._first_step = self.step
        self._step_seconds = 0.0
        self._latest_seconds: deque[float] = deque(maxlen=_SPEED_STEPS)
        self._evaluation_seconds = 0.0

    def stop(self) -> None:
        """Stop the run after the current step. Safe to call from a signal handler."""
        self._stopping = True

    def run(self) -> Iterator[Event]:
        """Train; yield an event at the start, every few steps, and at the end.

        Raises:
            TrainingError: The loss or a weight is not finite.
        """
        network = self.group.wrap(self.model)
        with closing(Gradients(network, self.precision, self._gradient_threads())) as gradients:
            yield from self._run(gradients)

    def _run(self, gradients: Gradients) -> Iterator[Event]:
        self.model.train()
        if self.config.minutes is not None:
            self._evaluation_seconds = self._estimate_evaluation_seconds()
        yield Started(
            step=self.step,
            steps=self.steps,
            parameters=self.model.parameter_count(),
            characters=len(self.corpus.train),
            precision=self.precision,
            device=str(self.group.device),
            threads=torch.get_num_threads(),
            processes=self.group.size,
            peak_flops=self.peak_flops,
        )
        while self.step < self.steps:
            step_start = time.perf_counter()
            self._losses.append(self._train_step(gradients))
            self.step += 1
            seconds = time.perf_counter() - step_start
            self._latest_seconds.append(seconds)
            self._step_seconds += seconds
            stopping = self._update_plan()
            last = self.step == self.steps
            if last:
                self._round_weights()
            due = self.step * self.config.evaluations >= (self._evaluations_done + 1) * self.steps
            if due or self.step % self.config.report_every == 0 or self.step == 1:
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
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
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
        self._losses = list(state["losses"])
        self.curve = [tuple(point) for point in state["curve"]]
        self._seconds_before_resume = state["seconds"]
        self.model.load_state_dict(state["weights"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(copy.deepcopy(saved))

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
        factor = lr_factor(self.step, self.steps, config)
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
        if self.config.minutes is not None:
            evaluations_left = self.config.evaluations - self._evaluations_done
            seconds_left = 60 * self.config.minutes - self.seconds
            seconds_left -= evaluations_left * self._evaluation_seconds
            # The mean over all steps keeps the learning-rate schedule stable while other work
            # slows some steps down. The run still ends on time, because the number of steps left
            # shrinks with the time left.
            mean = self._step_seconds / (self.step - self._first_step)
            steps = self.step + max(0, round(seconds_left / mean))
        self.steps, stopping = self.group.broadcast(steps, self._stopping)
        return bool(stopping)

    def _measure_peak(self) -> None:
        """Measure the peak again and keep the maximum: other work can make a result far too low."""
        peak = hardware.measure_peak(self.group.device, self.precision) * self.group.size
        self.peak_flops = max(self.peak_flops, peak)

    def _estimate_evaluation_seconds(self) -> float:
        """Estimate the duration of an evaluation by evaluating a part of the held-out text."""
        part = self._held_out[: 128 * self.model.config.context]
        evaluate(self.model, part)
        start = time.perf_counter()
        evaluate(self.model, part)
        return (time.perf_counter() - start) * len(self._held_out) / len(part)

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
        evaluations_left = self.config.evaluations - self._evaluations_done
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
        loss = evaluate(self.model, self._held_out, self.group).loss
        self._evaluations_done += 1
        self._measure_peak()
        sample = self._sample()
        self._evaluation_seconds = time.perf_counter() - start
        return loss, sample

    def _sample(self) -> str:
        # The decoder's loops are compiled for each type of weights. Rounded weights, as those of
        # the finished checkpoint, have the type that is in the cache.
        rounded = copy.deepcopy(self.model).cpu()
        rounded.round_to_bfloat16()
        checkpoint = Checkpoint(
            config=rounded.config, vocabulary=self.vocabulary, weights=rounded.state_dict()
        )
        return Generator(checkpoint).generate("", SAMPLE_CHARS, seed=self.config.seed)

    def _checkpoint(self) -> Checkpoint:
        """Return the current weights with the record of the run."""
        _, train_loss, held_out = self.curve[-1]
        weights = {name: t.detach().cpu().clone() for name, t in self.model.state_dict().items()}
        return Checkpoint(
            config=self.model.config,
            vocabulary=self.vocabulary,
            weights=weights,
            lexicon=self._lexicon,
            casts=scene.build(self.corpus.plays),
            training=TrainingRecord(
                steps=self.steps,
                batch=self.config.batch,
                train_loss=train_loss,
                held_out_loss=held_out,
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


_RENAMED_SETTINGS = {
    "muon_rate": "muon_lr",
    "adam_rate": "adam_lr",
    "warmup_share": "warmup_fraction",
    "decay_share": "decay_fraction",
}
"""Settings that a state saved by an earlier version has under another name."""
_REMOVED_SETTINGS = {"sharpening": 1.0}
"""Settings of earlier versions, with the values that have no effect."""


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
