"""Translate the texts that people see. Knows nothing of Discord.

`locales/` has a catalogue for each language beside English, in which the texts are written.
"""

import gettext
import logging
import string
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

log = logging.getLogger(__name__)

_PEOPLE_KEPT = 10_000
_LOCALES_KEPT = 64
"""More than Discord has; each keeps a reference to its language alone."""


class Text(str):
    """A text in English, marked for translation; a `Language` translates it where it is shown.

    Args:
        text: The text. Its placeholders are those of `str.format`.
        kind: Where it is shown, if that limits its length; `LIMITS` has the kinds. Texts of two
            kinds may have two translations.
    """

    __slots__ = ("kind",)

    kind: str

    def __new__(cls, text: str, kind: str = "") -> Self:
        """Return the text with its kind."""
        made = super().__new__(cls, text)
        made.kind = kind
        return made


@dataclass(frozen=True, slots=True)
class Plural:
    """A text in English for one, and for any other number; it has the placeholder `count`."""

    one: str
    many: str


LIMITS = {
    "button": 80,
    "title": 45,  # of a form
    "label": 45,  # of a field in a form
    "hint": 100,  # below that
    "placeholder": 150,  # in a list
    "entry": 100,  # of a list
    "author": 256,  # above an embed
    "heading": 256,  # of an embed or of a field in it
    "command": 32,
    "option": 32,
    "menu": 32,
    "description": 100,  # of a command or option
    "choice": 100,  # of an option
    "number": 9,  # how numbers are written
}
"""Most characters of the kinds of texts, as Discord limits them. Other texts have 2000."""

NUMBER = Text("1,234.5%", "number")
"""Its translation has the separators and the percent sign of the language, in the same places."""


class Language:
    """A language that texts are shown in.

    Attributes:
        tag: Its name, that of its catalogue.

    Args:
        tag: See the attribute.
        catalogue: Its texts; English ones for those that it lacks.
    """

    def __init__(self, tag: str, catalogue: gettext.NullTranslations) -> None:
        self.tag = tag
        self._catalogue = catalogue
        written = self(NUMBER)
        self._formatter = _Formatter(group=written[1], point=written[5], percent=written[7:])

    def __call__(self, text: Text, /, **values: object) -> str:
        """Return a text in this language, with values for its placeholders."""
        found = self.find(text, text.kind) or str(text)
        return self._formatter.vformat(found, (), values) if values else found

    def plural(self, text: Plural, count: int, /, **values: object) -> str:
        """Return the form of a text for a count, with values for its placeholders."""
        found = self._catalogue.ngettext(text.one, text.many, count)
        return self._formatter.vformat(found, (), {"count": count, **values})

    def find(self, text: str, kind: str) -> str | None:
        """Return the translation of a text of a kind; None if the catalogue does not have it."""
        texts = self._catalogue
        found = texts.pgettext(kind, text) if kind else texts.gettext(text)
        return None if found is text else found


class _Formatter(string.Formatter):
    """Fill placeholders, and write numbers that have a format as the language does."""

    def __init__(self, group: str, point: str, percent: str) -> None:
        self._signs = str.maketrans({",": group, ".": point, "%": percent})

    def format_field(self, value: object, format_spec: str) -> str:
        """Return a value in a format."""
        shown = format(value, format_spec)
        if format_spec and isinstance(value, int | float):
            return shown.translate(self._signs)
        return shown


ENGLISH = Language("en", gettext.NullTranslations())


class KnownLocales:
    """Remember the locales of people, which Discord tells with interactions, but not messages.

    They are kept in memory alone.
    """

    def __init__(self) -> None:
        self._locales: dict[int, str] = {}

    def note(self, person_id: int, locale: str) -> None:
        """Remember a person's locale; of too many, the one that was noted first is forgotten."""
        self._locales.pop(person_id, None)
        if len(self._locales) >= _PEOPLE_KEPT:
            del self._locales[next(iter(self._locales))]
        self._locales[person_id] = locale

    def of(self, person_id: int) -> str | None:
        """Return a person's locale; None if it is not known."""
        return self._locales.get(person_id)


def locales_path() -> Path:
    """Return the folder of the catalogues, in a checkout and in an installed wheel."""
    package = Path(__file__).resolve().parent
    in_wheel = package / "locales"
    return in_wheel if in_wheel.is_dir() else package.parent / "locales"


@lru_cache(maxsize=1)
def languages() -> frozenset[str]:
    """Return the names of the languages that have a catalogue."""
    return frozenset(path.stem for path in locales_path().glob("*.mo"))


@lru_cache(maxsize=_LOCALES_KEPT)
def language(locale: str | None) -> Language:
    """Return the language of one of Discord's locales; English if there is no catalogue for it.

    The first call for a language reads its catalogue, which takes about two milliseconds.
    """
    # `es-419` and `es-ES` share a catalogue, `pt-BR` has its own.
    for tag in (locale, locale.partition("-")[0]) if locale else ():
        if tag in languages():
            return _read(tag)
    return ENGLISH


@lru_cache(maxsize=_LOCALES_KEPT)
def _read(tag: str) -> Language:
    try:
        with (locales_path() / f"{tag}.mo").open("rb") as file:
            return Language(tag, gettext.GNUTranslations(file))
    except (OSError, ValueError, struct.error) as error:
        # A text in English is better than none.
        log.warning("The catalogue of the language %s cannot be read: %s", tag, error)
        return ENGLISH
