"""The check of a bot: each trouble is named with what to do, and nothing is changed."""

import io
import os
import re
import shutil
import sqlite3
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import discord
import pytest
from pydantic import SecretStr
from rich.console import Console

from bot.config import Settings
from bot.hosting.check import Level, check, check_token
from bot.storage.lock import exclusive
from bot.storage.schema import migrations_path, newest_version
from noskgpt.checkpoint import Checkpoint, load
from tests.bot.storage.test_database import damage_table, open_and_close
from tests.wire.server import Discord
from tests.wire.state import BOT

Checked = Callable[..., tuple[int, str]]


@pytest.fixture
def checked(weights: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Checked:
    """Run the check with settings; return its exit code and the words that it prints."""

    def run(**settings: str) -> tuple[int, str]:
        files = {"BARD_WEIGHTS": str(weights), "BARD_CORPUS": str(corpus)}
        with monkeypatch.context() as patch:
            for name, value in {**files, **settings}.items():
                patch.setenv(name, value)
            output = io.StringIO()
            code = check(Console(file=output, width=500))
        return code, output.getvalue()

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database of the bot whose working directory is the folder of the test."""
    path = tmp_path / "var" / "bard.sqlite3"
    open_and_close(path)
    return path


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def test_sound_bot_has_no_trouble(checked: Checked, path: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    code, text = checked()
    assert code == 0
    assert f"version {newest_version()}, sound" in text
    assert "a reply of 100 characters" in text
    assert "by no bot" in text
    assert "\ntrouble" not in text
    assert contents(tmp_path) == before
    assert path.exists()


def test_check_before_the_first_start_makes_nothing(checked: Checked, tmp_path: Path) -> None:
    code, text = checked()
    assert code == 0
    assert "does not exist yet" in text
    assert not list(tmp_path.iterdir())


def test_pending_migration_is_named_and_not_run(checked: Checked, tmp_path: Path) -> None:
    older = tmp_path / "older"
    older.mkdir()
    for script in sorted(migrations_path().glob("*.sql"))[:-1]:
        shutil.copy(script, older)
    open_and_close(tmp_path / "var" / "bard.sqlite3", older)
    before = contents(tmp_path)
    code, text = checked()
    assert code == 0
    newest = newest_version()
    assert f"a migration from version {newest - 1} to {newest} is pending" in text
    assert contents(tmp_path) == before


def test_running_bot_is_named_and_its_lock_left_alone(
    checked: Checked, path: Path, tmp_path: Path
) -> None:
    with exclusive(path, tmp_path / "var" / "runs"):
        code, text = checked()
    assert code == 0
    assert "by a running bot" in text


def test_setting_that_is_not_allowed_is_a_trouble(checked: Checked) -> None:
    code, text = checked(BARD_MAX_CHARS="5000")
    assert code == 1
    assert "BARD_MAX_CHARS is '5000'; allowed: a whole number from 1 to 4000" in text


def test_misspelt_setting_is_named(checked: Checked, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BARD_COOLDWN=7\nOTHER=1\n")
    code, text = checked(BARD_DATABSE="x")
    assert code == 0
    assert "without effect: BARD_COOLDWN, BARD_DATABSE" in text


@pytest.mark.parametrize("header", [True, False])
def test_damaged_database_is_a_trouble_with_a_way_out(
    checked: Checked,
    path: Path,
    header: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    if header:
        path.write_bytes(b"no database" * 1000)
    else:
        damage_table(path)
    code, text = checked()
    assert code == 1
    assert str(path) in text or "var/bard.sqlite3" in text
    assert "damaged" in text or "not a database" in text
    assert "restore FILE`" in text
    assert "a reply of 100 characters" in text


def test_database_of_another_program_or_version_is_a_trouble(checked: Checked, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    code, text = checked()
    assert code == 1
    assert "newer than this bot's" in text
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 1")
    code, text = checked()
    assert code == 1
    assert "belongs to another program" in text


def test_missing_weights_and_corpus_are_troubles(checked: Checked) -> None:
    code, text = checked(BARD_WEIGHTS="none.pth", BARD_CORPUS="none.txt")
    assert code == 1
    assert "Correct BARD_WEIGHTS" in text
    assert "Correct BARD_CORPUS" in text


INSERT_RUN = (
    "INSERT INTO runs (id, user_id, channel_id, preset, minutes, started_at, state, weights)"
    " VALUES (?, 1, 2, 'quick', 1, 0, 'finished', ?)"
)
INSERT_VOICE = (
    "INSERT INTO voices (name, key, run_id, promoted_at, removed_at) VALUES (?, ?, ?, 0, ?)"
)


def test_missing_weights_of_the_promoted_run_are_a_trouble(checked: Checked, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(INSERT_RUN, (4, None))
        connection.execute("INSERT INTO promotions (run_id, user_id, promoted_at) VALUES (4, 1, 0)")
    code, text = checked()
    assert code == 1
    assert "weights of run 4" in text
    assert "promote another run" in text


def test_voices_whose_weights_are_missing_damaged_or_others_are_troubles(
    checked: Checked, path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"noskgpt-{load(weights).fingerprint()}"
    files = {"sound": weights.read_bytes(), "damaged": weights.read_bytes()[:-1000], "lost": None}
    voices = {**files, "changed": weights.read_bytes(), "removed": None}
    with closing(sqlite3.connect(path)) as connection, connection:
        for run, (voice, data) in enumerate(voices.items(), start=1):
            stored = name if voice != "changed" else "noskgpt-00000000"
            connection.execute(INSERT_RUN, (run, stored))
            removed_at = 1.0 if voice == "removed" else None
            connection.execute(INSERT_VOICE, (voice, voice, run, removed_at))
            if data is not None:
                file = path.parent / "runs" / str(run) / "weights.pth"
                file.parent.mkdir(parents=True)
                file.write_bytes(data)
    arrays: list[weakref.ref[Any]] = []

    def load_alone(file: Path) -> Checkpoint:
        assert all(array() is None for array in arrays)  # one at a time is in memory
        checkpoint = load(file)
        if "runs" in file.parts:
            arrays.extend(weakref.ref(array) for array in checkpoint.weights.values())
        return checkpoint

    monkeypatch.setattr("bot.hosting.check.checkpoints.load", load_alone)
    code, text = checked()
    assert code == 1
    troubles = [line.split()[2] for line in text.splitlines() if re.match(r"trouble +voice ", line)]
    assert sorted(troubles) == ["changed", "damaged", "lost"]
    assert re.search(r"ok +voices +the weights of 1 can be loaded", text)
    for run, voice in ((2, "damaged"), (3, "lost"), (4, "changed")):
        assert re.search(rf"voice {voice}: .* run {run} back, .*/train promote as:{voice}", text)


def test_disk_that_is_nearly_full_is_a_trouble(
    checked: Checked, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))
    code, text = checked()
    assert path.exists()
    assert code == 1
    assert "0.0 GB free" in text
    assert "MB on its disk" in text


def test_folder_that_cannot_be_written_is_a_trouble(
    checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()  # even root cannot write below a file
    code, text = checked(BARD_RUNS_DIR="file/runs")
    assert code == 1
    assert "set BARD_RUNS_DIR to another path" in text
    access = os.access
    locked = tmp_path / "var"
    locked.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != locked and access(path, mode))
    code, text = checked()
    assert code == 1
    assert f"this user cannot write {locked}" in text
    assert "set BARD_DATABASE to another path" in text


@pytest.mark.parametrize("token", ["right", "wrong-sekrit", "sekrit\n\x01\u00fc"])
async def test_token_is_checked_with_one_request_and_not_printed(
    token: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Discord().running() as server:
        monkeypatch.setattr(discord.http.Route, "BASE", server.base)
        with caplog.at_level("DEBUG"):
            finding = await check_token(Settings(token=SecretStr(token)))
        accepted = token == server.token
        assert not server.gateway.identified
    assert "sekrit" not in f"{finding}{caplog.text}"
    assert finding.level is (Level.OK if accepted else Level.TROUBLE)
    assert (f"that of {BOT['username']}" in finding.result) is accepted
    assert bool(finding.advice) is not accepted


async def test_discord_that_cannot_be_reached_is_a_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discord.http.Route, "BASE", "http://127.0.0.1:9/api/v10")
    monkeypatch.setattr("asyncio.sleep", _no_sleep)
    finding = await check_token(Settings(token=SecretStr("sekrit")))
    assert "cannot reach Discord" in finding.result
    assert "network" in finding.advice
    assert "sekrit" not in f"{finding}"


async def _no_sleep(_seconds: float) -> None:
    """Let the library's pauses between attempts be over at once."""
