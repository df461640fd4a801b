"""How turns become the text of a scene: what the model reads, and which lines are speakers."""

import re
from collections.abc import Iterable

_NAME = r"[A-Z][A-Za-z'.\-]*"
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
