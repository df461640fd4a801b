"""Find the characters of a text that a vocabulary cannot spell."""

from collections import Counter
from typing import NamedTuple

from noskgpt.tokenizer import Tokenizer

MAX_LEFT_OUT = 0.01
"""Largest fraction of a text that may be left out for lack of symbols, such as brackets."""
_NAMED = 40
"""Number of characters that `describe` names."""


class LeftOut(NamedTuple):
    """Return type of `left_out`."""

    characters: str
    """The characters that a vocabulary cannot spell, each once, in code-point order."""
    fraction: float
    """Their fraction of the text."""

    @property
    def fits(self) -> bool:
        """Whether the rest of the text is enough of it to train on."""
        return self.fraction <= MAX_LEFT_OUT


def left_out(text: str, vocabulary: str) -> LeftOut:
    """Return the characters of a text that a vocabulary cannot spell; see `Tokenizer.fold`."""
    counts = Counter(text)
    dropped = Tokenizer(vocabulary).fold("".join(sorted(counts))).dropped
    return LeftOut(dropped, sum(counts[symbol] for symbol in dropped) / max(1, len(text)))


def describe(characters: str) -> str:
    """Return a list of characters for a message: separated by spaces, shortened if there are many.

    Control characters are named by their code points.
    """
    shown = [c if c.isprintable() and c != " " else f"U+{ord(c):04X}" for c in characters[:_NAMED]]
    rest = len(characters) - len(shown)
    return " ".join(shown) + (f" and {rest} more" if rest else "")
