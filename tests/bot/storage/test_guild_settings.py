"""Stored settings of servers: defaults, concurrent changes and deletion."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot import Settings
from bot.storage.database import Database, open_database
from bot.storage.guild_settings import GuildSettings, GuildSettingsStore

GLOBE, ROSE = 1, 2


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "bard.sqlite3") as database:
        yield database


async def loaded(database: Database, settings: Settings) -> GuildSettingsStore:
    """Return a store that has read the database, as after a restart."""
    store = GuildSettingsStore(database, settings)
    await store.load()
    return store


async def test_overrides_replace_the_defaults(database: Database, settings: Settings) -> None:
    store = await loaded(database, settings)
    defaults = store.rules(None)
    assert store.rules(GLOBE) == defaults
    await store.change(GLOBE, channels=frozenset({8, 9}), cooldown=7, buttons="asker")
    for rules in (store.rules(GLOBE), (await loaded(database, settings)).rules(GLOBE)):
        assert rules.channels == {8, 9}
        assert (rules.cooldown, rules.buttons) == (7, "asker")
        assert (rules.max_chars, rules.temperature) == (defaults.max_chars, defaults.temperature)
    assert store.rules(ROSE) == defaults
    await store.change(GLOBE, cooldown=None)
    assert store.rules(GLOBE).cooldown == defaults.cooldown


@pytest.mark.settings(max_chars=100)
async def test_server_cannot_exceed_the_bots_limit(database: Database, settings: Settings) -> None:
    store = await loaded(database, settings)
    await store.change(GLOBE, max_chars=4000)
    assert store.rules(GLOBE).max_chars == 100
    assert store.rules(GLOBE).reply_chars(4000) == 100


async def test_changes_are_stored_together_or_not_at_all(
    database: Database, settings: Settings
) -> None:
    store = await loaded(database, settings)
    with pytest.raises(sqlite3.IntegrityError):
        await store.change(GLOBE, cooldown=5, buttons="nobody")  # type: ignore[arg-type]
    assert store.get(GLOBE) == (await loaded(database, settings)).get(GLOBE) == GuildSettings()


async def test_concurrent_changes_by_two_managers_both_succeed(
    database: Database, settings: Settings
) -> None:
    store = await loaded(database, settings)
    await asyncio.gather(store.change(GLOBE, cooldown=5), store.change(GLOBE, max_chars=50))
    overrides = GuildSettings(cooldown=5, max_chars=50)
    assert store.get(GLOBE) == overrides
    assert (await loaded(database, settings)).get(GLOBE) == overrides


async def test_delete_removes_the_settings_of_one_server(
    database: Database, settings: Settings
) -> None:
    store = await loaded(database, settings)
    await store.change(GLOBE, cooldown=5)
    await store.change(ROSE, cooldown=6)
    await store.delete(GLOBE)
    for reader in (store, await loaded(database, settings)):
        assert reader.get(GLOBE) == GuildSettings()
        assert reader.get(ROSE) == GuildSettings(cooldown=6)


async def test_deleted_channel_is_removed_unless_it_is_the_last(
    database: Database, settings: Settings
) -> None:
    store = await loaded(database, settings)
    await store.change(GLOBE, channels=frozenset({8, 9}))
    await store.remove_channel(GLOBE, 7)
    await store.remove_channel(GLOBE, 8)
    await store.remove_channel(GLOBE, 9)
    assert store.get(GLOBE).channels == (await loaded(database, settings)).get(GLOBE).channels
    assert store.get(GLOBE).channels == {9}
