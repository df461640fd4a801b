"""Test loading texts that are no texts, and manifests that do not fit their text."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noskgpt import corpus as corpora
from noskgpt.corpus import MIN_PART, load_corpus
from noskgpt.errors import CorpusError
from noskgpt.limits import MAX_MANIFEST_BYTES, MAX_TEXT_BYTES

TEXT = "Speak, I charge thee, speak!\n" * 1000


def write_text(path: Path, text: str) -> None:
    path.write_bytes(text.encode())


def write_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_TEXT_BYTES + 1)


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (lambda path: write_text(path, "\0".join(TEXT)), "null characters"),
        (lambda path: path.write_bytes(TEXT.encode("utf-16")), "not a UTF-8 text"),
        (lambda path: write_text(path, "".join(map(chr, range(32, 20_000)))), "different"),
        (lambda path: write_text(path, "\n" * 20_000), "one character"),
        (write_sparse, "Larger than 100 MB"),
        (Path.mkdir, "Is a directory"),
        (os.mkfifo, "Not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "Not a regular file"),
        (lambda path: path.symlink_to("/proc/self/status"), "too few"),  # its size is stated as 0
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
)
def test_refuses_what_is_no_text_with_the_reason(
    tmp_path: Path, write: Callable[[Path], object], problem: str
) -> None:
    path = tmp_path / "corpus.txt"
    write(path)
    with pytest.raises(CorpusError, match=rf"corpus\.txt: .*{problem}"):
        load_corpus(path)


def test_refuses_a_path_with_a_null_character() -> None:
    with pytest.raises(CorpusError, match="cannot be read"):
        load_corpus("play\0.txt")


def test_reads_no_more_than_the_limit_of_a_file_without_a_stated_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(corpora, "MAX_TEXT_BYTES", 100)
    with pytest.raises(CorpusError, match="Larger than"):
        load_corpus("/proc/self/status")


def write_with_manifest(folder: Path, **values: Any) -> Path:
    """Write the text and its manifest."""
    path = folder / "play.txt"
    write_text(path, TEXT)
    manifest = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()} | values
    path.with_suffix(".json").write_text(json.dumps(manifest), encoding="utf-8")
    return path


STARTS: tuple[object, ...] = (-1, 0, True, 1.5, float("nan"), "9", None, [])
PLAYS: tuple[object, ...] = (3, "abc", [3], ["abc"], {"start": 0}, [{}], None)
POSITIONS: tuple[object, ...] = (-1, "0", float("inf"), [0], None, True)


@pytest.mark.parametrize(
    "values",
    [
        *({"held_out_start": start} for start in STARTS),
        {"held_out_start": MIN_PART - 1},
        {"held_out_start": len(TEXT) - MIN_PART + 1},
        {"held_out_start": len(TEXT)},
        {"held_out_start": 10**30},
        *({"plays": plays} for plays in PLAYS),
        *({"plays": [{"start": start}]} for start in POSITIONS),
    ],
    ids=str,
)
def test_refuses_a_manifest_that_does_not_fit_its_text(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    path = write_with_manifest(tmp_path, **values)
    with pytest.raises(CorpusError, match=r"play\.json: .*\. Correct the manifest of play\.txt"):
        load_corpus(path)


def test_a_manifest_may_hold_out_and_divide_any_part(tmp_path: Path) -> None:
    starts = [{"start": start} for start in (0, 600, 300, 10**30)]
    for held_out_start in (MIN_PART, len(TEXT) - MIN_PART):
        path = write_with_manifest(tmp_path, held_out_start=held_out_start, plays=starts)
        corpus = load_corpus(path)
        assert (len(corpus.train), corpus.train + corpus.held_out) == (held_out_start, TEXT)
        assert corpus.starts == ((0, 300) if held_out_start == MIN_PART else (0, 300, 600))


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 200_000,
        b"nonsense",
        b"\xff\xfe",
        b"[]",
        b'{"sha256": [1]}',
        b" " * (MAX_MANIFEST_BYTES + 1),
        b"1" * 5000,
    ],
    ids=["nested", "text", "bytes", "list", "foreign", "large", "number"],
)
def test_ignores_an_unrelated_file_of_the_same_name(tmp_path: Path, content: bytes) -> None:
    write_text(tmp_path / "play.txt", TEXT)
    (tmp_path / "play.json").write_bytes(content)
    assert load_corpus(tmp_path / "play.txt").starts == (0,)


@pytest.mark.parametrize("end", ["\n", "x\n", "\n" * 400])
def test_something_is_held_out_of_a_text_of_one_line(tmp_path: Path, end: str) -> None:
    write_text(tmp_path / "line.txt", "to be or not " * 800 + end)
    corpus = load_corpus(tmp_path / "line.txt")
    assert len(corpus.held_out) >= MIN_PART
