"""Stored voices: names, limits, where new scenes begin in them, and what stays of a removed one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.errors import Reason
from bot.storage.database import Database, open_database
from bot.storage.records import DEFAULT_VOICE, Place, Take, TurnRequest
from bot.storage.runs import RunStore
from bot.storage.turns import TurnStore
from bot.storage.voices import MAX_VOICES, VoiceStore, normalized
from tests.bot.conftest import rejected

GLOBE, ROSE = 1, 2
GARDEN, TAVERN = Place(guild_id=GLOBE, channel_id=3), Place(guild_id=GLOBE, channel_id=4)
CORNER = Place(guild_id=GLOBE, channel_id=5, parent_id=4)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "bard.sqlite3") as database:
        yield database


@pytest.fixture
async def voices(database: Database) -> VoiceStore:
    """No voices; runs 1 and 2 have finished, run 3 is running."""
    runs = RunStore(database)
    for number in (1, 2, 3):
        run = await runs.start(
            user_id=7, guild_id=None, channel_id=8, preset="quick", minutes=1, corpus=None
        )
        if number < 3:
            await runs.end(run.id, "finished", weights=f"noskgpt-{number}", loss=1.5)
    return await loaded(database)


async def loaded(database: Database) -> VoiceStore:
    """Return a store that has read the database, as after a restart."""
    store = VoiceStore(database)
    await store.load()
    return store


async def bound(voices: VoiceStore, name: str, run_id: int = 1) -> int:
    """Return the id of a voice, new or not, that has the weights of a run from now on."""
    assert await voices.bind(name, run_id)
    voice = voices.find(name)
    assert voice is not None
    assert voice.run_id == run_id
    return voice.id


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("marlowe", "marlowe"),
        ("  Ben   Jonson ", "Ben Jonson"),
        ("k-2", "k-2"),
        ("\uff2b\uff49\uff54", "Kit"),
        ("\u00c9tienne", "\u00c9tienne"),
        ("x" * 32, "x" * 32),
        ("", None),
        ("x" * 33, None),
        ("-kit", None),
        ("kit- marlowe", None),
        ("kit_marlowe", None),
        ("<@1>", None),
        ("a\nb", "a b"),
        ("DEFAULT", None),
    ],
)
def test_names_are_normalized_or_refused(typed: str, stored: str | None) -> None:
    assert normalized(typed) == stored


async def test_voices_are_found_in_any_capitals_also_after_a_restart(
    database: Database, voices: VoiceStore
) -> None:
    kit = await bound(voices, "Kit")
    await bound(voices, "anne")
    for store in (voices, await loaded(database)):
        assert [voice.name for voice in store.listed()] == ["anne", "Kit"]
        found = store.find(" kIT ")
        assert found is not None
        assert (found.id, found.run_id, found.weights, found.loss) == (kit, 1, "noskgpt-1", 1.5)
        assert store.find("kitty") is None


async def test_only_weights_of_a_finished_run_become_a_voice(voices: VoiceStore) -> None:
    assert not await voices.bind("kit", 3)
    assert not await voices.bind("kit", 4)
    kit = await bound(voices, "kit", 1)
    assert not await voices.bind("kit", 3)
    assert await bound(voices, "KIT", 2) == kit  # the same voice has other weights
    assert [(voice.name, voice.run_id) for voice in voices.listed()] == [("kit", 2)]


async def test_there_are_not_more_voices_than_a_list_of_discord_shows(voices: VoiceStore) -> None:
    for number in range(MAX_VOICES):
        await bound(voices, f"voice {number}")
    with rejected(Reason.TOO_MANY_VOICES, most=MAX_VOICES):
        await voices.bind("kit", 1)
    await voices.remove(await bound(voices, "voice 0", 2))
    await bound(voices, "kit")


async def test_name_of_a_removed_voice_is_free_and_stays_at_its_takes(
    database: Database, voices: VoiceStore
) -> None:
    kit = await bound(voices, "kit")
    turns = TurnStore(database)
    added = await turns.add(
        TurnRequest(place=GARDEN, user_id=7, prompt="ROMEO:"),
        Take(reply="O.", seed=1, weights="noskgpt-1", seconds=0.5, voice=kit, voice_name="kit"),
        scene=1,
        max_chars=9,
        temperature=0.8,
        message_id=10,
    )
    assert await turns.find(added.id) == added
    await voices.rename(kit, "Christopher")
    await voices.remove(kit)
    other = await bound(voices, "Christopher")
    assert other != kit
    for store in (voices, await loaded(database)):
        removed = store.get(kit)
        assert removed is not None
        assert removed.removed
        assert [voice.id for voice in store.listed()] == [other]
    turn = await turns.find(added.id)
    assert turn is not None
    assert (turn.take.voice, turn.take.voice_name) == (kit, "Christopher")


async def test_runs_of_voices_are_in_use_until_the_voice_is_removed(
    database: Database, voices: VoiceStore
) -> None:
    runs = RunStore(database)
    await runs.promote(2, 7)
    kit = await bound(voices, "kit", 1)
    assert await runs.in_use() == {1, 2}
    assert not await runs.discard(1)
    await voices.remove(kit)
    assert await runs.in_use() == {2}
    assert await runs.discard(1)


async def test_channel_comes_before_the_server_and_threads_follow_their_channel(
    database: Database, voices: VoiceStore
) -> None:
    kit, ben = await bound(voices, "kit"), await bound(voices, "ben")
    await voices.set_default(GLOBE, kit)
    await voices.set_default(GLOBE, ben, TAVERN.channel_id)
    other = Place(guild_id=ROSE, channel_id=6)
    direct = Place(guild_id=None, channel_id=TAVERN.channel_id)
    for store in (voices, await loaded(database)):
        chosen = [store.default_of(place) for place in (GARDEN, TAVERN, CORNER, other, direct)]
        assert chosen == [kit, ben, ben, DEFAULT_VOICE, DEFAULT_VOICE]
        assert store.places_of(ben) == [(GLOBE, TAVERN.channel_id)]
        assert store.channels_of(GLOBE) == [(TAVERN.channel_id, ben)]
    await voices.set_default(GLOBE, DEFAULT_VOICE, TAVERN.channel_id)
    assert voices.default_of(CORNER) == DEFAULT_VOICE
    await voices.set_default(GLOBE, None, TAVERN.channel_id)
    assert voices.default_of(CORNER) == kit


async def test_choices_go_with_the_voice_and_with_the_server(
    database: Database, voices: VoiceStore
) -> None:
    kit, ben = await bound(voices, "kit"), await bound(voices, "ben")
    await voices.set_default(GLOBE, kit)
    await voices.set_default(GLOBE, ben, GARDEN.channel_id)
    await voices.set_default(ROSE, ben)
    await voices.remove(kit)
    await voices.set_default(GLOBE, kit, TAVERN.channel_id)  # a manager chose it at that moment
    for store in (voices, await loaded(database)):
        assert [store.default_of(place) for place in (GARDEN, TAVERN)] == [ben, DEFAULT_VOICE]
        assert store.channels_of(GLOBE) == [(GARDEN.channel_id, ben)]
    await voices.delete_guild(GLOBE)
    for store in (voices, await loaded(database)):
        assert store.places_of(ben) == [(ROSE, 0)]
