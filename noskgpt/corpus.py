"""Load a text, compute its checksum, and split it into training and held-out parts."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noskgpt.errors import CorpusError
from noskgpt.files import read_regular
from noskgpt.limits import MAX_MANIFEST_BYTES, MAX_TEXT_BYTES
from noskgpt.resources import corpus_path
from noskgpt.tokenizer import MAX_VOCABULARY

HELD_OUT_FRACTION = 0.1
MIN_CHARACTERS = 10_000
MIN_PART = 500
"""Characters of the shorter of the two parts, at least."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Store a text in two parts: `train` for training, `held_out` for evaluation only."""

    name: str
    sha256: str
    train: str
    held_out: str
    starts: tuple[int, ...] = (0,)
    """The start of each play in `train`, in characters; 0 alone if there is no manifest."""

    @property
    def plays(self) -> list[str]:
        """The plays in the training part; the whole part if there is no manifest."""
        ends = [*self.starts[1:], len(self.train)]
        return [self.train[start:end] for start, end in zip(self.starts, ends, strict=True)]

    @property
    def vocabulary(self) -> str:
        """The characters of the whole text in code-point order."""
        return "".join(sorted(set(self.train) | set(self.held_out)))


def load_corpus(path: str | Path | None = None) -> Corpus:
    """Load a UTF-8 text; the bundled plays if `path` is None.

    If there is a ``NAME.json`` beside ``NAME.txt`` and its ``sha256`` is that of the text, the
    held-out part starts at its ``held_out_start`` (in characters). Otherwise the held-out part is
    the last tenth, starting at the beginning of a line.

    Raises:
        CorpusError: The file is missing, is too large, is not text, has fewer than 10,000
            characters, or does not have 2 to 256 different characters; or its manifest is wrong.
    """
    path = corpus_path() if path is None else Path(path)
    try:
        raw = read_regular(path, MAX_TEXT_BYTES)
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}). Give the path of a readable text file."
        raise CorpusError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path}: not a UTF-8 text file (byte {error.start}). Save it as UTF-8 and try again."
        raise CorpusError(msg) from error
    if "\0" in text:  # as in UTF-16, which can be valid UTF-8
        msg = f"{path}: has null characters, so it is not text or not UTF-8. Save it as UTF-8."
        raise CorpusError(msg)
    symbols = len(set(text))
    if len(text) < MIN_CHARACTERS:
        msg = (
            f"{path}: {len(text):,} characters are too few to train on. "
            f"Use at least {MIN_CHARACTERS:,}, or better a million."
        )
        raise CorpusError(msg)
    if symbols < 2:  # noqa: PLR2004
        msg = f"{path}: contains only one character, repeated. Use a text with at least two."
        raise CorpusError(msg)
    if symbols > MAX_VOCABULARY:
        msg = (
            f"{path}: {symbols} different characters, but a model supports at most "
            f"{MAX_VOCABULARY}. Replace the rare ones."
        )
        raise CorpusError(msg)
    digest = hashlib.sha256(raw).hexdigest()
    manifest_path = path.with_suffix(".json")
    manifest = _manifest(manifest_path, digest)
    try:
        start = _held_out_start(manifest, text)
        starts = _play_starts(manifest, start)
    except ValueError as error:
        msg = f"{manifest_path}: {error}. Correct the manifest of {path.name}, or delete it."
        raise CorpusError(msg) from error
    return Corpus(path.name, digest, text[:start], text[start:], starts)


def _manifest(path: Path, sha256: str) -> dict[str, Any]:
    """Return the manifest of the text with a checksum; empty if there is none."""
    if not path.is_file() or path.stat().st_size > MAX_MANIFEST_BYTES:
        return {}
    try:
        declared = json.loads(read_regular(path, MAX_MANIFEST_BYTES))
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}). Make it readable, or move it away."
        raise CorpusError(msg) from error
    except (ValueError, RecursionError):
        return {}  # an unrelated file that has the same name
    if not isinstance(declared, dict) or declared.get("sha256") != sha256:
        return {}
    return declared


def _held_out_start(manifest: Mapping[str, Any], text: str) -> int:
    """Return where the held-out part starts; raise `ValueError` if the manifest is wrong."""
    if "held_out_start" not in manifest:
        start = int(len(text) * (1 - HELD_OUT_FRACTION))
        return text.find("\n", start, min(start + 2000, len(text) - MIN_PART)) + 1 or start
    start = manifest["held_out_start"]
    if type(start) is not int or not MIN_PART <= start <= len(text) - MIN_PART:
        msg = f"held_out_start is not an integer from {MIN_PART} to {len(text) - MIN_PART}"
        raise ValueError(msg)
    return start


def _play_starts(manifest: Mapping[str, Any], end: int) -> tuple[int, ...]:
    """Return the starts of the plays before `end`, in order, 0 first.

    Raises:
        ValueError: The manifest is wrong.
    """
    plays = manifest.get("plays", [])
    try:
        starts = {play["start"] for play in plays}
    except (LookupError, TypeError) as error:
        msg = "plays is not a list of objects, each with a start"
        raise ValueError(msg) from error
    if not all(type(start) is int and start >= 0 for start in starts):
        msg = "the start of a play is not a number of characters"
        raise ValueError(msg)
    return (0, *sorted(start for start in starts if 0 < start < end))
