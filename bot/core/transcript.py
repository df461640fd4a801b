"""How turns become the text of a scene: what the model reads, and where a reply ends."""

import re
from collections.abc import Iterable

_NAME = r"[A-Z][A-Za-z'.\-]*"
_ENDS = (re.compile(r"[.!?]['\")\]]*(?:\s+|\Z)"), re.compile(r"\n+"))
"""Where a sentence, and where a line, is finished, with the white space behind it."""
_WORD_BACKWARDS = re.compile(r"['-]?\w+(?:['-]\w+)*")
"""A word at the end may not be whole. Read backwards, one look at each character finds it."""
_SPEAKER = re.compile(rf"{_NAME}(?:,? (?:{_NAME}|&|and|at|de|la|of|the|to)){{0,7}}:")


def is_speaker(line: str, before: str = "") -> bool:
    """Return whether a line is a speaker's name, given the line before it.

    A name stands after a blank line and is capitalised, as in `First Citizen:`; one all in
    capitals, as in `ROMEO:`, counts anywhere, because the model may forget the blank line.
    """
    return bool(_SPEAKER.fullmatch(line)) and (not before.strip() or line.isupper())


def lead(prompt: str) -> str:
    """Return the text by which a prompt, already in the model's alphabet, opens its turn.

    `ROMEO:` stands on its own line, so that the speech follows; other words are the beginning
    of a speech, which the model continues. A prompt of which nothing is left opens nothing.
    """
    words = prompt.strip()
    return f"{words}\n" if words.endswith(":") else words


def join(past: str, opening: str | None) -> str:
    """Return a scene so far with the lead of the next turn; None goes straight on."""
    if opening is None:
        return past
    past = past.rstrip()
    return f"{past}\n\n{opening}" if past else opening


def compose(turns: Iterable[tuple[str | None, str]]) -> str:
    """Return the text of a scene from the leads and replies of its turns, newest last."""
    text = ""
    for opening, reply in turns:
        text = join(text, opening) + reply
    return text


def finish(text: str) -> str:
    """Return what the model wrote, up to a natural end; it breaks off wherever its length is up.

    That is behind the last finished sentence in the last fifth of the text, else behind the last
    finished line there, else behind the last whole word. A speaker who would have nothing to say
    is left out. White space at the end stays: in what follows, it tells the model that a word or
    a line is over.
    """
    fifth = len(text) * 4 // 5
    word = _WORD_BACKWARDS.match(text[::-1])
    cut = len(text) - (word.end() if word else 0)
    for end in _ENDS:
        if found := list(end.finditer(text, fifth)):
            cut = found[-1].end()
            break
    told = text[:cut]
    while lines := told.rstrip().split("\n"):
        if not is_speaker(lines[-1], lines[-2] if len(lines) > 1 else ""):
            break
        told = told[: told.rindex(lines[-1])]
    return told if told.strip() else text


def ending(text: str, limit: int) -> str:
    """Return the last part of a text, at most `limit` characters and from the start of a word."""
    part = text[-limit:]
    if len(text) <= limit:
        return part
    return re.sub(r"\A\S*\s+", "", part) or part
