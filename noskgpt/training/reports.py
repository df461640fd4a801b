"""Print the events of a training run: a progress bar and text, or JSON lines for a program."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from noskgpt import coverage
from noskgpt.commands import noskgpt
from noskgpt.runs import Event, Finished, Interrupted, NotSaved, Progress, Saved, Started

Report = Event | Saved | NotSaved


def show(events: Iterable[Report], out: Path, console: Console) -> Iterator[Report]:
    """Show a progress bar and a line for each important event; yield the events unchanged."""
    columns = (
        TextColumn("step {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("train", total=None, state="")
        for event in events:
            match event:
                case Started():
                    bar.update(task, completed=event.step, total=event.steps)
                case Progress():
                    state = f"loss {event.train_loss:.3f}, {_speed(event)}"
                    bar.update(task, completed=event.step, total=event.steps, state=state)
            text = _describe(event, out)
            if text:
                bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
            yield event


def _speed(event: Progress) -> str:
    return f"{event.characters_per_second:,.0f} characters/s"


def _describe(event: Report, out: Path) -> str | None:
    match event:
        case Started():
            verb = f"Resuming at step {event.step:,}" if event.step else "Training"
            return (
                f"{verb}: {event.parameters:,} parameters, {event.characters:,} characters, "
                f"{event.precision} on {event.device} "
                f"({event.threads} threads in each of {event.processes} processes, "
                f"peak {event.peak_flops / 1e9:,.0f} GFLOP/s)" + _describe_start(event)
            )
        case Progress(held_out_loss=float()):
            sample = "\n".join(f"    {line}" for line in (event.sample or "").strip().split("\n"))
            return (
                f"step {event.step}: training loss {event.train_loss:.4f}, "
                f"held-out loss {event.held_out_loss:.4f}, {event.seconds:.0f} s, "
                f"{_speed(event)}, {event.peak_fraction:.0%} of the peak\n{sample}"
            )
        case NotSaved():
            return f"The run could not be saved; it continues. {event.problem}"
        case Interrupted():
            return (
                f"Stopped at step {event.step}. "
                f"Resume the run with `{noskgpt('train', '--resume', '--out', str(out))}`."
            )
        case Finished():
            return f"Wrote {out}"
        case _:
            return None


def _describe_start(event: Started) -> str:
    """Return further lines about the weights that a run starts from, and about its evaluations."""
    lines = []
    if event.start_weights is not None:
        lines.append(
            f"Started from {event.start_weights}: held-out loss {event.start_loss:.4f} before "
            "the first step"
        )
    if event.left_out:
        lines.append(
            "These characters are left out, because the start weights do not have them: "
            f"{coverage.describe(event.left_out)}"
        )
    if event.evaluated_characters < event.held_out_characters:
        lines.append(
            "For lack of time, losses are measured on a part of the held-out text: the first "
            f"{event.evaluated_characters:,} of {event.held_out_characters:,} characters"
        )
    return "".join(f"\n{line}" for line in lines)


def print_json(
    events: Iterable[Report], out: Path, console: Console, on_closed_pipe: Callable[[], None]
) -> Iterator[Report]:
    """Print each event as one line of JSON, with its kind as ``event``; yield the events unchanged.

    The `Finished` event has the path of the weights file and the record of the run instead of the
    weights. If the reader closes the pipe, `on_closed_pipe` is called and nothing more is printed.
    """
    for event in events:
        if isinstance(event, Finished):
            record = asdict(event.checkpoint.training)
            del record["curve"]  # its points were printed as progress events
            values = {"out": str(out)} | record
        else:
            # asdict would copy the values.
            values = {field.name: getattr(event, field.name) for field in fields(event)}
        try:
            _print_line(console, _kind(event), values)
        except BrokenPipeError:
            # https://docs.python.org/3/library/signal.html#note-on-sigpipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), console.file.fileno())
            on_closed_pipe()
        yield event


def print_json_error(problem: str, console: Console) -> None:
    """Print the error event of a failed run as one line of JSON."""
    _print_line(console, "error", {"problem": problem})


def _kind(event: Report) -> str:
    return "not_saved" if isinstance(event, NotSaved) else type(event).__name__.lower()


def _print_line(console: Console, kind: str, values: dict[str, Any]) -> None:
    line = json.dumps({"event": kind} | values, default=str, allow_nan=False)
    console.file.write(f"{line}\n")
    console.file.flush()
