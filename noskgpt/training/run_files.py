"""A run on disk: its weights when it ends, and on the way what continues it.

While a run writes `FILE` there stands `FILE.run` beside it, as old as a minute at most.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from noskgpt import checkpoint as checkpoints
from noskgpt.corpus import load_corpus
from noskgpt.errors import CheckpointError, TrainingError
from noskgpt.training.distributed import Group
from noskgpt.training.recipe import TrainingConfig
from noskgpt.training.trainer import Event, Finished, Interrupted, Progress, Trainer

SAVE_SECONDS = 60.0
FORMAT = "noskgpt-run"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Saved:
    """What continues the run was written."""

    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class NotSaved:
    """It could not be written; the file of the time before is whole, and the run goes on."""

    step: int
    problem: str


def run_path(out: Path) -> Path:
    """Return where a run that writes `out` keeps what continues it."""
    return out.with_name(f"{out.name}.run")


def begin(
    out: Path, config: TrainingConfig, *, corpus_path: Path | None, command: str, group: Group
) -> Trainer:
    """Return the trainer of a new run that will write `out`.

    Raises:
        CorpusError: There is no such text, or none to learn from.
        TrainingError: An unfinished run is there, which this one would overwrite; or as `Trainer`.
    """
    path = run_path(out)
    if path.exists():
        msg = (
            f"{path} is an unfinished run. "
            "Go on with it by --resume, delete it, or name another --out."
        )
        raise TrainingError(msg)
    return Trainer(load_corpus(corpus_path), config, command=command, group=group)


def resume(out: Path, *, corpus_path: Path | None, group: Group) -> tuple[Trainer, Path | None]:
    """Return the trainer that goes on with the run that would write `out`, and where its text is.

    Args:
        out: The weights to be.
        corpus_path: Where the text is now, if it has moved.
        group: The processes.

    Raises:
        CheckpointError: The file is damaged or of another program or version.
        CorpusError: There is no such text, or none to learn from.
        TrainingError: There is no unfinished run; or as `Trainer`.
    """
    path = run_path(out)
    if not path.exists():
        msg = f"{path}: there is no unfinished run to go on with. Leave --resume out to begin one."
        raise TrainingError(msg)
    document = checkpoints.read_document(path)
    if (document.get("format"), document.get("format_version")) != (FORMAT, FORMAT_VERSION):
        msg = f"{path}: not a run that this version of noskgpt continues. Delete it to begin anew."
        raise CheckpointError(msg)
    kept = document["corpus"]
    corpus_path = corpus_path or (Path(kept) if kept is not None else None)
    try:
        return Trainer(load_corpus(corpus_path), group=group, state=document), corpus_path
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        msg = f"{path}: a damaged run ({error}). Delete it to begin anew."
        raise CheckpointError(msg) from error


def follow(
    trainer: Trainer, out: Path, *, corpus_path: Path | None, save_seconds: float = SAVE_SECONDS
) -> Iterator[Event | Saved | NotSaved]:
    """Run `trainer` and write `out` at the end; on the way pass its events on and save it.

    The file that continues the run goes once the weights stand. Of several processes the first
    writes.

    Args:
        trainer: The run.
        out: The weights to be.
        corpus_path: Where the text is, for `resume` to find it; None is the bundled one.
        save_seconds: Between two saves.

    Raises:
        CheckpointError: The weights, or what continues an interrupted run, cannot be written.
        TrainingError: As `Trainer.run`.
    """
    path = run_path(out)
    writes = trainer.group.rank == 0

    def write() -> Saved:
        where = str(corpus_path.absolute()) if corpus_path is not None else None
        document = {"format": FORMAT, "format_version": FORMAT_VERSION, "corpus": where}
        checkpoints.write_atomically(document | trainer.state(), path)
        return Saved(trainer.step, path)

    saved = time.perf_counter()
    for event in trainer.run():
        if isinstance(event, Finished) and writes:
            checkpoints.save(event.checkpoint, out)
            path.unlink(missing_ok=True)
        if isinstance(event, Interrupted) and writes:
            yield write()
        yield event
        due = time.perf_counter() - saved >= save_seconds
        if writes and due and isinstance(event, Progress) and event.step < event.steps:
            try:
                yield write()
            except CheckpointError as error:
                yield NotSaved(trainer.step, str(error))
            saved = time.perf_counter()
