"""Automatic deletion: of old turns and of servers that the bot leaves, from the file too."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import discord
import pytest

from bot import Settings
from bot.cogs.retention import OWED_SECONDS, RetentionCog
from bot.storage import database
from bot.storage.records import Place, Take, TurnRequest
from tests.bot.conftest import Stage, content_of, message_of, reply_length

DAY, HOUR = 86_400, 3600


def rows(settings: Settings) -> list[tuple[int, str | None]]:
    with closing(sqlite3.connect(settings.database_path)) as connection:
        return connection.execute("SELECT guild_id, prompt FROM turns ORDER BY id").fetchall()


def date_back(settings: Settings, prompt: str, days: float) -> None:
    """Change the date of a turn to a number of days ago."""
    with closing(sqlite3.connect(settings.database_path)) as connection, connection:
        changed = connection.execute(
            "UPDATE turns SET created_at = ? WHERE prompt = ?", (time.time() - days * DAY, prompt)
        )
        assert changed.rowcount


def in_files(database: Path, text: str) -> bool:
    """Return whether the bytes of the database or its write-ahead log contain a text."""
    return any(text.encode() in path.read_bytes() for path in database.parent.glob("*.sqlite3*"))


async def pass_time(stage: Stage, seconds: float) -> None:
    """Advance the clock in steps, because SimCord limits the real time of each."""
    while seconds > 0:
        await stage.env.advance_time(min(seconds, HOUR))
        seconds -= HOUR


async def test_leaving_a_server_deletes_its_data_alone(stage: Stage, settings: Settings) -> None:
    rose = stage.env.create_guild("The Rose")
    dan = rose.add_member(stage.env.create_user("dan"))
    yard = rose.create_text_channel("yard")
    await stage.bard.guild_settings.change(rose.id, max_chars=50)
    await dan.slash(yard, "bard", prompt="Deleted words", max_chars=20)
    (deleted,) = await stage.turns(yard.id, 1)
    await stage.ann.slash(stage.garden, "bard", prompt="Kept words", max_chars=20)
    await stage.ann.user.slash("bard", prompt="Private words", max_chars=20)
    assert in_files(settings.database_path, "Deleted words")
    assert in_files(settings.database_path, deleted.reply)

    left = stage.env.bot.get_guild(rose.id)
    assert left is not None
    await left.leave()
    await stage.env.settle()
    assert rows(settings) == [(stage.guild.id, "Kept words"), (None, "Private words")]
    assert stage.bard.guild_settings.rules(rose.id).max_chars == 4000
    assert not in_files(settings.database_path, "Deleted words")
    assert not in_files(settings.database_path, deleted.reply)
    assert in_files(settings.database_path, "Kept words")
    await stage.restart()
    assert stage.bard.guild_settings.rules(rose.id).max_chars == 4000


async def test_outage_deletes_nothing(stage: Stage, settings: Settings) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="Kept words", max_chars=20)
    stage.env.backend.emit("GUILD_DELETE", {"id": str(stage.guild.id), "unavailable": True})
    await stage.env.settle()
    guild = stage.env.bot.get_guild(stage.guild.id)
    assert guild is not None
    assert guild.unavailable
    assert rows(settings) == [(stage.guild.id, "Kept words")]


async def test_deleted_reply_is_erased_from_the_file(stage: Stage, settings: Settings) -> None:
    reply = await stage.ann.slash(stage.garden, "bard", prompt="Deleted words", max_chars=20)
    assert in_files(settings.database_path, "Deleted words")
    assert reply.response is not None
    await stage.ann.delete(reply.response)
    assert not in_files(settings.database_path, "Deleted words")


@pytest.mark.settings(retention_days=30)
async def test_old_turns_are_deleted_at_startup_and_daily(stage: Stage, settings: Settings) -> None:
    for prompt in ("First", "Second", "Third"):
        await stage.ann.slash(stage.garden, "bard", prompt=f"{prompt} words", max_chars=20)
    date_back(settings, "First words", 31)
    date_back(settings, "Second words", 29)
    await stage.restart()
    assert [prompt for _, prompt in rows(settings)] == ["Second words", "Third words"]
    assert not in_files(settings.database_path, "First words")

    date_back(settings, "Second words", 31)
    await pass_time(stage, DAY - 60)
    assert len(rows(settings)) == 2
    await pass_time(stage, 120)
    assert [prompt for _, prompt in rows(settings)] == ["Third words"]
    # The scene continues from the remaining turns.
    await stage.ann.slash(stage.garden, "bard", prompt="Fourth", max_chars=20)
    assert stage.contexts[-1].startswith("Third words")


async def test_turn_that_is_not_known_to_be_shown_is_deleted_after_a_day(
    stage: Stage, settings: Settings
) -> None:
    place = Place(guild_id=stage.guild.id, channel_id=stage.garden.id)
    for prompt, days in (("Old words", 1.1), ("New words", 0.9)):
        await stage.bard.turns.add(
            TurnRequest(place=place, user_id=1, prompt=prompt),
            Take(reply="O.", seed=1, weights="w", seconds=1.0),
            scene=1,
            max_chars=9,
            temperature=1.0,
            message_id=None,
        )
        date_back(settings, prompt, days)
    await stage.restart()
    assert [prompt for _, prompt in rows(settings)] == ["New words"]


async def test_without_a_retention_turns_are_kept(stage: Stage, settings: Settings) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="Old words", max_chars=20)
    date_back(settings, "Old words", 36_500)
    await stage.restart()
    await pass_time(stage, 2 * DAY)
    assert len(rows(settings)) == 1


async def test_automatic_backups_are_deleted_after_30_days(
    stage: Stage, settings: Settings
) -> None:
    old, new = (Path(f"{settings.database_path}.before-{number:04}") for number in (7, 8))
    for age, file in ((31, old), (29, new)):
        file.touch()
        os.utime(file, (time.time() - age * DAY,) * 2)
    await pass_time(stage, DAY)
    assert not old.exists()
    assert new.exists()


@pytest.mark.settings(retention_days=30)
async def test_failed_deletion_is_retried_the_next_day(
    stage: Stage,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="Old words", max_chars=20)
    date_back(settings, "Old words", 31)
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.0)
    with closing(sqlite3.connect(settings.database_path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        await pass_time(stage, DAY + 60)
        assert "Could not delete old turns" in caplog.text
        connection.execute("ROLLBACK")
    await pass_time(stage, DAY)
    assert rows(settings) == []
    again = await stage.ann.slash(stage.garden, "bard", prompt="New words", max_chars=9)
    assert 0 < reply_length(again) <= 9


async def test_deleted_channel_takes_its_data_along(stage: Stage, settings: Settings) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="Kept words", max_chars=20)
    await stage.ann.slash(stage.tavern, "bard", prompt="Deleted words", max_chars=20)
    await stage.bard.guild_settings.change(
        stage.guild.id, channels=frozenset({stage.tavern.id, stage.garden.id})
    )
    tavern = stage.env.bot.get_channel(stage.tavern.id)
    assert isinstance(tavern, discord.TextChannel)
    thread = await tavern.create_thread(name="corner", type=discord.ChannelType.public_thread)
    await stage.env.settle()
    (corner,) = stage.tavern.threads
    await stage.ann.slash(corner, "bard", prompt="Whispered words", max_chars=20)
    await thread.delete()
    await stage.env.settle()
    assert [prompt for _, prompt in rows(settings)] == ["Kept words", "Deleted words"]
    await tavern.delete()
    await stage.env.settle()
    assert [prompt for _, prompt in rows(settings)] == ["Kept words"]
    assert not in_files(settings.database_path, "Deleted words")
    assert stage.bard.guild_settings.get(stage.guild.id).channels == {stage.garden.id}


async def test_deleted_channel_takes_its_archived_threads_along(
    stage: Stage, settings: Settings
) -> None:
    tavern = stage.env.bot.get_channel(stage.tavern.id)
    assert isinstance(tavern, discord.TextChannel)
    thread = await tavern.create_thread(name="corner", type=discord.ChannelType.public_thread)
    await stage.env.settle()
    (corner,) = stage.tavern.threads
    await stage.ann.slash(corner, "bard", prompt="Whispered words", max_chars=20)
    run = await stage.bard.runs.start(
        user_id=stage.ann.id,
        guild_id=stage.guild.id,
        channel_id=thread.id,
        preset="quick",
        minutes=1,
        corpus=None,
    )
    await thread.edit(archived=True)
    await stage.env.settle()
    assert tavern.threads == []  # the library will not report it
    await tavern.delete()
    await stage.env.settle()
    assert rows(settings) == []
    shown = await stage.bard.runs.get(run.id)
    assert (shown.guild_id, shown.channel_id) == (None, None)
    assert not in_files(settings.database_path, "Whispered words")


async def test_last_allowed_channel_is_not_replaced_by_all(stage: Stage) -> None:
    await stage.bard.guild_settings.change(stage.guild.id, channels=frozenset({stage.tavern.id}))
    tavern = stage.env.bot.get_channel(stage.tavern.id)
    assert isinstance(tavern, discord.TextChannel)
    await tavern.delete()
    await stage.env.settle()
    rejected = await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:")
    assert rejected.ephemeral
    shown = await stage.ann.slash(stage.garden, "bard-settings")
    assert "none that still exists" in content_of(shown)


@contextmanager
def held(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hold the database as another process does."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.0)
    with closing(sqlite3.connect(settings.database_path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def moved_away(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Move the database away, and back again."""
    monkeypatch.setattr(database, "_LOOK_SECONDS", 0.0)
    path = settings.database_path
    elsewhere = path.rename(path.with_suffix(".moved"))
    yield
    elsewhere.rename(path)


@pytest.mark.parametrize("unusable", [held, moved_away])
async def test_what_goes_while_the_database_cannot_be_used_is_deleted_later(
    unusable: Callable[[Settings, pytest.MonkeyPatch], AbstractContextManager[None]],
    stage: Stage,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reply = await stage.ann.slash(stage.garden, "bard", prompt="Deleted words", max_chars=20)
    await stage.ann.slash(stage.tavern, "bard", prompt="Deleted words", max_chars=20)
    daily = {"time": "12:00", "channel": stage.tavern, "prompt": "Deleted words"}
    await stage.ann.slash(stage.garden, "schedule daily", **daily)
    rose = stage.env.create_guild("The Rose")
    dan = rose.add_member(stage.env.create_user("dan"))
    await dan.slash(rose.create_text_channel("yard"), "bard", prompt="Deleted words", max_chars=20)
    tavern, left = stage.env.bot.get_channel(stage.tavern.id), stage.env.bot.get_guild(rose.id)
    assert isinstance(tavern, discord.TextChannel)
    assert left is not None
    with unusable(settings, monkeypatch):
        await stage.ann.delete(message_of(reply))
        await tavern.delete()
        await left.leave()
        await stage.env.settle()
    assert len(rows(settings)) == 3
    assert not [r for r in caplog.records if r.name.startswith("bot") and r.exc_info]
    await stage.env.advance_time(OWED_SECONDS + 1)
    (notice,) = stage.ann.user.dm_channel.history()
    assert "its channel was deleted" in notice.content
    assert rows(settings) == []
    assert not in_files(settings.database_path, "Deleted words")


async def test_deleted_channel_does_not_wait_for_a_turn_in_progress(
    stage: Stage, settings: Settings
) -> None:
    """Discord tells it once, and the bot may be killed before that turn is shown."""
    await stage.ann.slash(stage.tavern, "bard", prompt="Deleted words", max_chars=20)
    tavern = stage.env.bot.get_channel(stage.tavern.id)
    assert isinstance(tavern, discord.TextChannel)
    async with stage.bard.scenes._lock("channel", stage.tavern.id):
        await tavern.delete()
        await stage.env.settle()
        assert rows(settings) == []


async def test_error_does_not_end_the_loops(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tended = []

    async def fail(*_args: object) -> None:
        tended.append(1)
        raise ZeroDivisionError

    monkeypatch.setattr(stage.bard, "complete", fail)
    await stage.env.advance_time(3 * OWED_SECONDS)
    assert len(tended) >= 2
    assert "Could not put the database in order" in caplog.text

    monkeypatch.setattr(stage.bard.turns.deletions, "forget_unseen", fail)
    cog = stage.bot.get_cog("noskgpt_bard.retention")
    assert isinstance(cog, RetentionCog)
    await cog.sweep()
    assert "Could not delete old turns" in caplog.text
