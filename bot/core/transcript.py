"""Compose the text of a scene from its turns, and trim replies to a natural end."""

import re
from collections.abc import Collection, Iterable
from itertools import pairwise

_NAME = r"[A-Z][A-Za-z'.\-]*"
_ENDS = (re.compile(r"[.!?]['\")\]]*(?:\s+|\Z)"), re.compile(r"\n+"))
"""The end of a sentence and the end of a line, each with the white space that follows."""
_WORD_BACKWARDS = re.compile(r"['-]?\w+(?:['-]\w+)*")
"""The last word, which may be incomplete. Matched against the reversed text in linear time."""
_PUNCTUATION = re.compile(r"\s*[.,;:!?]+(?=\s)")
"""The end of a sentence, a clause or a line, without its words."""
_SPEAKER = re.compile(rf"{_NAME}(?:,? (?:{_NAME}|&|and|at|de|la|of|the|to)){{0,7}}:")


def is_speaker(line: str, before: str = "") -> bool:
    """Return whether a line is a speaker's name, given the line before it.

    A name follows a blank line and is capitalised, as in `First Citizen:`. A name in capitals, as
    in `ROMEO:`, needs no blank line, because the model may omit it.
    """
    return bool(_SPEAKER.fullmatch(line)) and (not before.strip() or line.isupper())


def speaker_of(line: str, before: str = "") -> str | None:
    """Return the speaker's name with which a line begins, given the line before it."""
    name, colon, _ = line.partition(":")
    return name if colon and is_speaker(f"{name}:", before) else None


def lead(prompt: str) -> str:
    """Return the text with which a prompt, already in the model's alphabet, opens its turn.

    `ROMEO:` gets a line of its own, so that the speech follows it; other words begin a speech
    that the model continues. After a blank line the speech is complete: another speaker follows.
    An empty prompt gives an empty text.
    """
    words = prompt.strip()
    if words and is_speech(prompt):
        return f"{words}\n\n"
    return f"{words}\n" if words.endswith(":") else words


def speech(speaker: str, words: str) -> str:
    """Return a prompt that is the complete speech of a speaker."""
    return f"{speaker}:\n{words}\n\n"


def is_speech(prompt: str | None) -> bool:
    """Return whether a prompt is a complete speech, which only a person's part has."""
    return prompt is not None and prompt.endswith("\n\n")


def close(text: str, speakers: Collection[str]) -> str:
    """Return the line breaks that end a text's last speech, if one of some speakers has it.

    Args:
        text: A scene.
        speakers: Names in lower case.
    """
    kept = text.rstrip()
    for before, line in reversed([*pairwise(["", *kept.split("\n")])]):
        name = speaker_of(line, before)
        if name is not None:
            spoken = not kept.endswith(":")
            ends = spoken and name.lower() in speakers
            return "\n\n"[text[len(kept) :].count("\n") :] if ends else ""
    return ""


def join(past: str, opening: str | None) -> str:
    """Append the lead of the next turn to a scene; None appends nothing."""
    if opening is None:
        return past
    past = past.rstrip()
    return f"{past}\n\n{opening}" if past else opening


class Composer:
    """Compose a scene turn by turn, newest last.

    Attributes:
        rest: White space at the end of the scene so far, which the next turn's lead replaces.
    """

    def __init__(self) -> None:
        self.rest = ""
        self._started = False

    def add(self, opening: str | None, reply: str) -> str:
        """Add a turn and return the text that it appends, without the white space at its end.

        Args:
            opening: The turn's lead; None continues the text before.
            reply: The turn's reply.
        """
        if opening is None:
            text = self.rest + reply
        else:
            text = ("\n\n" if self._started else "") + opening + reply
        kept = text.rstrip()
        self.rest = text[len(kept) :]
        self._started = self._started or bool(kept)
        return kept


def compose(turns: Iterable[tuple[str | None, str]]) -> str:
    """Join the leads and replies of turns, newest last, to the text of a scene."""
    composer = Composer()
    parts = [composer.add(opening, reply) for opening, reply in turns]
    return "".join(parts) + composer.rest


def shows_same(one: str, other: str) -> bool:
    """Return whether two replies are the same once formatted, which may change white space."""
    return _letters(one) == _letters(other)


def _letters(text: str) -> str:
    # A code block cannot contain backticks; see `bot.ui.embeds`. White space may be lost, too:
    # Discord strips the page of a long reply.
    return "".join(text.replace("`", "\N{MODIFIER LETTER GRAVE ACCENT}").split())


def begin(text: str) -> str:
    """Leave out the punctuation mark with which a generated text begins, if words follow.

    It ends the sentence of the prompt, which is shown apart from the reply.
    """
    mark = _PUNCTUATION.match(text)
    return text[mark.end() :] if mark and text[mark.end() :].strip() else text


def finish(text: str) -> str:
    """Trim a generated text, which may break off anywhere, to a natural beginning and end.

    For the beginning see `begin`. The end is after the last sentence that ends in the last fifth
    of the text, else after the last line that ends there, else after the last whole word. A
    speaker's name without a speech is removed. White space at the end stays: it shows the model
    that a word or a line is over.
    """
    text = begin(text)
    fifth = len(text) * 4 // 5
    word = _WORD_BACKWARDS.match(text[::-1])
    cut = len(text) - (word.end() if word else 0)
    for end in _ENDS:
        if found := list(end.finditer(text, fifth)):
            cut = found[-1].end()
            break
    kept = text[:cut]
    while lines := kept.rstrip().split("\n"):
        if not is_speaker(lines[-1], lines[-2] if len(lines) > 1 else ""):
            break
        kept = kept[: kept.rindex(lines[-1])]
    return kept if kept.strip() else text


def ending(text: str, limit: int) -> str:
    """Return the end of a text: at most `limit` characters, from the start of a word."""
    part = text[-limit:]
    if len(text) <= limit:
        return part
    return re.sub(r"\A\S*\s+", "", part) or part
