"""Set the constraints of a request from its prompt."""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from noskgpt import lexicon
from noskgpt.inference import constraints as c
from noskgpt.inference.constraints import Cast, Constraints, Echo, begin_speaker_line
from noskgpt.inference.sampling import Sampling, advance
from noskgpt.lexicon import Lexicon
from noskgpt.scene import Casts, Reading
from noskgpt.tokenizer import Tokenizer

BEGIN, ALONG, OVER, WITHIN, FADE = 1.0, 4.0, 1.0, 2.5, 2.0
"""Strength of the echo in nats, and its fading; see `constraints.Echo` and docs/experiments.md."""
DECIDING = 2
"""Number of letters that decide on a word which the model does not know."""
MAX_WORDS = 20
"""Maximum number of words that are repeated."""
MAX_NEW_SPEAKERS = 50
"""Maximum number of speakers that a prompt adds to a cast."""

_KINDS = {"\n": c.NEWLINE, " ": c.SPACE, ":": c.COLON, "-": c.HYPHEN}
_INITIAL = re.compile(r"(?<![^\W\d_])(?<![^\W\d_]')[^\W\d_]")


class Stage:
    """Set the constraints of requests to one model.

    Args:
        casts: The casts of the text that the model was trained on. Anybody may speak if there are
            none, or if the alphabet has no colon or line break.
        tokenizer: The model's.
    """

    def __init__(self, casts: Casts, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        vocabulary = set(tokenizer.vocabulary)
        self._casts = casts
        self._kinds = np.array([_kind(s, vocabulary) for s in tokenizer.vocabulary], np.int64)
        names = casts.names if {":", "\n"} <= vocabulary else ()
        self._rows = {
            name: row for row, name in enumerate(name for name in names if set(name) <= vocabulary)
        }
        self._rows_by_name = {name.lower(): row for name, row in self._rows.items()}

    @cached_property
    def _everybody(self) -> Cast:
        """The speakers of all plays."""
        speeches = np.zeros((len(self._casts.plays), len(self._rows)), np.int64)
        for play, cast in enumerate(self._casts.plays):
            for name in cast.keys() & self._rows.keys():
                speeches[play, self._rows[name]] = cast[name]
        return Cast(
            names=_pad([self._tokenizer.encode(f"{name}:\n") for name in self._rows]),
            plays=speeches > 0,
            home=speeches.argmax(axis=0) if len(self._rows) else np.empty(0, np.int64),
            member=np.ones(len(self._rows), np.bool_),
            alive=np.zeros(len(self._rows), np.bool_),
            guests=np.empty(0, np.int64),
        )

    def constrain(
        self,
        prompt: str,
        sampling: Sampling,
        *,
        real_words: bool = False,
        cast: bool = False,
        echo: bool = False,
        echo_of: str | None = None,
        known: Lexicon | None = None,
        guests: Sequence[str] = (),
    ) -> Constraints:
        """Return the constraints after a prompt in the model's alphabet.

        The words of the lexicon `known` are repeated only where the model might place them. The
        speakers `guests`, in any case, belong to the cast of every play. With
        `real_words`, moves `sampling` along the prompt's last word if an apostrophe ends it.
        """
        state = np.zeros(c.FIELDS, np.int64)
        state[[c.AT, c.SPEAKER, c.NEXT]] = -1
        state[c.LINE] = _line(prompt.rpartition("\n")[2])
        state[c.SPOKEN] = 1
        state[c.BOUNDARY] = prompt[-1:].isalpha()
        if real_words and prompt.endswith("'"):
            for symbol in self._tokenizer.encode(lexicon.last_partial_word(prompt)):
                advance(sampling, symbol)
        words: list[list[int]] = []
        deciding: list[int] = []
        people, forced = self._everybody, ""
        if cast or echo:
            reading = self._casts.read(prompt, echo_of, guests)
            if echo:
                words = self._spell(reading.words)[-MAX_WORDS:]
                deciding = [
                    len(word) if known and lexicon.contains(known, word) else DECIDING
                    for word in words
                ]
            if self._rows:
                people = self._set_cast(reading, state, guests)
                forced = _next_lines(reading, prompt) if cast else ""
        constraints = Constraints(
            active=real_words or cast or echo,
            real_words=real_words,
            keep_cast=cast and len(self._rows) > 0,
            kinds=self._kinds,
            forced=np.array(self._tokenizer.encode(forced), np.int64),
            state=state,
            cast=people,
            echo=Echo(
                words=_pad([list(sampling.lexicons[0].letters[word]) for word in words]),
                begin=BEGIN,
                along=ALONG,
                over=OVER,
                within=WITHIN,
                fade=FADE,
                deciding=np.array(deciding, np.int64),
                alive=np.ones(len(words), np.bool_),
                uses=np.zeros(len(words), np.int64),
                rest=np.zeros(len(words), np.int64),
                logits=np.empty(len(self._kinds), np.float32),
            ),
        )
        if (cast or echo) and self._rows and reading.finished and not forced and _blank(prompt):
            begin_speaker_line(constraints)
        return constraints

    def _set_cast(self, reading: Reading, state: NDArray[np.int64], guests: Sequence[str]) -> Cast:
        """Return the cast of a scene; set who spoke and who speaks next."""
        known = self._everybody
        vocabulary = set(self._tokenizer.vocabulary)
        new = [s for s in reading.speakers if s not in self._rows and set(s) <= vocabulary]
        new = new[-MAX_NEW_SPEAKERS:]
        by_name = self._rows_by_name | {name.lower(): -1 for name in new}
        new += [s for s in guests if s.lower() not in by_name and set(s) <= vocabulary]
        rows = self._rows | {name: len(self._rows) + i for i, name in enumerate(new)}
        by_name |= {name.lower(): rows[name] for name in new}
        added = len(rows) - len(self._rows)
        plays = np.pad(known.plays, ((0, 0), (0, added)), constant_values=True)
        member = np.ones(len(rows), np.bool_)
        if reading.play is not None:
            member = plays[reading.play].copy()
            member[[rows[name] for name in reading.speakers if name in rows]] = True
        invited: list[int] = []
        strangers: list[int] = []
        if guests:
            everywhere = {name.lower() for name in guests}
            invited = [row for name, row in rows.items() if name.lower() in everywhere]
            strangers = [row for row in invited if row >= len(self._rows) or not member[row]]
            plays[:, invited] = True
            member[invited] = True
        state[c.CHOSEN] = reading.play is not None
        state[c.SPEAKER] = rows.get(reading.last or "", -1)
        state[c.NEXT] = rows.get(
            reading.addressed or "", by_name.get((reading.addressed or "").lower(), -1)
        )
        state[c.SPOKEN] = reading.spoken
        return Cast(
            names=_pad([self._tokenizer.encode(f"{name}:\n") for name in rows])
            if added
            else known.names,
            plays=plays,
            home=np.pad(known.home, (0, added), constant_values=-1),
            member=member,
            alive=np.zeros(len(rows), np.bool_),
            guests=np.array(strangers, np.int64),
        )

    def _spell(self, words: Iterable[str]) -> list[list[int]]:
        """Return the symbols of the words that the vocabulary can spell, in either case."""
        symbols = {symbol.lower(): i for i, symbol in enumerate(self._tokenizer.vocabulary)}
        return [[symbols[x] for x in word] for word in words if set(word) <= symbols.keys()]


def _blank(prompt: str) -> bool:
    """Return whether a prompt is empty or ends in a blank line."""
    return not prompt.strip() or prompt[len(prompt.rstrip()) :].count("\n") > 1


def _next_lines(reading: Reading, prompt: str) -> str:
    """Return the line breaks that are missing after a prompt: a speech needs one, a speaker two."""
    if reading.finished and reading.spoken:
        missing = 2
    elif not reading.spoken and reading.last is not None:
        missing = 1
    else:
        missing = 0
    return "\n" * (missing - prompt[len(prompt.rstrip()) :].count("\n"))


def _line(line: str) -> int:
    """Return the kind of a line."""
    if not line.strip():
        return c.BLANK
    initials = _INITIAL.findall(line)
    return c.WORDS if any(initial.islower() for initial in initials) else c.TITLE


def _kind(symbol: str, vocabulary: set[str]) -> int:
    """Return the kind of a symbol of a vocabulary."""
    if symbol in _KINDS:
        return _KINDS[symbol]
    if symbol.isspace():
        return c.SPACE
    if symbol.isalpha():
        return c.CAPITAL if symbol.lower() in vocabulary - {symbol} else c.SMALL
    return c.OTHER


def _pad(rows: list[list[int]]) -> NDArray[np.int64]:
    """Return rows of symbols as an array, padded with -1."""
    padded = np.full((len(rows), max(map(len, rows), default=1)), -1, np.int64)
    for row, symbols in zip(padded, rows, strict=True):
        row[: len(symbols)] = symbols
    return padded
