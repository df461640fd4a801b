"""The command line: the console, one-off prompts, training, evaluation, import."""

import json
import os
import shlex
import signal
import sys
import threading
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import torch
import typer
from rich.console import Console

from noskgpt import checkpoint as checkpoints
from noskgpt.corpus import load_corpus
from noskgpt.errors import NoskGPTError, TrainingError
from noskgpt.evaluation import count_words
from noskgpt.evaluation import evaluate as measure
from noskgpt.inference import generator
from noskgpt.resources import weights_path
from noskgpt.tokenizer import Tokenizer
from noskgpt.training import distributed, plotting, reports, run_files
from noskgpt.training.recipe import PRESETS
from noskgpt.training.trainer import Finished, Interrupted, Trainer

LOGO = r"""
                 _     ___ ___ _____
  _ _  ___  ___ | |__ / __| _ \_   _|
 | ' \/ _ \(_-< | / /| (_ |  _/ | |
 |_||_\___//__/ |_\_\ \___|_|   |_|
"""

app = typer.Typer(
    help="noskGPT writes in the manner of Shakespeare. Without a command it opens a console.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
)
errors = Console(stderr=True)
WORD_SAMPLES = 100

Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Weights to use instead of the bundled ones.")
]


@app.callback(invoke_without_command=True)
def converse(
    context: typer.Context,
    prompt: Annotated[
        str | None, typer.Option(help="Print one continuation of this text, and leave.")
    ] = None,
    max_chars: Annotated[int, typer.Option(min=1, help="Characters in a reply.")] = 1000,
    temperature: Annotated[
        float, typer.Option(min=0, max=100, help="0 is always the likeliest; 1 is bold.")
    ] = 0.8,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=generator.MAX_SEED, help="The same seed gives the same text."),
    ] = None,
    top_k: Annotated[
        int, typer.Option(min=0, help="Draw from so many of the likeliest characters; 0: all.")
    ] = 0,
    top_p: Annotated[
        float,
        typer.Option(min=0.001, max=1, help="Draw from the likeliest characters of this share."),
    ] = 1.0,
    *,
    real_words: Annotated[
        bool, typer.Option("--real-words", help="Write only words that Shakespeare wrote.")
    ] = False,
    weights: Weights = None,
) -> None:
    """NoskGPT writes in the manner of Shakespeare. Without a command it opens a console."""
    if context.invoked_subcommand is not None:
        return
    bard = generator.load(weights)
    write = partial(
        bard.stream,
        max_chars=max_chars,
        temperature=temperature,
        seed=seed,
        top_k=top_k,
        top_p=top_p,
        real_words=real_words,
    )
    if prompt is not None:
        typer.echo("".join(write(prompt)))
        return
    typer.echo(LOGO)
    typer.echo(f"  {bard.name}. Write a line, or exit to leave.\n")
    while True:
        try:
            line = input("> ")
        except EOFError:
            typer.echo()
            return
        if line.strip() == "exit":
            return
        if not line.strip():
            continue
        typer.echo(line)
        for piece in write(line + "\n"):
            sys.stdout.write(piece)
            sys.stdout.flush()
        typer.echo("\n")


@app.command()
def train(
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the new weights are written.")
    ] = Path("var/weights.pth"),
    corpus: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A UTF-8 text; the plays if not given.")
    ] = None,
    preset: Annotated[
        Literal["quick", "default", "best", "original"] | None,
        typer.Option(help="The run; the options below change parts of it."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="End after so many minutes, with as many steps as fit."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Batches to learn from.")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Passages of 256 characters in a batch.")
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="Share of activations dropped.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="The same seed gives the same weights on a machine."),
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"] | None, typer.Option(help="auto: the faster of the two.")
    ] = None,
    *,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the unfinished run that writes --out.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw both losses into this picture.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each event as a line of JSON.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads to compute with; all cores if not given.")
    ] = None,
    save_seconds: Annotated[
        float, typer.Option(min=0, help="Between two saves of what --resume needs.")
    ] = run_files.SAVE_SECONDS,
    until_stdin_ends: Annotated[
        bool,
        typer.Option(
            "--until-stdin-ends", help="End as by SIGTERM when the input ends: with the parent."
        ),
    ] = False,
) -> None:
    """Train a model and write its weights.

    Ctrl-C or SIGTERM ends the run early in such a way that --resume goes on with it. Under
    `torchrun` its processes share each batch.
    """
    torch.set_num_threads(threads or torch.get_num_threads())
    checkpoints.check_writable(out)
    if plot is not None:
        plotting.check_format(plot)
        checkpoints.check_writable(plot)
    changes: dict[str, Any] = {
        "preset": preset,
        "minutes": minutes,
        "steps": steps,
        "batch": batch,
        "dropout": dropout,
        "seed": seed,
        "precision": precision,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    console = Console()
    try:
        with distributed.join() as group:
            if resume:
                if changes:
                    msg = f"--resume goes on with the run as it began: leave out --{min(changes)}."
                    raise TrainingError(msg)
                trainer, corpus = run_files.resume(out, corpus_path=corpus, group=group)
            else:
                config = replace(PRESETS[changes.pop("preset", "default")], **changes)
                command = shlex.join(["noskgpt", *sys.argv[1:]])
                trainer = run_files.begin(
                    out, config, corpus_path=corpus, command=command, group=group
                )
            stopped_by = _stop_on_signals(trainer, with_stdin=until_stdin_ends)
            events = run_files.follow(trainer, out, corpus_path=corpus, save_seconds=save_seconds)
            if group.rank == 0:
                in_json = partial(reports.print_json, unread=trainer.stop)
                events = (in_json if as_json else reports.show)(events, out, console)
            for event in events:
                if isinstance(event, Finished) and plot is not None and group.rank == 0:
                    record = event.checkpoint.training
                    plotting.plot_losses(record, plot, title=f"noskgpt, {record.steps:,} steps")
    except NoskGPTError as error:
        if as_json and int(os.environ.get("RANK", "0")) == 0:
            reports.print_json_error(str(error), console)
        raise
    if isinstance(event, Interrupted):
        raise typer.Exit(128 + stopped_by[0])


def _stop_on_signals(trainer: Trainer, *, with_stdin: bool) -> list[int]:
    """Have the first Ctrl-C or SIGTERM stop the run, and so the end of the input if asked for.

    Returns a list of the one signal that did; SIGTERM stands for all that was none.
    """
    stopped_by: list[int] = [signal.SIGTERM]

    def stop(number: int, _frame: FrameType | None) -> None:
        stopped_by[0] = number
        trainer.stop()
        signal.signal(number, signal.SIG_DFL)  # the second time it does not wait for the step

    def read() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        trainer.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if with_stdin:
        threading.Thread(target=read, name="stdin", daemon=True).start()
    return stopped_by


@app.command()
def evaluate(
    weights: Weights = None,
    corpus: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A UTF-8 text; the plays if not given.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=0, max=100, help="Of the text whose words are looked up.")
    ] = 0.8,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=generator.MAX_SEED - WORD_SAMPLES,
            help="Of the first of the texts; the others count up from it.",
        ),
    ] = 1,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the loss over the held-out part of a corpus, exactly, and the share of real words.

    The words are those of 100 texts of 1,000 characters, written without --real-words.
    """
    loaded = checkpoints.load(weights_path() if weights is None else weights)
    text = load_corpus(corpus)
    folded = Tokenizer(loaded.vocabulary).encode(text.held_out)
    result = measure(loaded.build_model(), torch.tensor(folded))
    words = count_words(
        generator.Generator(loaded), samples=WORD_SAMPLES, temperature=temperature, seed=seed
    )
    report = {
        **asdict(result),
        "bits_per_character": result.bits_per_character,
        "corpus": text.name,
        "corpus_sha256": text.sha256,
        "recorded_loss": loaded.training.held_out_loss,
        "real_words_share": words.real_share,
        "words": words.words,
        "made_up_words": dict(words.made_up.most_common(10)),
        "temperature": temperature,
        "seed": seed,
    }
    if as_json:
        typer.echo(json.dumps(report))
        return
    typer.echo(f"held-out loss       {result.loss:.4f} nats per character")
    typer.echo(f"bits per character  {result.bits_per_character:.4f}")
    typer.echo(f"characters          {result.characters:,} of {text.name}")
    if loaded.training.held_out_loss is not None:
        typer.echo(f"recorded in weights {loaded.training.held_out_loss:.4f}")
    typer.echo(
        f"real words          {words.real_share:.2%} of {words.words:,} "
        f"at temperature {temperature:g}, seed {seed}"
    )
    typer.echo(f"made up             {', '.join(w for w, _ in words.made_up.most_common(10))}")


@app.command()
def import_reference(
    old: Annotated[Path, typer.Argument(help="A state_dict of the original noskGPT.")],
    new: Annotated[Path, typer.Argument(help="The weights file to write.")],
) -> None:
    """Convert weights of the original noskGPT."""
    checkpoints.import_reference(old, new)
    typer.echo(f"Wrote {new}")


def main() -> None:
    """Run the command line; an error the person can mend is one line on stderr, exit code 1."""
    try:
        app()
    except NoskGPTError as error:
        errors.print(str(error), style="red", highlight=False, soft_wrap=True, markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
