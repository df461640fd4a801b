"""Run the command line: console, single prompts, training, evaluation and weight conversion."""

import json
import logging
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from noskgpt import checkpoint as checkpoints
from noskgpt import commands
from noskgpt.corpus import load_corpus
from noskgpt.errors import NoskGPTError
from noskgpt.inference import generator
from noskgpt.limits import MAX_BATCH
from noskgpt.resources import weights_path
from noskgpt.runs import SAVE_SECONDS
from noskgpt.tokenizer import Tokenizer

LOGO = r"""
                 _     ___ ___ _____
  _ _  ___  ___ | |__ / __| _ \_   _|
 | ' \/ _ \(_-< | / /| (_ |  _/ | |
 |_||_\___//__/ |_\_\ \___|_|   |_|
"""

app = typer.Typer(
    help="Generate text in the style of Shakespeare. Without a command, open a console.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
)
errors = Console(stderr=True)
WORD_SAMPLES = 100

Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Weights file; default: the bundled weights.")
]
CorpusPath = Annotated[
    Path | None, typer.Option(metavar="FILE", help="UTF-8 text file; default: the bundled plays.")
]


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(commands.version())
        raise typer.Exit


@app.callback(invoke_without_command=True)
def generate(
    context: typer.Context,
    prompt: Annotated[
        str | None, typer.Option(help="Print one continuation of this text and exit.")
    ] = None,
    max_chars: Annotated[int, typer.Option(min=1, help="Length of a reply in characters.")] = 1000,
    temperature: Annotated[
        float,
        typer.Option(
            min=0,
            max=100,
            help="0 always selects the most likely character; higher values are more random.",
        ),
    ] = 0.8,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=generator.MAX_SEED,
            help="Random seed; the same seed gives the same text. Default: random.",
        ),
    ] = None,
    top_k: Annotated[
        int,
        typer.Option(min=0, help="Sample from the K most likely characters only; 0: no limit."),
    ] = 0,
    top_p: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=1,
            help="Sample from the most likely characters that together reach this probability.",
        ),
    ] = 1.0,
    *,
    version: Annotated[  # noqa: ARG001 - the callback ends the program
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
    real_words: Annotated[
        bool,
        typer.Option(
            "--real-words", help="Generate only words of the training text and of the prompt."
        ),
    ] = False,
    cast: Annotated[
        bool,
        typer.Option(
            "--cast/--no-cast",
            help="Let only the cast of the prompt's play speak, and whoever is addressed answer.",
        ),
    ] = False,
    echo: Annotated[
        bool, typer.Option("--echo/--no-echo", help="Repeat rarer words of the prompt.")
    ] = False,
    weights: Weights = None,
) -> None:
    """Generate text in the style of Shakespeare. Without a command, open a console."""
    if context.invoked_subcommand is not None:
        return
    model = generator.load(weights)
    stream = partial(
        model.stream,
        max_chars=max_chars,
        temperature=temperature,
        seed=seed,
        top_k=top_k,
        top_p=top_p,
        real_words=real_words,
        cast=cast,
        echo=echo,
    )
    if prompt is not None:
        typer.echo("".join(stream(prompt)))
        return
    typer.echo(LOGO)
    typer.echo(f"  {model.name}. Enter a prompt, or exit to quit.\n")
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
        for piece in stream(line + "\n"):
            sys.stdout.write(piece)
            sys.stdout.flush()
        typer.echo("\n")


@app.command()
def train(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Weights file to write.")] = Path(
        "var/weights.pth"
    ),
    corpus: CorpusPath = None,
    preset: Annotated[
        Literal["quick", "default", "best", "original"] | None,
        typer.Option(help="Named configuration; the options below override parts of it."),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Start from these weights, or from the `bundled` ones."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Duration from this command to the written weights; trains as many steps as fit.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Number of training steps.")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, max=MAX_BATCH, help="Windows of 256 characters per step.")
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="Dropout probability of activations.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=generator.MAX_SEED,
            help="Random seed; the same seed gives the same weights on the same machine.",
        ),
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"] | None,
        typer.Option(help="Floating-point format; auto measures which is faster."),
    ] = None,
    *,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the unfinished run that writes --out.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Plot both losses to this image file at the end."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each event as a line of JSON.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of threads; default: all cores.")
    ] = None,
    save_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds between saves of the state for --resume.")
    ] = SAVE_SECONDS,
    until_stdin_ends: Annotated[
        bool,
        typer.Option(
            "--until-stdin-ends",
            help="Stop as on SIGTERM when standard input closes, as it does if the parent exits.",
        ),
    ] = False,
) -> None:
    """Train a model and write its weights.

    Ctrl-C and SIGTERM stop the run after saving its state; --resume continues it.

    Processes started by `torchrun` divide each batch among them.
    """
    from noskgpt.training import command  # noqa: PLC0415 - imports PyTorch

    options: dict[str, Any] = {
        "preset": preset,
        "init_from": init_from,
        "minutes": minutes,
        "steps": steps,
        "batch": batch,
        "dropout": dropout,
        "seed": seed,
        "precision": precision,
    }
    code = command.train(
        out,
        {name: value for name, value in options.items() if value is not None},
        corpus=corpus,
        resume=resume,
        plot=plot,
        as_json=as_json,
        threads=threads,
        save_seconds=save_seconds,
        until_stdin_ends=until_stdin_ends,
    )
    if code:
        raise typer.Exit(code)


@app.command()
def evaluate(
    weights: Weights = None,
    corpus: CorpusPath = None,
    temperature: Annotated[
        float, typer.Option(min=0, max=100, help="Temperature of the generated samples.")
    ] = 0.8,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=generator.MAX_SEED - WORD_SAMPLES,
            help="Seed of the first sample; each further sample uses the next seed.",
        ),
    ] = 1,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the exact loss over the held-out part of a corpus and the fraction of real words.

    The words are those of 100 generated samples of 1,000 characters each, without --real-words.
    """
    import torch  # noqa: PLC0415 - takes a second, and most commands do without it

    from noskgpt import evaluation  # noqa: PLC0415 - imports it

    loaded = checkpoints.load(weights_path() if weights is None else weights)
    text = load_corpus(corpus)
    ids = Tokenizer(loaded.vocabulary).encode(text.held_out)
    result = evaluation.evaluate(loaded.build_model(), torch.tensor(ids))
    words = evaluation.count_words(
        generator.Generator(loaded), samples=WORD_SAMPLES, temperature=temperature, seed=seed
    )
    report = {
        **asdict(result),
        "bits_per_character": result.bits_per_character,
        "corpus": text.name,
        "corpus_sha256": text.sha256,
        "recorded_loss": loaded.training.held_out_loss,
        "recorded_fraction": loaded.training.evaluated_fraction,
        "real_words_fraction": words.real_fraction,
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
        fraction = loaded.training.evaluated_fraction
        part = "" if fraction == 1 else f", on the first {fraction:.1%} of the held-out text"
        typer.echo(f"recorded in weights {loaded.training.held_out_loss:.4f}{part}")
    typer.echo(
        f"real words          {words.real_fraction:.2%} of {words.words:,} "
        f"at temperature {temperature:g}, seed {seed}"
    )
    typer.echo(f"made up             {', '.join(w for w, _ in words.made_up.most_common(10))}")


@app.command()
def import_reference(
    old: Annotated[Path, typer.Argument(help="state_dict file of the original noskGPT.")],
    new: Annotated[Path, typer.Argument(help="Weights file to write.")],
) -> None:
    """Convert a weights file of the original noskGPT to the format of this program."""
    checkpoints.import_reference(old, new)
    typer.echo(f"Wrote {new}")


def main() -> None:
    """Run the command line; print a `NoskGPTError` as one line on stderr, with exit code 1."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("noskgpt").setLevel(logging.INFO)  # says that the decoder is compiled
    try:
        app()
    except NoskGPTError as error:
        errors.print(str(error), style="red", highlight=False, soft_wrap=True, markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
