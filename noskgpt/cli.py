"""The command line: the console, one-off prompts, training, evaluation, import."""

import json
import shlex
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from noskgpt import checkpoint as checkpoints
from noskgpt import generator, training
from noskgpt.corpus import load_corpus
from noskgpt.errors import NoskGPTError
from noskgpt.evaluation import evaluate as measure
from noskgpt.resources import weights_path
from noskgpt.tokenizer import Tokenizer

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
    steps: Annotated[
        int, typer.Option(min=1, help="Batches to learn from.")
    ] = training.TrainingConfig.steps,
    batch: Annotated[
        int, typer.Option(min=1, help="Passages of 256 characters in a batch.")
    ] = training.TrainingConfig.batch,
    dropout: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of activations dropped.")
    ] = training.TrainingConfig.dropout,
    seed: Annotated[
        int, typer.Option(min=0, help="The same seed gives the same weights on a machine.")
    ] = training.TrainingConfig.seed,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], typer.Option(help="auto: the faster of the two here.")
    ] = "auto",
) -> None:
    """Train a model and write its weights."""
    text = load_corpus(corpus)
    config = training.TrainingConfig(
        steps=steps, batch=batch, dropout=dropout, seed=seed, precision=precision
    )
    checkpoints.check_writable(out)
    command = shlex.join(["noskgpt", *sys.argv[1:]])
    columns = (
        TextColumn("step {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.fields[losses]}"),
        TimeRemainingColumn(),
    )
    console = Console()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("train", total=steps, losses="")
        for event in training.train(text, config, command=command):
            if isinstance(event, training.Finished):
                checkpoints.save(event.checkpoint, out)
                continue
            losses = f"loss {event.train_loss:.3f}, {event.characters_per_second:,.0f} chars/s"
            bar.update(task, completed=event.step, losses=losses)
            if event.held_out_loss is not None:
                bar.console.print(
                    f"step {event.step}: training loss {event.train_loss:.4f}, "
                    f"held-out loss {event.held_out_loss:.4f}, {event.seconds:.0f} s",
                    highlight=False,
                )
    console.print(f"Wrote {out}", highlight=False, soft_wrap=True)


@app.command()
def evaluate(
    weights: Weights = None,
    corpus: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A UTF-8 text; the plays if not given.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the loss over the held-out part of a corpus, exactly."""
    loaded = checkpoints.load(weights_path() if weights is None else weights)
    text = load_corpus(corpus)
    folded = Tokenizer(loaded.vocabulary).encode(text.held_out)
    result = measure(loaded.build_model(), torch.tensor(folded))
    report = {
        **asdict(result),
        "bits_per_character": result.bits_per_character,
        "corpus": text.name,
        "corpus_sha256": text.sha256,
        "recorded_loss": loaded.training.held_out_loss,
    }
    if as_json:
        typer.echo(json.dumps(report))
        return
    typer.echo(f"held-out loss       {result.loss:.4f} nats per character")
    typer.echo(f"bits per character  {result.bits_per_character:.4f}")
    typer.echo(f"characters          {result.characters:,} of {text.name}")
    if loaded.training.held_out_loss is not None:
        typer.echo(f"recorded in weights {loaded.training.held_out_loss:.4f}")


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
