"""Train a model from a configuration, yield progress events, and return a checkpoint at the end.

The trainer is independent of terminals, files and Discord: the caller that iterates over the events
displays and saves them. `noskgpt.training.recipe` defines the configurations, and
`noskgpt.training.run_files` saves and resumes runs.
"""

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch

from noskgpt.checkpoint import Checkpoint, TrainingRecord
from noskgpt.commands import without_folders
from noskgpt.config import ModelConfig
from noskgpt.corpus import Corpus
from noskgpt.errors import TrainingError
from noskgpt.model import GPT
from noskgpt.runs import Event, Finished, Interrupted, Progress, Started
from noskgpt.training import hardware, planning, text
from noskgpt.training.distributed import Group
from noskgpt.training.gradients import Gradients
from noskgpt.training.measurements import Measurements
from noskgpt.training.pace import Pace
from noskgpt.training.planning import Plan
from noskgpt.training.position import Position, check_belongs, read_config
from noskgpt.training.recipe import TrainingConfig, fine_tuning_factor
from noskgpt.training.updates import Updates
from noskgpt.training.warm_start import StartWeights

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
        command: The command line, stored in the checkpoint without folders.
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
        self._pace = Pace(began)
        self._resumed = state is not None
        if state is not None:
            config, command = read_config(state), state["command"]
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
        self.start = StartWeights.of_run(state, start)
        """The weights that the run started from; None if it started from nothing."""
        self._text = text.prepare(corpus, self.start, self.group.device)
        self.model = self._create_model(start)
        self._updates = Updates(self.model, self._text.train, config, self.group)
        self.position = Position.of_run(config, held_out=len(self._text.held_out))
        self._stopping = False
        if state is not None:
            self._restore(state)
        elif config.precision == "auto":
            # The processes measure different times, so the first one decides for all.
            faster = hardware.choose_precision(self.model) == "bf16"
            self.position.precision = "bf16" if self.group.broadcast(faster)[0] else "fp32"
        self._measurements = Measurements(self.model, self._text, config, self.group)
        self._measurements.update_peak(self.position.precision)

    def _create_model(self, start: Checkpoint | None) -> GPT:
        """Return the model before the first step, with the start weights or random ones."""
        vocab_size = len(self._text.vocabulary)
        config = self.start.config if self.start else ModelConfig(vocab_size=vocab_size)
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
        with closing(self._updates.open_gradients(self.position.precision)) as gradients:
            yield from self._run(gradients)

    def _run(self, gradients: Gradients) -> Iterator[Event]:
        position = self.position
        self.model.train()
        if self.config.minutes is not None and not self._resumed:
            self._plan(self.config.minutes, gradients)
        if self.start is not None and not self._resumed:
            position.start_loss = self._measurements.loss(position.evaluated_characters)
            characters = position.steps * self.config.batch * self.model.config.context
            self._updates.lr_scale = fine_tuning_factor(characters / len(self._text.train))
        yield self._started()
        while position.step < position.steps:
            step_start = time.perf_counter()
            position.losses.append(
                self._updates.take_step(position.step, position.steps, gradients)
            )
            position.step += 1
            self._pace.add_step(time.perf_counter() - step_start)
            stopping = self._update_plan()
            last = position.step == position.steps
            if last:
                # The decoder reads them faster. The last evaluation measures the rounded weights,
                # which are those of the checkpoint.
                self.model.round_to_bfloat16()
            due = position.evaluation_due
            interval = max(self.config.report_every, position.steps // _MAX_POINTS)
            if due or position.step % interval == 0 or position.step == 1:
                yield self._report(evaluate_now=due)
            if stopping and not last:
                position.check_losses()
                yield Interrupted(position.step, position.steps)
                return
        yield Finished(self._checkpoint())

    def _started(self) -> Started:
        """Return the event of the start."""
        position = self.position
        return Started(
            step=position.step,
            steps=position.steps,
            parameters=self.model.parameter_count(),
            characters=len(self.corpus.train),
            precision=position.precision,
            device=str(self.group.device),
            threads=torch.get_num_threads(),
            processes=self.group.size,
            characters_per_step=self.config.batch * self.model.config.context,
            peak_flops=self._measurements.peak_flops,
            start_weights=self.start.name if self.start else None,
            start_loss=position.start_loss,
            left_out=self._text.left_out,
            held_out_characters=len(self._text.held_out),
            evaluated_characters=position.evaluated_characters,
        )

    def state(self) -> dict[str, Any]:
        """Return the state that resumes the run from here, bit for bit: plain values and tensors.

        The order of the text and the random choices of dropout are functions of the seed and the
        step, so that these two replace the data position and the random state.

        Raises:
            TrainingError: A weight is not finite, so the run could not be resumed.
        """
        if not self._is_finite():
            raise self.position.not_finite()
        return copy.deepcopy(
            {
                "config": asdict(self.config),
                "command": self.command,
                "corpus_sha256": self.corpus.sha256,
                "processes": self.group.size,
                "threads": torch.get_num_threads(),
                **self.position.to_values(),
                "evaluation_seconds": self._pace.evaluation_seconds,
                "start": self.start.to_values() if self.start else None,
                "lr_scale": self._updates.lr_scale,
                "seconds": self._pace.seconds,
                "weights": self.model.state_dict(),
                "optimizers": self._updates.moments(),
            }
        )

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Set the trainer to an earlier state."""
        check_belongs(state, self.corpus, self.group.size)
        self.position.restore(state)
        # States of earlier versions do not have these.
        self._pace.evaluation_seconds = state.get("evaluation_seconds", 0.0)
        self._updates.lr_scale = state.get("lr_scale", 1.0)
        self._pace.seconds_before_resume = state["seconds"]
        self.model.load_state_dict(state["weights"])
        if not self._is_finite():
            msg = "a weight is not finite"
            raise ValueError(msg)
        self._updates.restore(state["optimizers"])

    def _is_finite(self) -> bool:
        """Return whether all weights are finite."""
        return all(bool(p.isfinite().all()) for p in self.model.parameters())

    def _plan(self, minutes: float, gradients: Gradients) -> None:
        """Plan evaluations and steps of a run with a time limit.

        The first process decides for all, as in `_update_plan`.

        Raises:
            TrainingError: The time is too short.
        """
        position = self.position
        costs = self._measurements.costs(self._updates, gradients, position.precision)
        plan, problem = Plan(steps=0, evaluations=0, evaluated=0, evaluation_seconds=0.0), None
        try:
            plan = planning.plan(
                minutes,
                spent=self._pace.seconds,
                costs=costs,
                evaluations=self.config.evaluations,
                held_out=len(self._text.held_out),
                context=self.model.config.context,
                warm_start=self.start is not None,
            )
        except TrainingError as error:
            problem = error
        position.steps, position.evaluations, position.evaluated_characters = self.group.broadcast(
            plan.steps, plan.evaluations, plan.evaluated
        )
        if not position.steps:
            raise problem or TrainingError("The first process found the time too short.")
        self._pace.expect(step_seconds=costs.step, evaluation_seconds=plan.evaluation_seconds)

    def _update_plan(self) -> bool:
        """Update the planned number of steps; return whether to stop after this one.

        The first process decides for all, because each has its own clock and receives signals
        between different steps.
        """
        position, minutes = self.position, self.config.minutes
        steps = position.steps
        if minutes is not None and not self._resumed:
            steps = position.step + self._pace.steps_until(
                minutes, evaluations=position.evaluations_left
            )
        position.steps, stopping = self.group.broadcast(steps, self._stopping)
        return bool(stopping)

    def _report(self, *, evaluate_now: bool) -> Progress:
        """Record the losses since the last event in the curve; return the event."""
        position = self.position
        position.check_losses()
        train_loss = sum(position.losses) / len(position.losses)
        position.losses.clear()
        held_out, sample = self._evaluate() if evaluate_now else (None, None)
        position.curve.append((position.step, train_loss, held_out))
        characters = self.config.batch * self.model.config.context
        characters_per_second = characters / self._pace.step_seconds
        flops = characters_per_second * self.model.training_flops()
        return Progress(
            step=position.step,
            steps=position.steps,
            train_loss=train_loss,
            held_out_loss=held_out,
            characters_per_second=characters_per_second,
            peak_fraction=flops / self._measurements.peak_flops,
            seconds=self._pace.seconds,
            seconds_left=self._pace.seconds_for(
                position.steps - position.step, evaluations=position.evaluations_left
            ),
            sample=sample,
        )

    def _evaluate(self) -> tuple[float, str]:
        """Return the held-out loss and a sample of text, both with the current weights."""
        start = time.perf_counter()
        loss = self._measurements.loss(self.position.evaluated_characters)
        self.position.evaluations_done += 1
        self._measurements.update_peak(self.position.precision)
        sample = self._measurements.sample()
        self._pace.evaluation_seconds = time.perf_counter() - start
        return loss, sample

    def _checkpoint(self) -> Checkpoint:
        """Return the current weights with the record of the run."""
        position = self.position
        _, train_loss, held_out = position.curve[-1]
        start = self.start.command if self.start else None
        return Checkpoint(
            config=self.model.config,
            vocabulary=self._text.vocabulary,
            weights=self.model.arrays(),
            lexicon=self._text.lexicon,
            casts=self._text.casts,
            training=TrainingRecord(
                steps=position.steps,
                batch=self.config.batch,
                train_loss=train_loss,
                held_out_loss=held_out,
                held_out_characters=len(self._text.held_out),
                evaluated_characters=position.evaluated_characters,
                start_weights=self.start.name if self.start else None,
                start_command=start and without_folders(start),
                start_loss=position.start_loss,
                curve=tuple(position.curve),
                corpus_sha256=self.corpus.sha256,
                command=without_folders(self.command),
                seed=self.config.seed,
                seconds=self._pace.seconds,
                precision=position.precision,
                device=str(self.group.device),
                threads=torch.get_num_threads(),
                processes=self.group.size,
                torch_version=str(torch.__version__),
                finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
        )
