"""Two processes of one bot, with two shards each: each serves its servers, whatever the other does.

Both are real processes against the double, which routes events by shard and accepts one new session
in a time, as Discord does.
"""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

import noskgpt
from bot.errors import Reason
from bot.ui.responses import REJECTIONS
from tests.bot.core.conftest import name_of, trained
from tests.wire.conftest import speech
from tests.wire.gateway import MAX_STARTS_PER_DAY, Session, shard_of
from tests.wire.people import Exchange
from tests.wire.process import BotProcess
from tests.wire.server import Discord
from tests.wire.state import Person, Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHARDS = 4
BLOCKED = REJECTIONS[Reason.BLOCKED]
LOOKS_OFTEN = """
from bot.cogs.sharing import SharingCog
SharingCog.look.change_interval(seconds=0.1)
"""


@dataclass
class Pair:
    """The processes, and a channel of each shard."""

    discord: Discord
    first: BotProcess
    """Has the shards 0 and 1."""
    second: BotProcess
    """Has the shards 2 and 3."""
    places: list[Place]
    shared: Path

    def process(self, shard: int) -> BotProcess:
        return self.first if shard < 2 else self.second

    def sessions(self, process: BotProcess) -> dict[int, Session]:
        """Return the sessions of the shards of a process that are connected."""
        return {
            shard: session
            for shard, session in self.discord.gateway.shard_sessions.items()
            if self.process(shard) is process and session.connection is not None
        }

    async def connected(self, process: BotProcess) -> None:
        """Wait until both shards of a process are connected."""
        await self.discord.until(lambda: len(self.sessions(process)) == 2, "two shards")

    async def ask(self, person: Person, shard: int) -> Exchange:
        """Ask for a reply in the channel of a shard."""
        return await self.discord.slash(
            "bard", by=person, at=self.places[shard], prompt="ROMEO:", max_chars=30
        )

    def turns_of(self, person: Person) -> dict[str, list[str | None]]:
        """Return the servers of a person's turns, by the process that has stored them."""
        sql = f"SELECT CAST(guild_id AS TEXT) FROM turns WHERE user_id = {person.id} ORDER BY id"  # noqa: S608
        return {
            name: [row[0] for row in process.rows(sql)]
            for name, process in (("first", self.first), ("second", self.second))
        }


async def place_of_shard(discord: Discord, shard: int) -> Place:
    """Make a channel in a server whose events a shard gets."""
    while shard_of(discord.world.new_id(), SHARDS) != shard:
        discord.clock.advance(0.001)
    guild = await discord.guild(f"Server of shard {shard}")
    assert shard_of(guild.id, SHARDS) == shard
    return await discord.channel(guild, "garden")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def two_processes(
    weights: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    """Two processes of one bot that share a folder, started at once."""
    folder = tmp_path_factory.mktemp("shards")
    async with Discord().running() as discord:
        discord.gateway.identify_seconds = 0.3
        places = [await place_of_shard(discord, shard) for shard in range(SHARDS)]
        processes = []
        for name, ids in (("first", "0,1"), ("second", "2-3")):
            (folder / name).mkdir()
            process = BotProcess(
                discord,
                folder / name,
                weights,
                first=LOOKS_OFTEN,
                BARD_CORPUS=str(corpus),
                BARD_SHARD_COUNT=f"{SHARDS}",
                BARD_SHARD_IDS=ids,
                BARD_SHARED_DIR=str(folder / "shared"),
            )
            processes.append(process)
        pair = Pair(discord, processes[0], processes[1], places, folder / "shared")
        try:
            await asyncio.gather(*(process.start() for process in processes))
            for process in processes:
                await pair.connected(process)
            yield pair
            assert not discord.violations
        finally:
            await asyncio.gather(*(process.close() for process in processes))


async def test_each_process_serves_its_servers_and_the_first_one_direct_messages(
    two_processes: Pair,
) -> None:
    discord, places = two_processes.discord, two_processes.places
    ben = discord.person("Ben")
    for shard in range(SHARDS):
        await speech(await two_processes.ask(ben, shard))
    await speech(await discord.slash("bard", by=ben, prompt="ROMEO:", max_chars=30))
    guilds = [place.guild.id for place in places if place.guild is not None]
    assert two_processes.turns_of(ben) == {"first": [*guilds[:2], None], "second": guilds[2:]}


async def test_one_process_registers_the_commands(two_processes: Pair) -> None:
    await two_processes.second.logged("The process with shard 0 registers the commands")
    assert len(two_processes.discord.sent("PUT commands")) == 1


async def test_sessions_are_started_one_after_another(two_processes: Pair) -> None:
    """A process that is too early, because it does not know of the other, tries again later."""
    gateway = two_processes.discord.gateway
    assert sorted(gateway.shard_sessions) == [0, 1, 2, 3]
    assert gateway.starts_left == MAX_STARTS_PER_DAY - gateway.identified - gateway.early


@pytest.mark.parametrize("killed", ["first", "second"])
async def test_killed_process_leaves_the_other_untouched(two_processes: Pair, killed: str) -> None:
    pair, ben = two_processes, two_processes.discord.person("Ben")
    victim, survivor = pair.first, pair.second
    lost, served = 1, 3
    if killed == "second":
        victim, survivor, lost, served = survivor, victim, served, lost
    held = pair.discord.faults.holds("PATCH @original")
    during = await pair.ask(ben, served)
    await pair.discord.struck(held)
    before, log = pair.sessions(survivor), len(survivor.lines)
    await victim.kill()
    await pair.discord.until(lambda: not pair.sessions(victim), "the end of its connections")
    held.release()
    reply = await speech(during)
    await speech(await pair.discord.press(reply, "Continue", by=ben))
    await victim.start()
    await pair.connected(victim)
    await speech(await pair.ask(ben, lost))
    assert pair.sessions(survivor) == before  # the same sessions
    assert not [line for line in survivor.lines[log:] if "WARNING" in line or "ERROR" in line]


async def test_event_that_cannot_be_read_concerns_its_shard_alone(two_processes: Pair) -> None:
    pair, gateway = two_processes, two_processes.discord.gateway
    guild, before = pair.places[3].guild, dict(gateway.shard_sessions)
    assert guild is not None
    await gateway.send("MESSAGE_DELETE", {"guild_id": guild.id})
    await pair.second.logged("The connection of shard 3 broke off")
    await pair.discord.until(
        lambda: gateway.shard_sessions[3] is not before[3], "another session of shard 3"
    )
    assert {shard: gateway.shard_sessions[shard] for shard in range(3)} == {
        shard: before[shard] for shard in range(3)
    }
    ben = pair.discord.person("Ben")
    for shard in range(SHARDS):
        await speech(await pair.ask(ben, shard))


async def test_connection_of_one_shard_is_resumed_while_the_others_go_on(
    two_processes: Pair,
) -> None:
    pair, gateway = two_processes, two_processes.discord.gateway
    resumed, ben = gateway.resumed, two_processes.discord.person("Ben")
    before = dict(gateway.shard_sessions)
    gateway.drop(1)
    await speech(await pair.ask(ben, 0))
    await speech(await pair.ask(ben, 1))
    assert gateway.resumed == resumed + 1
    assert gateway.shard_sessions == before


async def test_promotion_and_rollback_reach_the_other_process(two_processes: Pair) -> None:
    pair, discord = two_processes, two_processes.discord
    ann, new = discord.person("Ann"), trained(7)
    add_finished_run(pair.first, new)
    await (await discord.slash("train promote", run=1)).says("Promoted")
    await pair.second.logged(f"weights {name_of(new)} are active")
    await speech(await pair.ask(ann, 2))
    await (await discord.slash("train rollback")).says("Rolled back")
    old = noskgpt.load(pair.first.weights).name
    await pair.second.logged(f"Another process has decided: weights {old} are active")
    await speech(await pair.ask(ann, 2))
    used = "SELECT weights FROM takes JOIN turns ON id = turn_id WHERE user_id = "
    assert pair.second.rows(f"{used}{ann.id} ORDER BY id") == [(name_of(new),), (old,)]


async def test_block_and_its_lift_reach_the_other_process(two_processes: Pair) -> None:
    pair, discord = two_processes, two_processes.discord
    fay = discord.person("Fay")
    await (await discord.slash("bard-admin block", user=fay)).private("Blocked: Fay")
    await pair.second.logged("Another process has blocked a person")
    await (await pair.ask(fay, 2)).private(BLOCKED)
    lifting = await discord.slash("bard-admin unblock", at=pair.places[2], user=fay)
    await lifting.private("No longer blocked: Fay")
    await pair.first.logged("Another process has lifted the block of a person")
    await speech(await pair.ask(fay, 0))


async def test_process_that_did_not_run_meanwhile_follows_at_its_start(
    two_processes: Pair,
) -> None:
    pair, new, gus = two_processes, trained(7), two_processes.discord.person("Gus")
    await pair.second.kill()
    await (await pair.discord.slash("train promote", run=1)).says("Promoted")
    await (await pair.discord.slash("bard-admin block", user=gus)).private("Blocked: Gus")
    log = len(pair.second.lines)
    await pair.second.start()
    await pair.connected(pair.second)
    assert any(f"Weights {name_of(new)} are active" in line for line in pair.second.lines[log:])
    await (await pair.ask(gus, 2)).private(BLOCKED)


async def test_own_words_are_forgotten_in_every_process(two_processes: Pair) -> None:
    pair, discord = two_processes, two_processes.discord
    cai, dot = discord.person("Cai"), discord.person("Dot")
    for person in (cai, dot):
        await speech(await pair.ask(person, 0))
        await speech(await pair.ask(person, 2))
    await pair.first.kill()  # it learns of it after its start
    asked = await discord.slash(
        "scene forget", by=cai, at=pair.places[2], what="my words, everywhere"
    )
    question = await asked.private()
    confirmed = await discord.press(question, "Forget my words", by=cai)
    await confirmed.says("the others forget within a minute")
    assert [len(turns) for turns in pair.turns_of(cai).values()] == [1, 0]
    await pair.first.start()
    await pair.first.logged("Deleted the turns of a person who asked for it: 1")
    assert [len(turns) for turns in pair.turns_of(cai).values()] == [0, 0]
    assert [len(turns) for turns in pair.turns_of(dot).values()] == [1, 1]
    await pair.connected(pair.first)


async def test_exported_data_is_said_to_be_that_of_one_process(two_processes: Pair) -> None:
    pair, discord = two_processes, two_processes.discord
    eve = discord.person("Eve")
    await speech(await pair.ask(eve, 3))
    asked = await discord.slash(
        "scene export", by=eve, at=pair.places[3], what="all about me, as JSON"
    )
    await asked.private("ask in other servers, too")
    (file,) = [file for message in asked.messages() for file in message.attachments]
    assert len(json.loads(file.data)) == 1


async def test_process_waits_while_no_session_may_be_started(two_processes: Pair) -> None:
    pair, gateway = two_processes, two_processes.discord.gateway
    await pair.second.kill()
    left, gateway.starts_left = gateway.starts_left, 0
    starting = asyncio.create_task(pair.second.start())
    await pair.second.logged("Discord allows 0 of 2 needed sessions now")
    gateway.starts_left = left
    await starting
    await pair.connected(pair.second)


def add_finished_run(process: BotProcess, weights: noskgpt.checkpoint.Checkpoint) -> None:
    """Store run 1 with its weights as if it had been trained."""
    noskgpt.checkpoint.save(weights, process.runs / "1" / "weights.pth")
    with closing(sqlite3.connect(process.database)) as connection, connection:
        connection.execute(
            "INSERT INTO runs (id, state, user_id, channel_id, preset, minutes, weights, loss,"
            " started_at, ended_at, end_shown) VALUES (1, 'finished', 1, 1, 'quick', 1, ?, 1.5, 1,"
            " 2, 1)",
            (name_of(weights),),
        )
