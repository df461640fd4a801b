"""The catalogues are complete, and their texts fit where Discord shows them."""

import gettext
import re
import string
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import discord
import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po
from discord import app_commands

import bot.languages
from bot.languages import LIMITS, NUMBER, Text, language, languages
from bot.storage.voices import DEFAULT_NAME
from bot.ui.localisation import CommandTranslator
from bot.ui.permissions import NAMES
from locales import __main__ as program
from tests.wire import rules

FOLDER = Path(program.__file__).parent
TAGS = sorted(path.stem for path in FOLDER.glob("*.po"))
CONTENT_LIMIT = 2000
FILLED = {
    "person": 80,
    "part": 32,
    "name": 32,
    "lines": 1000,
    "samples": 1000,
    "roles": 600,
    "channels": 600,
    "chosen": 700,
    "places": 300,
    "prompt": 60,
    "problem": 500,
    "server": 100,
    "text": 300,
    "plan": 300,
}
"""Length of the values of placeholders; others have ten characters."""

Key = tuple[str | None, str | tuple[str, ...]]


def key_of(message: Message) -> Key:
    text = message.id
    return message.context, tuple(text) if isinstance(text, tuple | list) else text or ""


def messages(catalog: Catalog) -> dict[Key, Message]:
    """Return the texts of a catalogue without its head."""
    return {key_of(message): message for message in catalog if message.id}


def forms(message: Message) -> list[tuple[str, str]]:
    """Return each English form of a text with its translation."""
    if isinstance(message.id, str):
        assert isinstance(message.string, str)
        return [(message.id, message.string)]
    # A language has the forms that it has; each stands for the English one with a number.
    return [(message.id[-1], form) for form in message.string or ()]


def translations(tag: str) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the English form and the translation of each text of a language."""
    for message in messages(program.read(FOLDER / f"{tag}.po")).values():
        for english, translation in forms(message):
            yield message.context or "", english, translation


def placeholders(text: str) -> set[tuple[str, str]]:
    parsed = string.Formatter().parse(text)
    return {(name, spec or "") for _text, name, spec, _conversion in parsed if name is not None}


def filled(text: str) -> str:
    """Return a text with long values for its placeholders."""
    shown = ""
    for before, name, spec, _conversion in string.Formatter().parse(text):
        shown += before
        if name is not None:
            shown += "M" * (10 if spec else FILLED.get(name, 10))
    return shown


def test_languages_of_the_bot_have_catalogues() -> None:
    assert languages() == set(TAGS) >= {"de", "es", "fr", "pt-BR"}
    for locale in discord.Locale:
        tags = (locale.value, locale.value.partition("-")[0])
        assert language(locale.value).tag == next((tag for tag in tags if tag in TAGS), "en")
    assert language("es-419") is language("es-ES")
    assert language(None).tag == language("tlh").tag == language("../de").tag == "en"


def test_template_has_the_texts_of_the_bot() -> None:
    texts = messages(program.template())
    assert len(texts) > 400
    with (FOLDER / "bot.pot").open("rb") as file:
        assert messages(read_po(file)).keys() == texts.keys(), "run `make catalogues`"


@pytest.mark.parametrize("tag", TAGS)
def test_catalogue_is_complete_and_compiled(tag: str) -> None:
    catalog = program.read(FOLDER / f"{tag}.po")
    found = messages(catalog)
    assert found.keys() == messages(program.template()).keys(), "run `make catalogues`"
    assert [key for key, message in found.items() if not program.has_translation(message)] == []
    assert [key for key, message in found.items() if message.fuzzy] == []
    assert not catalog.obsolete
    assert contents((FOLDER / f"{tag}.mo").read_bytes()) == contents(program.compiled(catalog))


def contents(compiled: bytes) -> dict[Any, str]:
    translations = gettext.GNUTranslations(BytesIO(compiled))
    texts: dict[Any, str] = {**translations._catalog}  # type: ignore[attr-defined]
    return {key: text for key, text in texts.items() if key != ""}


@pytest.mark.parametrize("tag", TAGS)
def test_placeholders_and_markup_are_intact(tag: str) -> None:
    for _kind, english, translation in translations(tag):
        assert placeholders(translation) == placeholders(english), translation
        for markup in (r"<[^<> ]*>", r"\*\*", r"\n", r"`"):
            expected = Counter(re.findall(markup, english))
            assert Counter(re.findall(markup, translation)) == expected, translation


@pytest.mark.parametrize("tag", TAGS)
def test_lengths_are_within_the_limits(tag: str) -> None:
    for kind, english, translation in translations(tag):
        limit = LIMITS[kind] if kind else CONTENT_LIMIT
        assert 1 <= len(filled(translation)) <= limit, translation
        assert len(filled(english)) <= limit, english
        assert translation == translation.strip(), translation


def test_french_has_no_break_spaces_at_marks() -> None:
    found = Counter[bool]()
    for kind, _english, translation in translations("fr"):
        # The bot compares the texts of commands with those that Discord returns: plain spaces.
        registered = kind in {"command", "option", "description", "choice", "menu"}
        for before, after in re.findall(r"(?:(\s)[:;!?»])|(?:«(\s))", translation):
            assert (before or after) == (" " if registered else "\N{NO-BREAK SPACE}"), translation
            found[registered] += 1
    assert found[True] > 10
    assert found[False] > 100


@pytest.mark.parametrize("tag", TAGS)
def test_number_shows_the_separators_and_the_percent_sign(tag: str) -> None:
    assert re.fullmatch(r"1\W234\W5[\u00a0\u202f]?%", language(tag)(NUMBER))


async def payloads() -> list[dict[str, Any]]:
    """Return the commands as the bot registers them."""
    tree = app_commands.CommandTree(discord.Client(intents=discord.Intents.none()))
    translator = CommandTranslator()
    declared = program.declared_commands()
    return [await command.get_translated_payload(tree, translator) for command in declared]


async def test_discord_accepts_the_translated_commands() -> None:
    commands = await payloads()
    assert list(rules.commands(commands)) == []
    assert {"de", "fr", "es-ES", "es-419", "pt-BR"} <= set(commands[0]["name_localizations"])


def paths(command: dict[str, Any], locale: str | None, before: str = "") -> Iterator[str]:
    """Yield a command and its subcommands as people type them."""
    name = (command.get("name_localizations") or {}).get(locale, command["name"])
    yield (path := f"{before}{name}")
    for option in command.get("options") or ():
        if option["type"] in {1, 2}:
            yield from paths(option, locale, f"{path} ")


@pytest.mark.parametrize("tag", TAGS)
async def test_texts_name_commands_as_people_find_them(tag: str) -> None:
    commands = [command for command in await payloads() if command.get("type", 1) == 1]
    locale = next(one.value for one in discord.Locale if language(one.value).tag == tag)
    english = [path for command in commands for path in paths(command, None)]
    names = dict(
        zip(english, [p for command in commands for p in paths(command, locale)], strict=True)
    )
    assert len(set(names.values())) == len(names)
    named = 0
    for _kind, text, translation in translations(tag):
        expected = Counter(names[path] for path in re.findall(r"`/([^`]+)`", text))
        assert Counter(re.findall(r"`/([^`]+)`", translation)) == expected, translation
        named += expected.total()
        # Descriptions name them without formatting.
        for path, translated in names.items():
            if " " in path and re.search(rf"(?<!`)/{path}\b", text):
                assert f"/{translated}" in translation, translation
                named += 1
    assert named > 60


@pytest.mark.parametrize("tag", TAGS)
def test_texts_name_options_choices_and_buttons_as_people_find_them(tag: str) -> None:
    shown = language(tag)
    named = 0

    def name(text: str, *kinds: str) -> str:
        found = [shown.find(text, kind) for kind in kinds]
        return next((text_found for text_found in found if text_found), text)

    for _kind, text, translation in translations(tag):
        quoted = [
            word
            for word in re.findall(r"`([^`]+)`", text)
            if not word.startswith("/") and word != DEFAULT_NAME
        ]
        for word in quoted:
            assert f"`{name(word, 'option', 'choice')}`" in translation, translation
        stressed = re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", text)
        for words in stressed:
            assert f"*{name(words, 'button', 'choice')}*" in translation, translation
        for permission in NAMES.values():
            if permission in text and text not in NAMES.values():
                assert shown(permission) in translation, translation
        named += len(quoted) + len(stressed)
    assert named > 20


def test_kinds_are_known() -> None:
    kinds = {message.kind for message in program.collect()}
    assert kinds - {""} == LIMITS.keys()


def test_text_without_a_translation_is_shown_in_english() -> None:
    assert language("de")(Text("No catalogue has this {thing}."), thing="text") == (
        "No catalogue has this text."
    )


def test_numbers_have_the_separators_of_the_language() -> None:
    text = Text("No catalogue has {count:,} or {loss:.3f}, {part:.1%}, {name} and {time}.")
    values = {"count": 12345, "loss": 1.5, "part": 0.455, "name": "1,5.0%", "time": "20:30"}
    assert language(None)(text, **values) == (
        "No catalogue has 12,345 or 1.500, 45.5%, 1,5.0% and 20:30."
    )
    assert language("de")(text, **values) == (
        "No catalogue has 12.345 or 1,500, 45,5\N{NO-BREAK SPACE}%, 1,5.0% and 20:30."
    )


def test_locales_of_people_are_kept_for_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bot.languages, "_PEOPLE_KEPT", 2)
    locales = bot.languages.KnownLocales()
    for person, locale in ((1, "de"), (2, "fr"), (1, "pt-BR"), (3, "ja")):
        locales.note(person, locale)
    assert [locales.of(person) for person in (1, 2, 3)] == ["pt-BR", None, "ja"]


def test_catalogue_that_cannot_be_read_leaves_english(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = bot.languages
    (tmp_path / "xx.mo").write_bytes(b"damaged")
    monkeypatch.setattr(module, "locales_path", lambda: tmp_path)
    assert module._read("xx") is module.ENGLISH
    module._read.cache_clear()
    assert "The catalogue of the language xx cannot be read" in caplog.text
