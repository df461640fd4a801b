"""Run the bot on SimCord's simulated Discord, shown as a page: the rehearsal stage.

The bot, its model and its database are real. Discord and its clock are simulated; this module
keeps the clock running.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import discord
import simcord
from simcord.actors import MemberActor
from simcord.backend.errors import SetupError
from simcord.builders import GuildHandle

from .client import BardClient, create_bot
from .config import Settings
from .errors import StartupError
from .rehearsal_page import RehearsalPage, Room, listen
from .signals import Signals
from .storage.records import Place
from .ui.embeds import embeds, headline, line_text
from .ui.localisation import language_in
from .ui.replies import reply_view

log = logging.getLogger(__name__)

CHANNELS = ("stage", "tavern")
ROOM = "#{channel}"
DIRECT = "@Bard as {member}"
PREFIX = "rehearsal-"
"""Of the names of the rehearsal's own database and folder of training runs."""
BEAT_SECONDS = 0.5
RECALLED_CHARS = 4000
"""Characters of a channel's last scene that the page shows first."""
_MESSAGE_MENU = discord.AppCommandType.message

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """The simulated server. Ids follow the order of creation, so they are the same in each run."""

    guild: GuildHandle
    owner: MemberActor
    """Owns the bot and manages the server."""
    guest: MemberActor
    rooms: dict[str, Room]
    """What the page shows: the channels, and the direct messages of each member."""


async def rehearse(
    settings: Settings,
    *,
    port: int,
    channel: str | None,
    say: Callable[[str], None],
    signals: Signals,
) -> None:
    """Serve the page on 127.0.0.1 until it is closed or a signal comes.

    Args:
        settings: The bot's; the token and the servers named there are not used.
        port: The page's port; 0 selects a free one.
        channel: The channel to show; None selects the first.
        say: Prints a text on the terminal.
        signals: End the rehearsal.

    Raises:
        StartupError: There is no such channel, the port is taken, or the bot cannot start.
        InterruptedStartError: A signal came before the page was served.
    """
    if channel is not None and channel not in CHANNELS:
        raise StartupError(
            f"No channel {channel!r} in the rehearsal; there are {' and '.join(CHANNELS)}",
            exit_code=2,
        )
    # The port, like the lock of the database, is taken before any data is opened.
    with closing(listen(port)) as listener:
        await _rehearse(settings, listener, channel or CHANNELS[0], say=say, signals=signals)


async def _rehearse(
    settings: Settings,
    listener: socket.socket,
    channel: str,
    *,
    say: Callable[[str], None],
    signals: Signals,
) -> None:
    # The simulated Discord recommends no number of shards.
    own = {"shard_count": 1, "shard_ids": None, "shared_dir": None, **own_files(settings)}
    settings = settings.model_copy(update=own)
    env = simcord.Env(create_bot(settings), check_errors=False)
    world = build_world(env)
    # Only the settings can make a simulated person the owner, and the id is not known earlier.
    owners = settings.owner_ids | {world.owner.id}
    settings = settings.model_copy(
        update={"owner_ids": owners, "dev_guild_id": None, "guilds": frozenset()}
    )
    bot = BardClient(settings, DeclaredWait(env))
    env.bot = bot
    env.backend.advance_clock(max(0.0, (datetime.now(UTC) - env.now()).total_seconds()))
    signals.hasten = bot.hasten
    try:
        async with signals.interrupting():
            await env.start()
        with env.time_context():
            await recall(bot, world)
            menus = [menu.name for menu in bot.tree.get_commands(type=_MESSAGE_MENU)]
            async with RehearsalPage(listener, env, world.rooms, menus) as page:
                await page.show(ROOM.format(channel=channel))
                say(
                    "This is a rehearsal: a simulated Discord on this machine, with the real bot "
                    f"and model.\nOpen {page.url}\nand type /bard in #{channel}. You are "
                    f"{world.owner.name}, who owns the bot; {world.guest.name} is an ordinary "
                    "member.\nTo join Discord, put DISCORD_TOKEN=... into .env and run this "
                    "command again. Ctrl-C ends this."
                )
                await _serve(env, bot, page, signals)
    finally:
        await bot.close()
        await env.shutdown()


def own_files(settings: Settings) -> dict[str, Path]:
    """Return the settings of files that belong to the rehearsal alone, beside those of the bot.

    To the simulated Discord, the servers and messages of the real one are gone: a bot on the real
    database would record that.
    """
    return {
        "database": settings.database_path.with_name(f"{PREFIX}{settings.database_path.name}"),
        "runs_dir": settings.runs_path.with_name(f"{PREFIX}{settings.runs_path.name}"),
    }


async def _serve(env: simcord.Env, bot: BardClient, page: RehearsalPage, signals: Signals) -> None:
    """Let the clock run until the page is closed or a signal comes, and the last replies end."""
    clock = asyncio.create_task(_run_clock(env, page))
    closed = asyncio.create_task(page.wait_closed())
    try:
        await asyncio.wait((clock, closed, signals.received), return_when=asyncio.FIRST_COMPLETED)
        if clock.done():
            clock.result()
        # While the page shows what becomes of the requests in progress.
        await bot.bard.drain()
    finally:
        clock.cancel()
        closed.cancel()
        await asyncio.gather(clock, closed, return_exceptions=True)


def build_world(env: simcord.Env) -> World:
    """Create the server before the bot starts, always in this order."""
    env.backend.bot_user.name = "Bard"
    guild = env.create_guild("The Globe")
    managers = guild.create_role(
        "Managers",
        # Discord shows /train to administrators alone, though it is for the bot's owner.
        permissions=discord.Permissions(administrator=True),
    )
    channels = {name: guild.create_text_channel(name) for name in CHANNELS}
    owner = guild.add_member(env.create_user("prospero"), roles=[managers])
    guest = guild.add_member(env.create_user("miranda"))
    people = (owner, guest)
    rooms = {ROOM.format(channel=name): Room(channels[name], people) for name in CHANNELS}
    for person in people:
        rooms[DIRECT.format(member=person.name)] = Room(person.user.dm_channel, [person.user])
    return World(guild=guild, owner=owner, guest=guest, rooms=rooms)


async def recall(client: BardClient, world: World) -> None:
    """Post the last turns of the scenes again: a new simulation has no messages.

    Messages get new ids, and a new message may get the id of an old one, so the old ids are
    cleared first.
    """
    store = client.bard.turns
    names = {member.id: member.name for member in (world.owner, world.guest)}
    await store.unlink()
    for room in world.rooms.values():
        channel, guild = room.channel, room.channel.guild
        place = Place(guild_id=guild.id if guild is not None else None, channel_id=channel.id)
        turns = await store.tail(place, await store.scene(place), chars=RECALLED_CHARS)
        stage = client.get_partial_messageable(channel.id)
        language = language_in(None if guild is None else client.get_guild(guild.id))
        for turn in turns:
            author = headline(turn, names.get(turn.user_id, ""), language)
            message = await stage.send(
                line_text(turn),
                embeds=embeds(turn, language, author=author),
                view=reply_view(turn, language, speak=turn.take.cue is not None),
                allowed_mentions=discord.AllowedMentions.none(),
            )
            await store.show(turn, message.id)


class DeclaredWait:
    """Declare the bot's waits to the simulation, which would otherwise report a hanging bot."""

    def __init__(self, env: simcord.Env) -> None:
        self._env = env

    async def __call__(self, awaitable: Awaitable[T], /) -> T:
        """Await inside a declaration. Only the bot's own tasks may do so."""
        result: T = await self._env.external_wait(awaitable, reason="the model, or an earlier turn")
        return result


async def _run_clock(env: simcord.Env, page: RehearsalPage) -> None:
    """Advance the simulated clock at the speed of the real one, and refresh the page."""
    shown = len(env.http_requests)
    last = time.perf_counter()
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        async with page.turn:
            now = time.perf_counter()
            try:
                await env.advance_time(now - last)
                if len(env.http_requests) > shown:
                    shown = len(env.http_requests)
                    await page.refresh()
            except (SetupError, TimeoutError) as busy:
                log.debug("Skipped a beat: %s", busy)
            last = now
