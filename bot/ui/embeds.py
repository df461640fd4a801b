"""Format turns as Discord embeds, within its limits and with all formatting escaped."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import discord

from ..core import transcript
from ..languages import Language, Plural, Text
from ..storage.records import Page, Turn

# https://discord.com/developers/docs/resources/message#embed-object-embed-limits
TITLE_LIMIT = 256
DESCRIPTION_LIMIT = 4096
MESSAGE_LIMIT = 6000

CONTENT_LIMIT = 2000

SOMEONE = Text("Someone")
SPEAKS = Text("{person} speaks as {part}", "author")
ASKS = Text("{person} asks the bard", "author")
AND_THEN = Text("{person}: and then?", "author")
GOES_ON = Text("The scene goes on", "heading")
COLOUR = discord.Colour(0x8C1D2F)
LEFT_OUT = Text("Not in the bard's alphabet, so left out", "heading")
CHARACTERS = Plural("{count:,} character", "{count:,} characters")
SECONDS = Text("{seconds:.2f} s")
TAKE = Text("Take {number} of {takes}")
VOICE = Text("Voice: {name}")
VOICE_MISSING = Text("The voice {name} is not available")
_PROMPT_SHOWN = 200
_NOTE_SHOWN = 40
_FENCE = "```"
_SPECIAL = re.compile(r"[\\*_~|`<\[\]]|:(?=//|[\w+-]+:)")
_LINE_START = re.compile(r"[ \t]*(?:[#>+-]|\d+(?=[.)]))")
_MARKUP = re.compile(r"\\(.)|\*\*", re.DOTALL)
_SILENCE = "*(silence)*"
"""Part of the script, in its language: `reply_text` recognises it."""
_BIDI = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])


@dataclass(frozen=True, slots=True)
class Cue:
    """The announcement below a reply that a person is to speak."""

    name: str
    text: str


def headline(turn: Turn, requester: str, language: Language) -> str:
    """Return the line above a turn, with the name of the person who requested it."""
    name = one_line(requester, 80) or language(SOMEONE)
    if turn.prompt is not None and transcript.is_speech(turn.prompt):
        return language(SPEAKS, person=name, part=_speech(turn.prompt)[0])
    return language(AND_THEN if turn.prompt is None else ASKS, person=name)


def line_text(turn: Turn) -> str | None:
    """Return the text above a reply: the line of a person's part, if the turn is one.

    It has at most 2000 characters.
    """
    if turn.prompt is None or not transcript.is_speech(turn.prompt):
        return None
    speaker, words = _speech(turn.prompt)
    shown = f"**{escape(speaker)}:**\n"
    for unit in _units(words, bold=False):
        if len(shown) + len(unit) > CONTENT_LIMIT - 1:
            return f"{shown}\N{HORIZONTAL ELLIPSIS}"
        shown += unit
    return shown


def _speech(prompt: str) -> tuple[str, str]:
    """Return the speaker and the words of a prompt that is a complete speech."""
    speaker, _, words = prompt.partition(":")
    return one_line(speaker, 80), words.strip()


def embeds(
    turn: Turn, language: Language, *, author: str, dropped: str = "", cue: Cue | None = None
) -> list[discord.Embed]:
    """Return the one or two embeds that show a turn, together at most 6000 characters.

    Args:
        turn: The turn. Every character of its reply is shown.
        language: That of what is around the reply.
        author: Its `headline`.
        dropped: Characters of the prompt that the model's alphabet lacks.
        cue: Says that a person is to speak. The reply may be empty then.
    """
    dropped = one_line(dropped, _NOTE_SHOWN)
    return _embeds(turn, language, author, _footer(turn, language), dropped, cue)


def scene_page(page: Page, names: Mapping[int, str], language: Language) -> list[discord.Embed]:
    """Return the embeds that show a page of a scene, together at most 6000 characters."""
    shown = []
    for turn in page.turns:
        reply = turn.reply
        if turn.prompt is not None and transcript.is_speech(turn.prompt):
            reply = f"{transcript.lead(turn.prompt)}{reply.lstrip()}"
        author = headline(turn, names[turn.user_id], language)
        shown += _embeds(turn, language, author, reply=reply)
    return shown


def _embeds(
    turn: Turn,
    language: Language,
    author: str,
    footer: str = "",
    dropped: str = "",
    cue: Cue | None = None,
    reply: str | None = None,
) -> list[discord.Embed]:
    title = _title(turn.prompt) if turn.prompt is not None else language(GOES_ON)
    if transcript.is_speech(turn.prompt):
        title = ""  # the line is shown as it is
    notice, left_out = escape(dropped), language(LEFT_OUT)
    around = (author, title, footer, *((left_out, notice) if notice else ()))
    if cue is not None:
        around += (cue.name, cue.text)
    capacity = MESSAGE_LIMIT - sum(map(len, around))
    text = turn.reply if reply is None else reply
    silent = cue is not None and not text.strip()
    pages = [
        discord.Embed(description=None if silent else page, colour=COLOUR)
        for page in _pages(text, capacity)
    ]
    pages[0].title = title or None
    pages[0].set_author(name=author)
    if notice:
        # A field of its own, which is larger than the footer and read out by itself.
        pages[-1].add_field(name=left_out, value=notice)
    if cue is not None:
        pages[-1].add_field(name=cue.name, value=cue.text, inline=False)
    if footer:
        pages[-1].set_footer(text=footer)
    return pages


def escape(line: str) -> str:
    """Escape one line of plain text, so that Discord shows no part of it as formatting."""
    return "".join(_escape_units(line))


def first_lines(lines: Iterable[str]) -> str:
    """Return the first of some lines, as many as fit into the text of a message."""
    text = ""
    for line in lines:
        longer = f"{text}\n{line}" if text else line
        if len(longer) > CONTENT_LIMIT:
            break
        text = longer
    return text


def reply_text(embeds: Iterable[discord.Embed]) -> str:
    """Return the reply that embeds show, without the formatting that `embeds` added."""
    text = ""
    for embed in embeds:
        page = embed.description or ""
        if page.startswith(_FENCE):
            text += page.removeprefix(f"{_FENCE}\n").removesuffix(_FENCE)
        elif page != _SILENCE:
            text += _MARKUP.sub(r"\1", page)
    return text


def shown_prompt(embeds: Iterable[discord.Embed]) -> str:
    """Return the prompt that embeds show, which is shortened if it is long."""
    titles = (embed.title for embed in embeds if embed.title)
    return _MARKUP.sub(r"\1", next(titles, ""))


def one_line(text: str, limit: int) -> str:
    """Return text without line breaks, control and bidirectional characters, shortened."""
    visible = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text.translate(_BIDI))
    words = " ".join(visible.split())
    if len(words) <= limit:
        return words
    return words[: limit - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def _escape_units(line: str) -> Iterator[str]:
    """Yield the characters of a line with their escapes; text may be cut between them."""
    start = _LINE_START.match(line)
    # The last character of a list marker is escaped: for `1.` that is the dot.
    marked = (start.end() - (0 if line[start.end() - 1].isdigit() else 1)) if start else -1
    for index, character in enumerate(line):
        if index == marked or _SPECIAL.match(line, index):
            yield f"\\{character}"
        else:
            yield character


def _units(text: str, *, bold: bool) -> Iterator[str]:
    before = ""
    for number, line in enumerate(text.split("\n")):
        if number:
            yield "\n"
        if bold and transcript.is_speaker(line, before):
            yield f"**{escape(line)}**"
        else:
            yield from _escape_units(line)
        before = line


def _pages(text: str, capacity: int) -> list[str]:
    """Format a script on pages of at most 4096, and together `capacity`, characters."""
    if not text.strip():
        return [_SILENCE]
    for bold in (True, False):
        units = list(_units(text, bold=bold))
        if sum(map(len, units)) <= capacity:
            return list(_fill(units, DESCRIPTION_LIMIT))
    # Escapes would exceed the limit. A code block needs none, if no backtick can end it.
    width = DESCRIPTION_LIMIT - 2 * len(_FENCE) - 1
    plain = text.replace("`", "\N{MODIFIER LETTER GRAVE ACCENT}")
    return [f"{_FENCE}\n{page}{_FENCE}" for page in _fill(list(plain), width)]


def _fill(units: list[str], width: int) -> Iterator[str]:
    """Yield pages of whole units, cut after a line, else a word, in a page's second half."""
    while units:
        size = length = 0
        cut = {"\n": 0, " ": 0}
        for size, unit in enumerate(units, start=1):
            length += len(unit)
            if length > width:
                size -= 1  # noqa: PLW2901 - the unit that does not fit goes to the next page
                break
            if unit in cut and length > width // 2:
                cut[unit] = size
        else:
            cut = {}
        size = cut.get("\n") or cut.get(" ") or size
        yield "".join(units[:size])
        units = units[size:]


def _title(prompt: str) -> str:
    for limit in (_PROMPT_SHOWN, TITLE_LIMIT // 2 - 1):
        title = escape(one_line(prompt, limit))
        if len(title) <= TITLE_LIMIT:
            break
    return title or "\N{HORIZONTAL ELLIPSIS}"


def _footer(turn: Turn, language: Language) -> str:
    parts = [
        language.plural(CHARACTERS, len(turn.reply)),
        language(SECONDS, seconds=turn.take.seconds),
    ]
    if turn.takes > 1:
        parts.insert(0, language(TAKE, number=turn.number, takes=turn.takes))
    if turn.take.voice_name:
        parts.append(language(VOICE, name=turn.take.voice_name))
    if turn.take.instead_of:
        parts.append(language(VOICE_MISSING, name=turn.take.instead_of))
    return " \N{MIDDLE DOT} ".join(parts)
