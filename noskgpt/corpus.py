"""Text to train on: reading it, its checksum, and where the held-out part begins."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from noskgpt.errors import CorpusError
from noskgpt.resources import corpus_path
from noskgpt.tokenizer import MAX_VOCABULARY

HELD_OUT_SHARE = 0.1
MIN_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class Corpus:
    """A text in two parts, of which training sees the first alone."""

    name: str
    sha256: str
    train: str
    held_out: str

    @property
    def vocabulary(self) -> str:
        """The characters of the whole text in code-point order."""
        return "".join(sorted(set(self.train) | set(self.held_out)))


def load_corpus(path: str | Path | None = None) -> Corpus:
    """Read a UTF-8 text; the bundled plays when no path is given.

    Where ``NAME.json`` stands beside ``NAME.txt`` and its ``sha256`` is the text's, the
    held-out part begins at its ``held_out_start`` (in characters). Otherwise it is the last
    tenth, from the beginning of a line.

    Raises:
        CorpusError: Missing, not text, shorter than 10,000 characters, of one character alone,
            or of more than 256 different ones.
    """
    path = corpus_path() if path is None else Path(path)
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}). Name a text file that exists."
        raise CorpusError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path}: not a UTF-8 text (byte {error.start}). Save it as UTF-8 and try again."
        raise CorpusError(msg) from error
    symbols = len(set(text))
    if len(text) < MIN_CHARACTERS:
        msg = (
            f"{path}: {len(text):,} characters are too few to learn from; "
            f"at least {MIN_CHARACTERS:,} are needed, and a million are better."
        )
        raise CorpusError(msg)
    if symbols < 2:  # noqa: PLR2004
        msg = f"{path}: holds one character over and over; give it a text."
        raise CorpusError(msg)
    if symbols > MAX_VOCABULARY:
        msg = (
            f"{path}: {symbols} different characters, and a model takes {MAX_VOCABULARY}. "
            "Replace the rare ones."
        )
        raise CorpusError(msg)
    digest = hashlib.sha256(raw).hexdigest()
    start = _declared_start(path.with_suffix(".json"), digest)
    if start is None:
        start = int(len(text) * (1 - HELD_OUT_SHARE))
        start = text.find("\n", start, start + 2000) + 1 or start
    return Corpus(path.name, digest, text[:start], text[start:])


def _declared_start(manifest: Path, sha256: str) -> int | None:
    if not manifest.is_file():
        return None
    try:
        declared = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError:
        return None  # somebody's own file of that name says nothing about this text
    if not isinstance(declared, dict) or declared.get("sha256") != sha256:
        return None
    start = declared.get("held_out_start")
    return start if isinstance(start, int) else None
