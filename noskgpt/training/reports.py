"""The events of a training run for people at a terminal, and as JSON lines for a program."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from noskgpt.training.run_files import NotSaved, Saved
from noskgpt.training.trainer import Event, Finished, Interrupted, Progress, Started

Report = Event | Saved | NotSaved


def show(events: Iterable[Report], out: Path, console: Console) -> Iterator[Report]:
    """Draw a progress bar, and pass the events on."""
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
            verb = f"Going on at step {event.step:,}" if event.step else "Learning"
            return (
                f"{verb}: {event.parameters:,} parameters, {event.characters:,} characters, "
                f"{event.precision} on {event.device} "
                f"({event.threads} threads in each of {event.processes} processes, "
                f"{event.peak_flops / 1e9:,.0f} GFLOP/s at best)"
            )
        case Progress(held_out_loss=float()):
            sample = "\n".join(f"    {line}" for line in (event.sample or "").strip().split("\n"))
            return (
                f"step {event.step}: training loss {event.train_loss:.4f}, "
                f"held-out loss {event.held_out_loss:.4f}, {event.seconds:.0f} s, "
                f"{_speed(event)}, {event.peak_share:.0%} of the peak\n{sample}"
            )
        case NotSaved():
            return f"Could not save the run so far; it goes on. {event.problem}"
        case Interrupted():
            return f"Stopped at step {event.step}. `noskgpt train --resume --out {out}` goes on."
        case Finished():
            return f"Wrote {out}"
        case _:
            return None


def print_json(
    events: Iterable[Report], out: Path, console: Console, unread: Callable[[], None]
) -> Iterator[Report]:
    """Print each event as one line of JSON whose ``event`` is its kind, and pass it on.

    The end gives the path of the weights and their record in place of the weights themselves.
    `unread` is called when nobody reads any more; then nothing more is printed.
    """
    for event in events:
        if isinstance(event, Finished):
            record = asdict(event.checkpoint.training)
            del record["curve"]  # the parent has seen it pass
            values = {"out": str(out)} | record
        else:
            # Not asdict: it would copy what is about to be printed.
            values = {field.name: getattr(event, field.name) for field in fields(event)}
        try:
            _print_line(console, _kind(event), values)
        except BrokenPipeError:
            # https://docs.python.org/3/library/signal.html#note-on-sigpipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), console.file.fileno())
            unread()
        yield event


def print_json_error(problem: str, console: Console) -> None:
    """Print the last line of a run that failed."""
    _print_line(console, "error", {"problem": problem})


def _kind(event: Report) -> str:
    return "not_saved" if isinstance(event, NotSaved) else type(event).__name__.lower()


def _print_line(console: Console, kind: str, values: dict[str, Any]) -> None:
    line = json.dumps({"event": kind} | values, default=str, allow_nan=False)
    console.file.write(f"{line}\n")
    console.file.flush()
