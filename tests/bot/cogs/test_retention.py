"""What is removed by itself, and that its words leave the file."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from bot import Settings
from tests.bot.conftest import Stage, counted

DAY = 86_400


def rows(settings: Settings) -> list[tuple[int, str | None]]:
    with closing(sqlite3.connect(settings.database_path)) as connection:
        return connection.execute("SELECT guild_id, prompt FROM turns ORDER BY id").fetchall()


def date_back(settings: Settings, prompt: str, days: float) -> None:
    """Make a turn so many days old."""
    with closing(sqlite3.connect(settings.database_path)) as connection, connection:
        changed = connection.execute(
            "UPDATE turns SET created_at = ? WHERE prompt = ?", (time.time() - days * DAY, prompt)
        )
        assert changed.rowcount


def in_files(database: Path, words: str) -> bool:
    """Return whether words stand anywhere in the database or its write-ahead log."""
    return any(words.encode() in path.read_bytes() for path in database.parent.glob("*.sqlite3*"))


async def test_leaving_a_server_removes_all_of_it_and_nothing_else(
    stage: Stage, settings: Settings
) -> None:
    rose = stage.env.create_guild("The Rose")
    dan = rose.add_member(stage.env.create_user("dan"))
    yard = rose.create_text_channel("yard")
    await stage.bard.guild_settings.change(rose.id, max_chars=50)
    await dan.slash(yard, "bard", prompt="Doomed words", max_chars=20)
    (doomed,) = await stage.bard.turns.tail(yard.id, 1, chars=1)
    await stage.ann.slash(stage.garden, "bard", prompt="Kept words", max_chars=20)
    await stage.ann.user.slash("bard", prompt="Private words", max_chars=20)
    assert in_files(settings.database_path, "Doomed words")
    assert in_files(settings.database_path, doomed.reply)

    left = stage.env.bot.get_guild(rose.id)
    assert left is not None
    await left.leave()
    await stage.env.settle()
    assert rows(settings) == [(stage.guild.id, "Kept words"), (None, "Private words")]
    assert stage.bard.guild_settings.rules(rose.id).max_chars == 4000
    assert not in_files(settings.database_path, "Doomed words")
    assert not in_files(settings.database_path, doomed.reply)
    assert in_files(settings.database_path, "Kept words")
    await stage.restart()
    assert stage.bard.guild_settings.rules(rose.id).max_chars == 4000


async def test_an_outage_removes_nothing(stage: Stage, settings: Settings) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="Kept words", max_chars=20)
    stage.env.backend.emit("GUILD_DELETE", {"id": str(stage.guild.id), "unavailable": True})
    await stage.env.settle()
    guild = stage.env.bot.get_guild(stage.guild.id)
    assert guild is not None
    assert guild.unavailable
    assert rows(settings) == [(stage.guild.id, "Kept words")]


async def test_words_of_a_deleted_reply_leave_the_file(stage: Stage, settings: Settings) -> None:
    reply = await stage.ann.slash(stage.garden, "bard", prompt="Doomed words", max_chars=20)
    assert in_files(settings.database_path, "Doomed words")
    assert reply.response is not None
    await stage.ann.delete(reply.response)
    assert not in_files(settings.database_path, "Doomed words")


@pytest.mark.settings(retention_days=30)
async def test_old_turns_go_at_the_start_and_daily(stage: Stage, settings: Settings) -> None:
    for prompt in ("First", "Second", "Third"):
        await stage.ann.slash(stage.garden, "bard", prompt=f"{prompt} words", max_chars=20)
    date_back(settings, "First words", 31)
    date_back(settings, "Second words", 29)
    await stage.restart()
    assert [prompt for _, prompt in rows(settings)] == ["Second words", "Third words"]
    assert not in_files(settings.database_path, "First words")

    date_back(settings, "Second words", 31)
    await stage.env.advance_time(DAY - 60)
    assert len(rows(settings)) == 2
    await stage.env.advance_time(120)
    assert [prompt for _, prompt in rows(settings)] == ["Third words"]
    # The scene goes on from what is left.
    await stage.ann.slash(stage.garden, "bard", prompt="Fourth", max_chars=20)
    assert stage.contexts[-1].startswith("Third words")


async def test_without_the_setting_turns_are_kept(stage: Stage, settings: Settings) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="Old words", max_chars=20)
    date_back(settings, "Old words", 36_500)
    await stage.restart()
    await stage.env.advance_time(2 * DAY)
    assert len(rows(settings)) == 1


@pytest.mark.settings(retention_days=30)
async def test_a_failing_database_does_not_end_the_daily_work(
    stage: Stage, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="Old words", max_chars=20)
    date_back(settings, "Old words", 31)
    with closing(sqlite3.connect(settings.database_path)) as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE DELETE ON turns "
            "BEGIN SELECT raise(ABORT, 'not today'); END"
        )
        await stage.env.advance_time(DAY + 60)
        assert "not today" in caplog.text
        connection.execute("DROP TRIGGER refuse")
    await stage.env.advance_time(DAY)
    assert rows(settings) == []
    again = await stage.ann.slash(stage.garden, "bard", prompt="New words", max_chars=9)
    assert 0 < counted(again) <= 9
