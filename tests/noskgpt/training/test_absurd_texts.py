"""Test that the work before the first step grows with a text's length, whatever its contents."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from noskgpt import checkpoint as checkpoints
from noskgpt import coverage, lexicon
from noskgpt.checkpoint import Checkpoint
from noskgpt.corpus import load_corpus
from noskgpt.inference.generator import Generator
from noskgpt.limits import MAX_WORD
from noskgpt.tokenizer import VOCABULARY
from noskgpt.training import hardware, run_files
from noskgpt.training.measurements import Measurements
from noskgpt.training.recipe import TrainingConfig
from noskgpt.training.trainer import Trainer

LENGTH = 400_000
FACTOR = 25
"""How much longer than for the plays the work may take; the slowest text below takes twice as long,
and one word took 200 times as long when its prefixes were spelt out."""
CONFIG = TrainingConfig(steps=2, batch=1, evaluations=1, precision="fp32")


def play(length: int) -> str:
    return load_corpus().train[:length]


def speakers(length: int) -> str:
    """Return speaker lines of different people."""
    letters = str.maketrans("0123456789", "abcdefghij")
    names = (f"{number:07}".translate(letters).title() for number in range(length // 10))
    return "".join(f"\n\n{name}:" for name in names)


def prefixes(length: int) -> str:
    """Return different words, each the beginning of the next."""
    return " ".join("a" * count for count in range(1, int((2 * length) ** 0.5)))


def numbered_words(length: int) -> str:
    """Return different words."""
    letters = str.maketrans("0123456789", "abcdefghij")
    return " ".join(f"{number:07}".translate(letters) for number in range(length // 8))


ABSURD: dict[str, Callable[[int], str]] = {
    "one word": lambda length: "a" * (length - 1) + "b",
    "one word with apostrophes": lambda length: "a'" * (length // 2),
    "one line": lambda length: "thou art a fool " * (length // 16),
    "line breaks": lambda length: "\n" * (length - 1) + "a",
    "one blank line": lambda length: "\n" + " " * (length - 2) + "a",
    "blank lines": lambda length: "\n \n  " * (length // 6),
    "combining marks": lambda length: "\u0301\u0302" * (length // 2),
    "different words": numbered_words,
    "prefixes": prefixes,
    "speakers": speakers,
    "unfinished speaker lines": lambda length: "\n\nA:    x" * (length // 9),
    "punctuation": lambda length: "!' ?') " * (length // 7),
}


def seconds(work: Callable[[], object]) -> float:
    """Return the time that this process computes for some work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def write(folder: Path, text: str) -> Path:
    path = folder / "text.txt"
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.fixture(autouse=True)
def _measure_no_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the time that does not depend on the text."""
    monkeypatch.setattr(hardware, "measure_peak", lambda *_: 1.0)


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[[str], float]:
    """Return a function that measures what a run does with a text before it trains."""
    return lambda text: seconds(lambda: Trainer(load_corpus(write(tmp_path, text)), CONFIG))


@pytest.mark.parametrize("kind", ABSURD)
def test_preparing_an_absurd_text_takes_about_as_long_as_a_play(
    kind: str, prepare: Callable[[str], float]
) -> None:
    assert prepare(ABSURD[kind](LENGTH)) < FACTOR * prepare(play(LENGTH))


@pytest.mark.parametrize("kind", ABSURD)
def test_an_absurd_text_trains_weights_that_load_and_start_a_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Measurements.sample, "__defaults__", (5,))
    path, out = write(tmp_path, ABSURD[kind](20_000)), tmp_path / "new.pth"
    run = Trainer(load_corpus(path), CONFIG)
    list(run_files.train_and_save(run, out, corpus_path=path, save_seconds=0))
    weights = checkpoints.load(out)
    again = Trainer(load_corpus(path), CONFIG, start=weights)
    assert again.start is not None
    words = {word for word in lexicon.words(load_corpus(path).train) if len(word) <= MAX_WORD}
    assert again.start.words == words


def test_comparing_many_characters_with_a_vocabulary_takes_about_as_long_as_a_play() -> None:
    different = "".join(map(chr, range(0x3400, 0x3400 + 20_000))) * (LENGTH // 20_000)

    def compare(text: str) -> float:
        return seconds(lambda: coverage.left_out(text, VOCABULARY))

    assert compare(different) < FACTOR * compare(play(LENGTH))
    missing = coverage.left_out(different, VOCABULARY)
    assert not missing.fits
    assert len(coverage.describe(missing.characters)) < 200


@pytest.fixture(scope="module")
def generate(random_checkpoint: Checkpoint) -> Callable[[str], float]:
    """Return a function that measures what a request does with a text as its prompt."""
    bard = Generator(random_checkpoint, fast=False)

    def generate(text: str) -> None:
        bard.generate(text, 1, real_words=True, cast=True, echo=True, echo_of=text, seed=1)

    generate("ROMEO:\nAy me!")  # builds what the next requests reuse
    return lambda text: seconds(lambda: generate(text))


@pytest.mark.parametrize("kind", ABSURD)
def test_reading_an_absurd_prompt_takes_about_as_long_as_a_play(
    kind: str, generate: Callable[[str], float]
) -> None:
    # An apostrophe at the end asks for the partial word before it.
    assert generate(f"{ABSURD[kind](LENGTH)} x'") < FACTOR * generate(f"{play(LENGTH)} x'")
