"""Collect the texts of the bot, and bring the catalogues of its languages up to date.

`python -m locales` writes `bot.pot` with all texts, adds and removes texts in each `.po` file, and
compiles it. With the names of new languages, it begins a catalogue for each.
"""

import ast
import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import discord
from babel.messages.catalog import Catalog
from babel.messages.catalog import Message as CatalogMessage
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from discord import app_commands

from bot.cogs import COGS
from bot.cogs.bard import ask_commands
from bot.ui.localisation import kind_of

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
SOURCES = ("languages.py", "cogs/*.py", "ui/*.py")
"""In `bot/`, the modules with texts."""
LINE_CHARS = 100
DATE = datetime(2026, 11, 27, tzinfo=UTC)
"""In each file, so that it changes only when a text does."""
HEADER = "# The texts of noskgpt-bard in the language {tag}."


Declared = app_commands.Command[Any, ..., Any] | app_commands.Group | app_commands.ContextMenu


class Message(NamedTuple):
    """A text to be translated."""

    text: str | tuple[str, str]
    """Two for a text with a plural."""
    kind: str
    place: str
    """The file, or the command."""


def collect() -> list[Message]:
    """Return every text of the bot: those marked in the sources, and those of its commands."""
    paths = [path for pattern in SOURCES for path in sorted((ROOT / "bot").glob(pattern))]
    found = [message for path in paths for message in marked(path)]
    return found + asyncio.run(command_texts())


def marked(path: Path) -> Iterator[Message]:
    """Yield the texts of a module that are marked with `Text` or `Plural`."""
    place = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            match node.func.id:
                case "Text":
                    text, kind = [*map(ast.literal_eval, node.args), ""][:2]
                    yield Message(text, kind, place)
                case "Plural":
                    one, many = map(ast.literal_eval, node.args)
                    yield Message((one, many), "", place)


class _Collector(app_commands.Translator):
    """Note each text of a command instead of translating it."""

    def __init__(self) -> None:
        self.found: dict[Message, None] = {}
        self.command = ""

    async def translate(
        self,
        string: app_commands.locale_str,
        locale: discord.Locale,  # noqa: ARG002 - the library's
        context: app_commands.TranslationContextTypes,
    ) -> None:
        """Note a text; the library asks for it once for each locale."""
        kind = kind_of(context)
        assert kind is not None, context.location  # noqa: S101 - of a command
        self.found[Message(string.message, kind, self.command)] = None


def declared_commands() -> list[Declared]:
    """Return the commands of the bot's cogs, without those in groups."""
    of_cogs = [command for cog in COGS for command in cog.__cog_app_commands__]
    return [
        *ask_commands(max_chars=1),
        *(command for command in of_cogs if command.parent is None),
    ]


async def command_texts() -> list[Message]:
    """Return the texts of the bot's commands."""
    collector = _Collector()
    tree = app_commands.CommandTree(discord.Client(intents=discord.Intents.none()))
    for command in declared_commands():
        collector.command = command.qualified_name
        await command.get_translated_payload(tree, collector)
    return list(collector.found)


def template() -> Catalog:
    """Return the catalogue of all texts, without translations."""
    header = "# The texts of noskgpt-bard. `make catalogues` writes this file."
    catalog = Catalog(header_comment=header, fuzzy=False)
    for message in collect():
        catalog.add(message.text, locations=[(message.place, 1)], context=message.kind or None)
    return catalog


def read(path: Path) -> Catalog:
    """Return a catalogue with the translations of a language."""
    with path.open("rb") as file:
        return read_po(file, locale=path.stem.replace("-", "_"))


def update(catalog: Catalog, texts: Catalog) -> None:
    """Add the texts that a catalogue lacks, and remove those that the bot no longer has."""
    catalog.update(texts, no_fuzzy_matching=True)
    catalog.obsolete.clear()
    catalog.fuzzy = False


def set_head(catalog: Catalog) -> None:
    """Leave nothing in the head that changes from one run to the next, or says nothing."""
    catalog.project, catalog.version = "noskgpt-bard", ""
    catalog.msgid_bugs_address = catalog.last_translator = catalog.language_team = ""
    catalog.creation_date = catalog.revision_date = DATE


def compiled(catalog: Catalog) -> bytes:
    """Return a catalogue as a program reads it."""
    set_head(catalog)
    file = BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


def write(path: Path, catalog: Catalog) -> None:
    """Write a catalogue as its translators read it."""
    set_head(catalog)
    with path.open("wb") as file:
        write_po(file, catalog, width=LINE_CHARS, include_lineno=False)


def main(*new: str) -> None:
    """Bring all files up to date, and begin a catalogue for each new language."""
    texts = template()
    write(FOLDER / "bot.pot", texts)
    for tag in new:
        catalog = Catalog(locale=tag.replace("-", "_"), header_comment=HEADER.format(tag=tag))
        write(FOLDER / f"{tag}.po", catalog)
    for path in sorted(FOLDER.glob("*.po")):
        catalog = read(path)
        update(catalog, texts)
        write(path, catalog)
        path.with_suffix(".mo").write_bytes(compiled(catalog))
        missing = sum(1 for message in catalog if message.id and not has_translation(message))
        print(f"{path.name}: {len(catalog)} texts, {missing} without a translation")


def has_translation(message: CatalogMessage) -> bool:
    """Return whether a text is translated, with all forms of its plural."""
    forms = message.string if isinstance(message.string, tuple | list) else (message.string,)
    return all(forms)


if __name__ == "__main__":
    main(*sys.argv[1:])
