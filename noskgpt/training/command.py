"""Carry out the command `noskgpt train`."""

import os
import shlex
import signal
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console

from noskgpt import checkpoint as checkpoints
from noskgpt.errors import NoskGPTError, TrainingError
from noskgpt.resources import weights_path
from noskgpt.runs import Finished, Interrupted
from noskgpt.training import distributed, hardware, planning, plotting, reports, run_files
from noskgpt.training.recipe import PRESETS
from noskgpt.training.trainer import Trainer


def train(
    out: Path,
    options: dict[str, Any],
    *,
    corpus: Path | None,
    resume: bool,
    plot: Path | None,
    as_json: bool,
    threads: int | None,
    save_seconds: float,
    until_stdin_ends: bool,
) -> int:
    """Start or resume a run, report its events, and write its weights.

    Args:
        out: The weights file to write.
        options: The preset, the weights to start from, and settings of the run that were given.
        corpus: The text; None selects the bundled plays.
        resume: Whether to continue the unfinished run that writes `out`.
        plot: The image file to plot the losses to; None plots none.
        as_json: Whether to print each event as a line of JSON.
        threads: The number of threads; None keeps PyTorch's.
        save_seconds: The interval between two saves of the state.
        until_stdin_ends: Whether to stop when standard input ends.

    Returns:
        The exit code: 0, or 128 and the signal that stopped the run.

    Raises:
        NoskGPTError: The run cannot start or cannot continue, or a file cannot be written.
    """
    began = planning.process_start()
    torch.set_num_threads(threads or torch.get_num_threads())
    console = Console()
    try:
        with hardware.named_failures(), distributed.join() as group:
            checkpoints.check_writable(out)
            if plot is not None:
                plotting.check_format(plot)
                checkpoints.check_writable(plot)
            if resume:
                if options:
                    msg = (
                        "--resume continues the run with its original settings: "
                        f"leave out --{min(options).replace('_', '-')}."
                    )
                    raise TrainingError(msg)
                trainer, corpus = run_files.resume(out, corpus_path=corpus, group=group)
            else:
                trainer = _start_run(out, options, corpus, group, began)
            stopped_by = _stop_on_signals(trainer, with_stdin=until_stdin_ends)
            events = run_files.train_and_save(
                trainer, out, corpus_path=corpus, save_seconds=save_seconds
            )
            if group.rank == 0:
                print_json = partial(reports.print_json, on_closed_pipe=trainer.stop)
                events = (print_json if as_json else reports.show)(events, out, console)
            for event in events:
                if isinstance(event, Finished) and plot is not None and group.rank == 0:
                    record = event.checkpoint.training
                    plotting.plot_losses(record, plot, title=f"noskgpt, {record.steps:,} steps")
    except NoskGPTError as error:
        if as_json and int(os.environ.get("RANK", "0")) == 0:
            reports.print_json_error(str(error), console)
        raise
    return 128 + stopped_by[0] if isinstance(event, Interrupted) else 0


def _start_run(
    out: Path, options: dict[str, Any], corpus: Path | None, group: distributed.Group, began: float
) -> Trainer:
    """Return the trainer of a new run with the options of `train` that were given."""
    config, start = PRESETS[options.pop("preset", "default")], None
    if weights := options.pop("init_from", None):
        start = checkpoints.load(weights_path() if weights == "bundled" else Path(weights))
    return run_files.start(
        out,
        replace(config, **options),
        corpus_path=corpus,
        command=shlex.join(["noskgpt", *sys.argv[1:]]),
        group=group,
        start=start,
        began=began,
    )


def _stop_on_signals(trainer: Trainer, *, with_stdin: bool) -> list[int]:
    """Stop the run on the first Ctrl-C or SIGTERM, and with `with_stdin` when the input ends.

    Returns a list with the signal that stopped the run, updated later; SIGTERM if it was no signal.
    """
    stopped_by: list[int] = [signal.SIGTERM]

    def stop(number: int, _frame: FrameType | None) -> None:
        stopped_by[0] = number
        trainer.stop()
        signal.signal(number, signal.SIG_DFL)  # a second signal does not wait for the step

    def wait_for_end_of_input() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        trainer.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if with_stdin:
        threading.Thread(target=wait_for_end_of_input, name="stdin", daemon=True).start()
    return stopped_by
