"""Convert text to symbol ids and back, and fold any Unicode text to a model's vocabulary.

Every symbol is one character. The default vocabulary is that of the reference, the original
noskGPT; a model trained on another text may have another.
"""

import functools
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

VOCABULARY = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""The reference's 65 symbols, in code-point order."""

MAX_VOCABULARY = 256
_CACHED_SPELLINGS = 1024
"""Number of characters outside the vocabulary whose spelling a tokenizer remembers."""

# Plain spellings of characters that compatibility decomposition (NFKD) does not change.
_SPELLINGS = {
    **dict.fromkeys('‘’‚‛′ʼ`´“”„‟″"«»‹›', "'"),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("\t\v\f", " "),
    **dict.fromkeys("\r\x85\u2028\u2029", "\n"),
    "Æ": "Ae",
    "æ": "ae",
    "Œ": "Oe",
    "œ": "oe",
    "ß": "ss",
    "ẞ": "SS",
    "Ø": "O",
    "ø": "o",
    "Ł": "L",
    "ł": "l",
    "Đ": "D",
    "đ": "d",
    "Ð": "D",
    "ð": "d",
    "Þ": "Th",
    "þ": "th",
    "ı": "i",
    "⁊": "&",
    "¿": "",
    "¡": "",
}
_INVISIBLE = frozenset({"Mn", "Me", "Cf"})


class Folded(NamedTuple):
    """Return type of `Tokenizer.fold`: text in the vocabulary, and the characters left out."""

    text: str
    dropped: str
    """The visible characters that were left out, each once, in order of appearance."""


class Tokenizer:
    """Convert between text and symbol ids for one vocabulary.

    Args:
        vocabulary: The symbols, one character each, without repeats; the id of a symbol is its
            index.

    Raises:
        ValueError: The vocabulary is empty, repeats a symbol, or has more than 256.
    """

    def __init__(self, vocabulary: str = VOCABULARY) -> None:
        if not 1 <= len(vocabulary) <= MAX_VOCABULARY or len(set(vocabulary)) != len(vocabulary):
            msg = f"a vocabulary must have 1 to {MAX_VOCABULARY} different characters"
            raise ValueError(msg)
        self.vocabulary = vocabulary
        self._ids = {symbol: i for i, symbol in enumerate(vocabulary)}
        # Texts repeat few characters, but Unicode has more than a million.
        self._spelling = functools.lru_cache(_CACHED_SPELLINGS)(self._spell)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> list[int]:
        """Fold any string and return its symbol ids."""
        return [self._ids[symbol] for symbol in self.fold(text).text]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of symbol ids; raise `IndexError` for an id outside the vocabulary."""
        return "".join(self.vocabulary[i] for i in ids)

    def fold(self, text: str) -> Folded:
        """Replace characters by spellings in the vocabulary, and leave out the rest.

        Accepts any string, including lone surrogates.
        """
        pieces: list[str] = []
        dropped: dict[str, None] = {}
        for character in text.replace("\r\n", "\n"):
            spelling = character if character in self._ids else self._spelling(character)
            if spelling is None:
                dropped[character] = None
            else:
                pieces.append(spelling)
        return Folded("".join(pieces), "".join(dropped))

    def _spell(self, character: str) -> str | None:
        """Return a spelling of one character in the vocabulary, or None if there is none."""
        if unicodedata.category(character) in _INVISIBLE:
            return ""
        plain = "".join(
            _SPELLINGS.get(part, part)
            for part in unicodedata.normalize("NFKD", _SPELLINGS.get(character, character))
            if unicodedata.category(part) not in _INVISIBLE
        )
        if plain == "" and character not in _SPELLINGS:
            return None
        for candidate in (plain, plain.lower(), plain.upper()):
            if all(part in self._ids for part in candidate):
                return candidate
        if plain.isspace() and " " in self._ids:
            return " "
        return None
