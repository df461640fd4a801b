"""The trainer: takes a configuration, yields progress events, ends with a checkpoint.

It knows nothing of terminals, files or Discord; whoever iterates decides what to show and what
to write. `noskgpt.training.recipe` has the configurations, `noskgpt.training.run_files` keeps a
run on disk.
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

from noskgpt import lexicon
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
from noskgpt.training.recipe import TrainingConfig, build_optimizers, rate_factor

SAMPLE_CHARS = 240
_RECENT = 30
"""Steps whose mean duration is the speed that an event tells."""


@dataclass(frozen=True, slots=True)
class Started:
    """What a run begins with, or goes on with."""

    step: int
    """The steps already taken; 0 unless the run goes on."""
    steps: int
    parameters: int
    characters: int
    """Of the text to learn from."""
    precision: str
    device: str
    threads: int
    processes: int
    peak_flops: float
    """Floating-point operations a second of large matrix products here, all processes together."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. Losses are nats per character."""

    step: int
    steps: int
    """Planned; changes from event to event where the run is planned by time."""
    train_loss: float
    """Mean over the steps since the last event."""
    held_out_loss: float | None
    """Exact, over the whole held-out part; only on the steps that measured it."""
    characters_per_second: float
    """Learnt from, in the steps just taken; the time of evaluations is not counted."""
    peak_share: float
    """Share of the machine's matrix-multiply peak that these steps reached."""
    seconds: float
    """Since the run began, interruptions not counted."""
    seconds_left: float
    sample: str | None
    """Text from the weights as they are; only on the steps that measured the held-out loss."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The run was asked to stop; `Trainer.state` holds what continues it."""

    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a run."""

    checkpoint: Checkpoint


Event = Started | Progress | Interrupted | Finished


class Trainer:
    """A run of a model of the reference's shape on `corpus.train`.

    The alphabet is the reference's 65 symbols where they cover the text, else the text's own.
    The same corpus, configuration, precision, machine and number of threads and processes give
    the same losses, and so does a run that was stopped and continued; only a run planned by time
    has as many steps as the machine happens to manage.

    Args:
        corpus: The text.
        config: The run.
        command: The command line, for the record in the weights.
        group: The processes that share the run, and the device; each makes a trainer.
        state: What `state` returned at an earlier moment of the same run, to go on from there.

    Raises:
        TrainingError: The text is too short, the batch cannot be shared out, or the state is of
            another text or another number of processes.
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
        self._began = time.perf_counter()
        if state is not None:
            config, command = config_of(state), state["command"]
        self.config = config = config or TrainingConfig()
        self.corpus = corpus
        self.command = command
        self.group = group or Group(hardware.best_device())
        if config.batch % self.group.size:
            msg = (
                f"A batch of {config.batch} cannot be shared out to {self.group.size} processes. "
                "Choose a --batch that can."
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
        self._base_rates = [[g["lr"] for g in o.param_groups] for o in self._optimizers]

        self.step = 0
        self.steps = config.steps
        self.precision = config.precision
        self.curve: list[tuple[int, float, float | None]] = []
        """Step, training loss and, where it was measured, held-out loss of every event so far."""
        self._evaluated = 0
        self._losses: list[float] = []
        self._earlier_seconds = 0.0
        self._stopping = False
        if state is not None:
            self._restore(state)
        elif self.precision == "auto":
            # Each process would decide for itself, and one odd measurement would part them.
            faster = hardware.choose_precision(self.model) == "bf16"
            self.precision = "bf16" if self.group.agree(faster)[0] else "fp32"
        self.peak_flops = 0.0
        self._measure_peak()
        self._first_step = self.step
        self._step_seconds = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._evaluation_seconds = 0.0

    def stop(self) -> None:
        """Ask the run to end after the present step. May be called from a signal handler."""
        self._stopping = True

    def run(self) -> Iterator[Event]:
        """Train, and yield an event at the start, every few steps, and at the end.

        Raises:
            TrainingError: The loss is no longer a number.
        """
        network = self.group.wrap(self.model)
        with closing(Gradients(network, self.precision, self._threads())) as gradients:
            yield from self._run(gradients)

    def _run(self, gradients: Gradients) -> Iterator[Event]:
        self.model.train()
        if self.config.minutes is not None:
            self._evaluation_seconds = self._predict_evaluation()
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
            started = time.perf_counter()
            self._losses.append(self._learn(gradients))
            self.step += 1
            taken = time.perf_counter() - started
            self._recent.append(taken)
            self._step_seconds += taken
            stopping = self._plan()
            last = self.step == self.steps
            measured = self.step * self.config.evaluations >= (self._evaluated + 1) * self.steps
            if measured or self.step % self.config.report_every == 0 or self.step == 1:
                yield self._report(measured=measured, last=last)
            if stopping and not last:
                self._check_losses()
                yield Interrupted(self.step, self.steps)
                return
        yield Finished(self._finish())

    def state(self) -> dict[str, Any]:
        """Return what continues the run from here, bit for bit: plain values and tensors.

        The order of the text and the random choices of dropout follow from the seed and the step,
        so these two stand for the data position and the random state.

        Raises:
            TrainingError: A weight is no longer a number, so that nothing could go on from here.
        """
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise TrainingError(self._not_a_number())
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
                "evaluated": self._evaluated,
                "losses": self._losses,
                "curve": self.curve,
                "seconds": self.seconds,
                "weights": self.model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            }
        )

    @property
    def seconds(self) -> float:
        """Return the seconds spent on the run, those before an interruption included."""
        return self._earlier_seconds + time.perf_counter() - self._began

    def _restore(self, state: Mapping[str, Any]) -> None:
        if state["corpus_sha256"] != self.corpus.sha256:
            msg = f"{self.corpus.name} is not the text that this run began with. Name that one."
            raise TrainingError(msg)
        if state["processes"] != self.group.size:
            msg = f"This run began with {state['processes']} processes. Give it as many."
            raise TrainingError(msg)
        self.precision = state["precision"]
        self.step, self.steps = state["step"], state["steps"]
        self._evaluated = state["evaluated"]
        self._losses = list(state["losses"])
        self.curve = [tuple(point) for point in state["curve"]]
        self._earlier_seconds = state["seconds"]
        self.model.load_state_dict(state["weights"])
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(copy.deepcopy(kept))

    def _threads(self) -> int:
        """Return how many threads take rows of a batch each."""
        config = self.config
        # Dropout draws from one generator, in an order that threads would leave to chance.
        random = config.dropout or config.attention_dropout
        if random or self.group.size > 1:
            return 1
        return min(torch.get_num_threads(), config.batch)

    def _learn(self, gradients: Gradients) -> float:
        """Take one step; return its loss, the mean over the whole batch."""
        config, group = self.config, self.group
        factor = rate_factor(self.step, self.steps, config)
        for optimizer, rates in zip(self._optimizers, self._base_rates, strict=True):
            for param_group, rate in zip(optimizer.param_groups, rates, strict=True):
                param_group["lr"] = rate * factor
        if config.dropout or config.attention_dropout:
            # Dropout draws from the global generator.
            torch.manual_seed(hash((config.seed, self.step, group.rank)) % 2**63)
        rows = slice(group.rank, None, group.size)
        inputs, targets = self._batches.draw(self.step, rows)
        loss = gradients.compute(inputs, targets)
        if math.isfinite(config.gradient_clip):
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(group.sum(loss) / group.size)

    def _plan(self) -> bool:
        """Say after a step how many there will be; return whether to stop at this one.

        The first process decides for all: each has a clock of its own, and signals reach them
        between different steps.
        """
        steps = self.steps
        if self.config.minutes is not None:
            measurements = self.config.evaluations - self._evaluated
            left = 60 * self.config.minutes - self.seconds
            left -= measurements * self._evaluation_seconds
            # All steps so far, for a schedule that does not swing with what else the machine does.
            # It ends on time all the same: as the time left goes to nothing, so do the steps.
            mean = self._step_seconds / (self.step - self._first_step)
            steps = self.step + max(0, round(left / mean))
        self.steps, stopping = self.group.agree(steps, self._stopping)
        return bool(stopping)

    def _measure_peak(self) -> None:
        """Measure it anew now and then: beside other work, one measurement may be far too low."""
        peak = hardware.measure_peak(self.group.device, self.precision) * self.group.size
        self.peak_flops = max(self.peak_flops, peak)

    def _predict_evaluation(self) -> float:
        """Return how many seconds the held-out loss will take, from a part of the text."""
        part = self._held_out[: 128 * self.model.config.context]
        evaluate(self.model, part)
        started = time.perf_counter()
        evaluate(self.model, part)
        return (time.perf_counter() - started) * len(self._held_out) / len(part)

    def _check_losses(self) -> None:
        if not all(map(math.isfinite, self._losses)):
            raise TrainingError(self._not_a_number())

    def _not_a_number(self) -> str:
        return (
            f"The loss is no longer a number at step {self.step}. "
            "Lower the learning rates or train with --precision fp32."
        )

    def _report(self, *, measured: bool, last: bool) -> Progress:
        self._check_losses()
        train_loss = sum(self._losses) / len(self._losses)
        self._losses.clear()
        held_out: float | None = None
        sample: str | None = None
        if last:
            self.model.round_to_bfloat16()
        if measured:
            started = time.perf_counter()
            held_out = evaluate(self.model, self._held_out, self.group).loss
            self._evaluated += 1
            self._measure_peak()
            sample = self._sample()
            self._evaluation_seconds = time.perf_counter() - started
        self.curve.append((self.step, train_loss, held_out))
        step_seconds = sum(self._recent) / len(self._recent)
        characters = self.config.batch * self.model.config.context / step_seconds
        to_come = self.config.evaluations - self._evaluated
        return Progress(
            step=self.step,
            steps=self.steps,
            train_loss=train_loss,
            held_out_loss=held_out,
            characters_per_second=characters,
            peak_share=characters * self.model.training_flops() / self.peak_flops,
            seconds=self.seconds,
            seconds_left=step_seconds * (self.steps - self.step)
            + to_come * self._evaluation_seconds,
            sample=sample,
        )

    def _sample(self) -> str:
        # Rounded, as at the end: for such weights the decoder is compiled already.
        rounded = copy.deepcopy(self.model).cpu()
        rounded.round_to_bfloat16()
        bard = Generator(
            Checkpoint(
                config=rounded.config, vocabulary=self.vocabulary, weights=rounded.state_dict()
            )
        )
        return bard.generate("", SAMPLE_CHARS, seed=self.config.seed)

    def _finish(self) -> Checkpoint:
        _, train_loss, held_out = self.curve[-1]
        weights = {name: t.detach().cpu().clone() for name, t in self.model.state_dict().items()}
        return Checkpoint(
            config=self.model.config,
            vocabulary=self.vocabulary,
            weights=weights,
            lexicon=self._lexicon,
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


def config_of(state: Mapping[str, Any]) -> TrainingConfig:
    """Return the configuration of the run that a `Trainer.state` continues."""
    known = {field.name for field in fields(TrainingConfig)}
    return TrainingConfig(**{k: v for k, v in state["config"].items() if k in known})
