"""Save a training run to disk while it trains, resume it, and write its weights at the end.

A run that will write `FILE` saves its state to `FILE.run` once a minute, and deletes that file when
`FILE` is complete.
"""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from noskgpt import checkpoint as checkpoints
from noskgpt.checkpoint import Checkpoint, is_finite, is_integer
from noskgpt.corpus import load_corpus
from noskgpt.errors import CheckpointError, TrainingError, brief
from noskgpt.limits import MAX_STATE_BYTES
from noskgpt.runs import (
    SAVE_SECONDS,
    Event,
    Finished,
    Interrupted,
    NotSaved,
    Progress,
    Saved,
    run_path,
)
from noskgpt.training import hardware
from noskgpt.training.distributed import Group
from noskgpt.training.recipe import TrainingConfig
from noskgpt.training.tensors import to_arrays, to_tensors
from noskgpt.training.trainer import Trainer

FORMAT = "noskgpt-run"
FORMAT_VERSION = 1
_REMEDY = "Delete the file to start again."


def start(
    out: Path,
    config: TrainingConfig,
    *,
    corpus_path: Path | None,
    command: str,
    group: Group,
    start: Checkpoint | None = None,
    began: float | None = None,
) -> Trainer:
    """Return the trainer of a new run that will write `out`.

    Args:
        out: The path of the weights file.
        config: The configuration.
        corpus_path: The text; None is the bundled corpus.
        command: The command line, stored in the weights file.
        group: The processes of the run.
        start: The weights to start from; None starts from nothing.
        began: When the time of the run began; see `Trainer`.

    Raises:
        CorpusError: The text cannot be loaded; see `load_corpus`.
        TrainingError: The new run would overwrite an unfinished one; or as `Trainer`.
    """
    path = run_path(out)
    if path.exists():
        msg = (
            f"{path} is an unfinished run. "
            "Resume it with --resume, delete it, or choose another --out."
        )
        raise TrainingError(msg)
    return Trainer(
        load_corpus(corpus_path), config, command=command, group=group, start=start, began=began
    )


def resume(out: Path, *, corpus_path: Path | None, group: Group) -> tuple[Trainer, Path | None]:
    """Return the trainer of the unfinished run that will write `out`, and the path of its text.

    Args:
        out: The path of the weights file.
        corpus_path: The text, if it has moved; None uses the path stored with the run.
        group: The processes of the run.

    Raises:
        CheckpointError: The state file is damaged, foreign or of another format version.
        CorpusError: The text cannot be loaded; see `load_corpus`.
        TrainingError: There is no unfinished run; or as `Trainer`.
    """
    path = run_path(out)
    if not path.exists():
        msg = f"{path}: there is no unfinished run to resume. Start one without --resume."
        raise TrainingError(msg)
    document = checkpoints.read_document(path, limit=MAX_STATE_BYTES, remedy=_REMEDY)
    if (document.get("format"), document.get("format_version")) != (FORMAT, FORMAT_VERSION):
        msg = f"{path}: not a run that this version of noskgpt can resume. {_REMEDY}"
        raise CheckpointError(msg)
    try:
        _check_state(document)
        stored = document["corpus"]
        corpus_path = corpus_path or (Path(stored) if stored is not None else None)
        with hardware.named_failures():  # which are no damage
            state = to_tensors(document)
            return Trainer(load_corpus(corpus_path), group=group, state=state), corpus_path
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        msg = f"{path}: damaged run ({brief(error)}). {_REMEDY}"
        raise CheckpointError(msg) from error


def _check_state(state: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless the plain values of a state are possible.

    The trainer checks the rest. States of earlier versions lack some of the values.
    """
    step, steps, evaluated = state["step"], state["steps"], state["evaluated"]
    evaluations = state.get("evaluations", state["config"]["evaluations"])
    others = (state["processes"], state.get("evaluated_characters", 0))
    if not all(map(is_integer, (step, steps, evaluated, evaluations, *others))):
        msg = "a number of it is not an integer"
        raise ValueError(msg)
    if not (0 <= step < steps and 0 <= evaluated < evaluations):
        msg = f"step {step} of {steps}, and {evaluated} of {evaluations} evaluations"
        raise ValueError(msg)
    numbers = (state["seconds"], state.get("evaluation_seconds", 0.0), state.get("lr_scale", 1.0))
    if not all(is_finite(number) and number >= 0 for number in numbers):
        msg = "a duration or the scale of the learning rates is not a number from 0 on"
        raise ValueError(msg)
    start_loss = state.get("start_loss")
    losses = [*state["losses"], *([] if start_loss is None else [start_loss])]
    if not all(map(is_finite, losses)):
        msg = "a loss is not a finite number"
        raise ValueError(msg)
    checkpoints.read_curve(state["curve"])
    if state["precision"] not in ("fp32", "bf16") or type(state["command"]) is not str:
        msg = "the precision or the command is wrong"
        raise ValueError(msg)


def train_and_save(
    trainer: Trainer, out: Path, *, corpus_path: Path | None, save_seconds: float = SAVE_SECONDS
) -> Iterator[Event | Saved | NotSaved]:
    """Run `trainer`, yield its events, save its state periodically, and write `out` at the end.

    The state file is deleted after the weights are written. If the run has several processes, only
    the first writes files.

    Args:
        trainer: The run.
        out: The path of the weights file.
        corpus_path: The text, stored for `resume`; None is the bundled corpus.
        save_seconds: The interval between two saves.

    Raises:
        CheckpointError: The weights, or the state of an interrupted run, cannot be written.
        TrainingError: As `Trainer.run`.
    """
    path = run_path(out)
    is_writer = trainer.group.rank == 0

    def save() -> Saved:
        corpus = str(corpus_path.absolute()) if corpus_path is not None else None
        document = {"format": FORMAT, "format_version": FORMAT_VERSION, "corpus": corpus}
        checkpoints.write_atomically(document | to_arrays(trainer.state()), path)
        return Saved(trainer.position.step, path)

    last_save = time.perf_counter()
    for event in trainer.run():
        if isinstance(event, Finished) and is_writer:
            checkpoints.save(event.checkpoint, out)
            path.unlink(missing_ok=True)
        if isinstance(event, Interrupted) and is_writer:
            yield save()
        yield event
        due = time.perf_counter() - last_save >= save_seconds
        if is_writer and due and isinstance(event, Progress) and event.step < event.steps:
            try:
                yield save()
            except CheckpointError as error:
                yield NotSaved(trainer.position.step, str(error))
            last_save = time.perf_counter()
