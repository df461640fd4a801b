"""Check everything that the bot needs, and say what to do; change nothing."""

import asyncio
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import discord
from dotenv import dotenv_values
from rich.console import Console
from rich.table import Table
from rich.text import Text

import noskgpt
from noskgpt import checkpoint as checkpoints
from noskgpt.corpus import load_corpus

from ..config import Settings, load_standalone_settings
from ..core.promotions import weights_path
from ..errors import StartupError
from ..storage.backup import cause, find_damage, newest_backup, read, restoring, way_out
from ..storage.lock import is_held
from ..storage.schema import RUNS_SINCE, VOICES_SINCE, Header, newest_version, read_header
from ..storage.voices import MAX_VOICES
from ..ui.interactions import NETWORK_ERRORS, brief

ENV_FILE = Path(".env")
SPARE_BYTES = 100_000_000
"""Free space that the bot needs besides a second copy of its database."""
DISCORD_SECONDS = 30.0
"""Time after which the request to Discord ends."""


class Level(Enum):
    """How a check ended. The value is the word in the table, with its style."""

    OK = ("ok", "green")
    NOTE = ("note", "yellow")
    TROUBLE = ("trouble", "bold red")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    subject: str
    level: Level
    result: str
    advice: str = ""
    """What to do; empty if nothing has to be done."""


def check(console: Console) -> int:
    """Check the bot that the environment and `.env` describe, and print a table.

    Works beside a running bot: files are only read, no lock is taken and no migration run. Discord
    gets one request if there is a token.

    Returns:
        The exit code: 0 without trouble, else 1.
    """
    with console.status("Checking"):
        findings = list(_check_all())
    _print(console, findings)
    return int(any(finding.level is Level.TROUBLE for finding in findings))


def _check_all() -> Iterator[Finding]:
    try:
        settings = load_standalone_settings()
    except StartupError as error:
        yield Finding(
            "settings",
            Level.TROUBLE,
            str(error),
            "Correct it in .env or the environment, and check again.",
        )
        return
    yield check_settings()
    yield from check_database(settings)
    yield from check_folders(settings)
    yield check_corpus(settings)
    yield from check_weights(settings)
    yield from check_voices(settings)
    yield asyncio.run(check_token(settings))


def _print(console: Console, findings: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False)
    for name, wrapped in (("", False), ("Check", False), ("Result", True)):
        table.add_column(name, overflow="fold", no_wrap=not wrapped)
    for finding in findings:
        table.add_row(Text(*finding.level.value), Text(finding.subject), Text(finding.result))
    console.print(table)
    for finding in findings:
        if finding.advice:  # on one line, so that a command in it can be copied
            console.print()
            console.print(Text(f"{finding.subject}: {finding.advice}"), soft_wrap=True)


def check_settings() -> Finding:
    """Look for variables that look like settings and are none."""
    known = {"DISCORD_TOKEN", *(f"BARD_{name.upper()}" for name in Settings.model_fields)}
    given = {name.upper() for name in (*os.environ, *dotenv_values(ENV_FILE))}
    unknown = sorted(name for name in given - known if name.startswith("BARD_"))
    if unknown:
        return Finding(
            "settings",
            Level.NOTE,
            f"not a setting, so without effect: {', '.join(unknown)}",
            "Compare the names with .env.example.",
        )
    source = ".env and the environment" if ENV_FILE.exists() else "the environment; no .env here"
    return Finding("settings", Level.OK, f"read from {source}")


def check_database(settings: Settings) -> Iterator[Finding]:
    """Look at every page of the database, and whether a bot uses it."""
    path = settings.database_path
    if not path.exists():
        yield Finding("database", Level.OK, f"{path} does not exist yet; the first start makes it")
        return
    try:
        header, damage = read(
            path, lambda connection: (read_header(connection), _damage(connection))
        )
    except (OSError, sqlite3.Error) as error:
        advice = f"{way_out(path)}, or set BARD_DATABASE to another path."
        yield Finding("database", Level.TROUBLE, f"cannot read {path}: {cause(error)}", advice)
        return
    yield _judge(path, header, damage)
    if (held := is_held(path)) is not None:
        yield Finding("in use", Level.OK, "by a running bot" if held else "by no bot")


def _damage(connection: sqlite3.Connection) -> str:
    return find_damage(connection) if read_header(connection).ours else ""


def _judge(path: Path, header: Header, damage: str) -> Finding:
    newest = newest_version()
    if not (header.empty or header.ours):
        return Finding(
            "database",
            Level.TROUBLE,
            f"{path} belongs to another program",
            "Set BARD_DATABASE to another path.",
        )
    if header.version > newest:
        backup = newest_backup(path, newest)
        restore = f", or restore the backup from before the update: {restoring(backup)}"
        return Finding(
            "database",
            Level.TROUBLE,
            f"{path} has version {header.version}, newer than this bot's {newest}",
            f"Install a newer version of the bot{restore if backup else ''}.",
        )
    if damage:
        return Finding(
            "database", Level.TROUBLE, f"{path} is damaged: {damage}", f"{way_out(path)}."
        )
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    if header.version < newest:
        pending = f"a migration from version {header.version} to {newest} is pending"
        return Finding(
            "database", Level.NOTE, f"{path}, {size}, sound; {pending}: the next start runs it"
        )
    return Finding("database", Level.OK, f"{path}, {size}, version {newest}, sound")


def check_folders(settings: Settings) -> Iterator[Finding]:
    """Look whether the bot may write its files, and whether there is space for them."""
    for subject, variable, folder in (
        ("folder of the database", "BARD_DATABASE", settings.database_path.absolute().parent),
        ("folder of runs", "BARD_RUNS_DIR", settings.runs_path.absolute()),
    ):
        yield _check_folder(subject, variable, folder, settings.database_path)


def _check_folder(subject: str, variable: str, folder: Path, database: Path) -> Finding:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    usable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    mine = [path for path in (database, *existing.glob(f"{database.name}-*")) if path.exists()]
    locked = [path for path in mine if not os.access(path, os.R_OK | os.W_OK)]
    if not usable or locked:
        return Finding(
            subject,
            Level.TROUBLE,
            f"this user cannot write {(locked or [existing])[0]}",
            "Run the check as the user of the bot. If it is: let that user write there "
            f"(chown), or set {variable} to another path.",
        )
    size = database.stat().st_size if database.exists() else 0
    free = shutil.disk_usage(existing).free
    space = f"{free / 1e9:.1f} GB free"
    if free < size + SPARE_BYTES:
        return Finding(
            subject,
            Level.TROUBLE,
            f"{folder}: {space}",
            f"Free {(size + SPARE_BYTES - free) / 1e6:.0f} MB on its disk: a copy of the database "
            f"is made before a migration. Or set {variable} to another path.",
        )
    new = "" if folder.exists() else ", made at the first start"
    return Finding(subject, Level.OK, f"{folder}{new}, can be written, {space}")


def check_corpus(settings: Settings) -> Finding:
    """Read the text whose speakers are suggested."""
    try:
        load_corpus(settings.corpus)
    except (noskgpt.NoskGPTError, OSError) as error:
        return Finding(
            "corpus", Level.TROUBLE, str(error), "Correct BARD_CORPUS, or reinstall the bot."
        )
    return Finding("corpus", Level.OK, str(settings.corpus or "the bundled plays"))


def check_weights(settings: Settings) -> Iterator[Finding]:
    """Load the weights, those of the promoted run as well, and generate a reply with each."""
    advice = "Correct BARD_WEIGHTS" if settings.weights else "Reinstall the bot"
    yield _reply("weights", settings.weights, f"{advice}, and check again.")
    if (run := _promoted_run(settings.database_path)) is not None:
        yield _reply(
            f"weights of run {run}",
            weights_path(settings.runs_path, run),
            "The bot uses the weights from before them: put the file back, or promote another run "
            "with /train.",
        )


def _reply(subject: str, path: Path | None, advice: str) -> Finding:
    try:
        model = noskgpt.load(path)
        model.generate("", 2, real_words=True, cast=True, echo=True)  # may compile
        start = time.perf_counter()
        text = model.generate("ROMEO:\n", 100, real_words=True, cast=True, echo=True)
    except (noskgpt.NoskGPTError, OSError) as error:
        return Finding(subject, Level.TROUBLE, str(error), advice)
    seconds = time.perf_counter() - start
    return Finding(
        subject, Level.OK, f"{model.name}: a reply of {len(text)} characters in {seconds:.2f} s"
    )


def _promoted_run(database: Path) -> int | None:
    """Return the run whose weights are active; None for the configured ones."""
    rows = _rows(
        database,
        RUNS_SINCE,
        "SELECT run_id FROM promotions WHERE withdrawn_at IS NULL ORDER BY id DESC LIMIT 1",
    )
    return int(rows[0][0]) if rows else None


def check_voices(settings: Settings) -> Iterator[Finding]:
    """Load the weights of each voice that speaks, one after the other."""
    voices = _rows(
        settings.database_path,
        VOICES_SINCE,
        "SELECT name, run_id, weights FROM voices JOIN runs ON runs.id = run_id"
        " WHERE removed_at IS NULL ORDER BY key LIMIT ?",
        MAX_VOICES,
    )
    sound = 0
    for name, run_id, weights in voices:
        problem = _problem(weights_path(settings.runs_path, run_id), weights)
        sound += not problem
        if problem:
            yield Finding(
                f"voice {name}",
                Level.TROUBLE,
                problem,
                f"Requests that choose this voice are rejected. Put the weights of run {run_id} "
                f"back, give the voice those of another run with /train promote as:{name}, or "
                "remove it with /train voices.",
            )
    if sound:
        yield Finding("voices", Level.OK, f"the weights of {sound} can be loaded")


def _problem(path: Path, weights: str | None) -> str:
    """Return why a voice cannot speak with the weights in a file; empty if it can.

    Args:
        path: The file.
        weights: The short name of the weights of the voice.
    """
    try:
        # Not as a model, for which PyTorch may be needed.
        found = f"noskgpt-{checkpoints.load(path).fingerprint()}"
    except (noskgpt.NoskGPTError, OSError) as error:
        return str(error)
    return "" if found == weights else f"{path} has other weights, {found}"


def _rows(database: Path, since: int, query: str, *values: int) -> list[Any]:
    """Return the rows of a query; none if the database is older than a version, or unreadable."""

    def find(connection: sqlite3.Connection) -> list[Any]:
        header = read_header(connection)
        known = header.ours and header.version >= since
        return connection.execute(query, values).fetchall() if known else []

    try:
        return read(database, find)
    except (OSError, sqlite3.Error):  # reported by the check of the database
        return []


async def check_token(settings: Settings) -> Finding:
    """Ask Discord whose token it is. The token itself is in no message."""
    if settings.token is None:
        return Finding(
            "token",
            Level.NOTE,
            "none: only the rehearsal can start",
            "Put DISCORD_TOKEN into .env.",
        )
    try:
        async with (
            asyncio.timeout(DISCORD_SECONDS),
            discord.Client(intents=discord.Intents.none()) as client,
        ):
            user = await client.http.static_login(settings.token.get_secret_value())
    except discord.LoginFailure:
        return Finding(
            "token",
            Level.TROUBLE,
            "Discord rejected it",
            "Copy it again from https://discord.com/developers/applications, Bot, Reset Token.",
        )
    except NETWORK_ERRORS as error:
        result = f"cannot reach Discord ({brief(error)})"
        return Finding("token", Level.TROUBLE, result, "Check this machine's network.")
    except (discord.HTTPException, AttributeError, KeyError, TypeError, ValueError) as error:
        shown = brief(error) if isinstance(error, discord.HTTPException) else "unreadable"
        return Finding(
            "token",
            Level.TROUBLE,
            f"not known, because of Discord's answer ({shown})",
            "Check again in a few minutes. If that does not help, is there a portal or a proxy "
            "between this machine and Discord?",
        )
    return Finding("token", Level.OK, f"that of {user['username']} ({user['id']})")
