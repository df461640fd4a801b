"""Extract the casts of plays from a text, and read from a prompt who speaks and who answers.

A speech is a speaker line (`ROMEO:`), the lines of the speech, and a blank line.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from noskgpt import lexicon
from noskgpt.lexicon import words_in_order

MAX_NAME = 48
"""Maximum length of a speaker's name in characters."""
MAX_SPEAKERS = 2000
"""Maximum number of speakers of a play."""
COMMON_WORDS = 300
"""Number of the most common words, which `echo` does not repeat and which call nobody."""

_NAME = rf"[^\W\d_][^\n:?!;]{{0,{MAX_NAME - 1}}}"
_SPEAKER_LINE = re.compile(rf"(?:\A|\n[ ]*\n)({_NAME}):[ ]*(?=\n)")
_PROMPT_LINE = re.compile(rf"\s*({_NAME})\s*:(.*)")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_FINISHED = re.compile(r"[?!]['\")\]]*\s*\Z")
_JOINING = frozenset(("and", "of", "the", "de", "la", "to", "at"))
_MIN_SPEAKERS = 5
_MIN_WORD, _MAX_WORD = 3, 30
"""Lengths of a word that `echo` repeats: a longer one would fill the reply."""
_TITLE_NAMES = 4
"""A word in this many names of several words is a title, as `King` or `First`: it calls nobody."""
_MAX_VALUES = 100_000
"""Speakers and words in casts; those of the bundled plays have 1,700."""
_MAX_CELLS = 4_000_000
"""Plays times speakers, the size of a table of the decoder."""


Call = tuple[str, ...]
"""The words in lower case that call a person."""


@dataclass(frozen=True)
class Speech:
    """A part of a prompt: a speech, or a paragraph without a speaker line (`speaker` is None)."""

    speaker: str | None
    words: str


@dataclass(frozen=True)
class Reading:
    """What a prompt says about its scene.

    Attributes:
        play: Index of the play; None if the prompt names nobody in a play.
        speakers: The speakers of the prompt, spelt as in the play if they are in it.
        last: The last of them, who does not answer; None if there is none.
        addressed: The person of the cast who answers, because the last speech names them.
        finished: Whether another person speaks next.
        spoken: Whether the last speech has words.
        words: The words of the last speech that `echo` may repeat, in lower case, newest last.
    """

    play: int | None
    speakers: tuple[str, ...]
    last: str | None
    addressed: str | None
    finished: bool
    spoken: bool
    words: tuple[str, ...]


@dataclass(frozen=True)
class Casts:
    """Store the casts of the plays in a text.

    Attributes:
        plays: Number of speeches by speaker, for each play; empty if the text has no speakers.
        common: The most common words of the text, in lower case.
        nouns: Words of names that the text uses mostly in lower case (`nurse`, `page`): only
            capitalised they call a person.
    """

    plays: tuple[Mapping[str, int], ...] = ()
    common: frozenset[str] = frozenset()
    nouns: frozenset[str] = frozenset()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The speakers of all plays, each once."""
        return tuple(dict.fromkeys(name for play in self.plays for name in play))

    @cached_property
    def _spellings(self) -> tuple[dict[str, str], ...]:
        """The speakers of each play by their names in lower case."""
        return tuple({name.lower(): name for name in play} for play in self.plays)

    @cached_property
    def _titles(self) -> frozenset[str]:
        parts = [set(words_in_order(name)) for name in self.names]
        counts = Counter(word for words in parts if len(words) > 1 for word in words)
        return self.common | {word for word, count in counts.items() if count >= _TITLE_NAMES}

    @cached_property
    def _calls(self) -> tuple[dict[Call, str], ...]:
        """The speakers of each play by the words that call them: the full name, or a part of it."""
        calls: list[dict[Call, str]] = []
        for play in self.plays:
            parts: dict[str, list[str]] = {}
            for name in play:
                for word in set(words_in_order(name)) - self._titles:
                    if len(word) >= _MIN_WORD:
                        parts.setdefault(word, []).append(name)
            called: dict[Call, str] = {
                (word,): names[0] for word, names in parts.items() if len(names) == 1
            }
            for name in play:
                words = tuple(words_in_order(name))
                if len(words) > 1 or parts.keys() & set(words):
                    called[words] = name
            calls.append(called)
        return tuple(calls)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(w for call in self._plays_by_call for w in call) - self.nouns

    @cached_property
    def _plays_by_call(self) -> Mapping[Call, int]:
        return Counter(call for calls in self._calls for call in calls)

    @cached_property
    def _longest_call(self) -> int:
        return max(map(len, self._plays_by_call), default=0)

    def _find_calls(self, text: str) -> list[tuple[int, Call]]:
        """Return the calls in a text with the index of their first word, longest first."""
        spelt = _WORD.findall(text)
        # "Romeo's" names a person too.
        words = [word.lower().removesuffix("'s") for word in spelt]
        found: list[tuple[int, Call]] = []
        for start in range(len(words)):
            for end in range(min(start + self._longest_call, len(words)), start, -1):
                call = tuple(words[start:end])
                if call in self._plays_by_call:
                    capitalised = any(word[0].isupper() for word in spelt[start:end])
                    if capitalised or not self.nouns.issuperset(call):
                        found.append((start, call))
        return found

    def _called(self, play: int, found: list[tuple[int, Call]]) -> list[Call]:
        """Return the calls among those found that call a person of a play, in order."""
        called: list[Call] = []
        end = 0
        for start, call in found:
            if start >= end and call in self._calls[play]:
                called.append(call)
                end = start + len(call)
        return called

    def read(self, prompt: str, echo_of: str | None = None, guests: Sequence[str] = ()) -> Reading:
        """Return who takes part in the scene of a prompt, and who speaks next.

        Args:
            prompt: Text in the alphabet of the model.
            echo_of: The text whose words `echo` repeats; None: the last speech.
            guests: Speakers who take part in addition; their full name calls them.
        """
        speeches = self._speeches(prompt)
        final = speeches[-1] if speeches else Speech(None, "")
        found = [self._find_calls(speech.words) for speech in speeches]
        play = self._play(speeches, found)
        spelling = self._spellings[play] if play is not None else {}
        spoken_by = [spelling.get(s.speaker.lower(), s.speaker) for s in speeches if s.speaker]
        last = spoken_by[-1] if spoken_by else None
        people: list[str] = []
        if play is not None:
            people = [self._calls[play][call] for call in self._called(play, found[-1])]
        if final.speaker is not None:
            people = [name for name in people if name != last]
        known = spelling.keys() | {(last or "").lower()}
        people += _named((name for name in guests if name.lower() not in known), final.words)
        repeated = [
            word
            for word in words_in_order(final.words if echo_of is None else echo_of)
            if _MIN_WORD <= len(word) <= _MAX_WORD and word not in self.common | self._names
        ]
        blank = prompt[len(prompt.rstrip()) :].count("\n") > 1 or not prompt.strip()
        spoken = bool(final.words.strip())
        return Reading(
            play=play,
            speakers=tuple(dict.fromkeys(spoken_by)),
            last=last,
            addressed=people[-1] if people else None,
            finished=(spoken and (blank or _FINISHED.search(prompt) is not None)) or not speeches,
            spoken=spoken,
            words=tuple(dict.fromkeys(reversed(repeated)))[::-1],
        )

    def _play(self, speeches: list[Speech], found: list[list[tuple[int, Call]]]) -> int | None:
        """Return the play that has most of the people who speak or are named, later ones first."""
        best: tuple[float, int] = (0.0, 0)
        chosen = None
        for play, spelling in enumerate(self._spellings):
            scores: dict[str, float] = {}
            for age, (speech, calls) in enumerate(
                reversed(list(zip(speeches, found, strict=True)))
            ):
                speaker = (speech.speaker or "").lower()
                if speaker in spelling:
                    name = spelling[speaker]
                    scores[name] = max(2 / (1 + age), scores.get(name, 0))
                for call in self._called(play, calls):
                    score = 1 / (1 + age) / self._plays_by_call[call]
                    name = self._calls[play][call]
                    scores[name] = max(score, scores.get(name, 0))
            total = (sum(scores.values()), sum(self.plays[play][name] for name in scores))
            if total > best:
                best, chosen = total, play
        return chosen

    def _speeches(self, prompt: str) -> list[Speech]:
        """Divide a prompt at its blank lines and speaker lines."""
        speeches: list[tuple[str | None, list[str]]] = []
        after_blank = True
        for line in prompt.split("\n"):
            if not line.strip():
                after_blank = True
                continue
            speaker, words = self._speaker(line, after_blank=after_blank)
            # Blank lines between a speaker line and its speech do not separate them.
            waiting = speeches and speeches[-1][0] is not None and not speeches[-1][1]
            if speaker is not None or not speeches or (after_blank and not waiting):
                speeches.append((speaker, []))
            if words.strip():
                speeches[-1][1].append(words)
            after_blank = False
        return [Speech(speaker, "\n".join(lines)) for speaker, lines in speeches]

    def _speaker(self, line: str, *, after_blank: bool) -> tuple[str | None, str]:
        """Return the speaker of a line, if it begins with one, and the words that follow."""
        match = _PROMPT_LINE.fullmatch(line)
        if match is None:
            return None, line
        name, words = " ".join(match[1].split()), match[2]
        known = any(name.lower() in spelling for spelling in self._spellings)
        parts = [part for part in name.split() if part not in _JOINING]
        capitalised = len(parts) <= _MIN_SPEAKERS and all(part[0].isupper() for part in parts)
        alone = not words.strip()
        if (
            (known and (alone or capitalised))
            or (alone and name.isupper())
            or (after_blank and capitalised)
            or (after_blank and alone and len(parts) == 1)
        ):
            return name, words
        return None, line


def _named(names: Iterable[str], words: str) -> list[str]:
    """Return the names that a text has with a capital, the one that it has last at the end."""
    found: dict[str, int] = {}
    for name in names:
        for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", words, re.IGNORECASE):
            if match[0][0].isupper():
                found[name] = match.start()
    return sorted(found, key=found.__getitem__)


def build(plays: Iterable[str]) -> Casts:
    """Extract the casts of plays.

    A text in which fewer than 5 speakers have 2 speeches has no cast.
    """
    casts: list[Mapping[str, int]] = []
    lower: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for text in plays:
        # Without people who speak together: one of them may be the last speaker.
        names = (match[1].rstrip() for match in _SPEAKER_LINE.finditer(text))
        speakers = Counter(name for name in names if " and " not in name)
        if sum(count > 1 for count in speakers.values()) >= _MIN_SPEAKERS:
            casts.append(dict(speakers.most_common(MAX_SPEAKERS)))
        spelt = lexicon.count_spellings(_SPEAKER_LINE.sub("\n\n", text))
        for word, count in spelt.items():
            words[lexicon.lower_word(word)] += count
            if word.islower():
                lower[word] += count
    casts = casts[: _count_fitting(casts)]
    name_words = {word for cast in casts for name in cast for word in words_in_order(name)}
    return Casts(
        tuple(casts),
        frozenset(word for word, _ in words.most_common(COMMON_WORDS)),
        frozenset(word for word in name_words if 2 * lower[word] > words[word]),
    )


def _count_fitting(plays: Sequence[Mapping[str, int]]) -> int:
    """Return how many plays, from the first on, `from_values` accepts with the words of names."""
    speakers, values = 0, COMMON_WORDS
    for number, play in enumerate(plays):
        speakers += len(play)
        values += len(play) + sum(len(words_in_order(name)) for name in play)
        if values > _MAX_VALUES or (number + 1) * speakers > _MAX_CELLS:
            return number
    return len(plays)


def to_values(casts: Casts) -> dict[str, Any]:
    """Return casts as plain values."""
    return {
        "plays": [dict(play) for play in casts.plays],
        "common": sorted(casts.common),
        "nouns": sorted(casts.nouns),
    }


def from_values(values: Mapping[str, Any]) -> Casts:
    """Return the casts of plain values; raise `ValueError` or `KeyError` if they are damaged."""
    plays, common, nouns = (values[name] for name in ("plays", "common", "nouns"))
    if not all(type(part) is list for part in (plays, common, nouns)) or not all(
        type(play) is dict and 0 < len(play) <= MAX_SPEAKERS for play in plays
    ):
        msg = "the casts have a wrong type"
        raise ValueError(msg)
    speakers = [speaker for play in plays for speaker in play.items()]
    size = len(speakers) + len(common) + len(nouns)
    if size > _MAX_VALUES or len(plays) * len(speakers) > _MAX_CELLS:
        msg = "the casts are too large"
        raise ValueError(msg)
    for name, count in speakers:
        named = type(name) is str and 0 < len(name) <= MAX_NAME
        counted = type(count) is int and 0 < count < 2**31
        if not named or ":" in name or "\n" in name or not counted:
            msg = f"the casts have a wrong speaker, {name!r}"
            raise ValueError(msg)
    if not all(type(word) is str for word in (*common, *nouns)):
        msg = "the casts have a wrong word"
        raise ValueError(msg)
    return Casts(tuple(plays), frozenset(common), frozenset(nouns))
