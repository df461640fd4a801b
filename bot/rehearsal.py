"""The rehearsal stage: the very same bot on SimCord's simulated Discord, shown as a page.

Real are the bot, its model and its database; simulated are Discord and its clock, which this
module keeps running.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import discord
import simcord
from simcord.actors import MemberActor
from simcord.backend.errors import SetupError
from simcord.builders import ChannelHandle, GuildHandle
from simcord.preview import Preview

from .client import Bard, create_bot
from .config import Settings
from .errors import StartupError
from .ui.embeds import embeds, headline
from .ui.replies import controls

log = logging.getLogger(__name__)

CHANNELS = ("stage", "tavern")
BEAT_SECONDS = 0.5
RECALLED_CHARS = 4000
"""How much of the last scene the page opens on."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """The simulated server. Its ids follow the order of creation, so they never change."""

    guild: GuildHandle
    channels: dict[str, ChannelHandle]
    owner: MemberActor
    """Owns the bot and manages the server."""
    guest: MemberActor


async def rehearse(
    settings: Settings, *, port: int, channel: str | None, say: Callable[[str], None]
) -> None:
    """Serve the page on 127.0.0.1 until it is closed or the task is cancelled.

    Args:
        settings: The bot's; the token and the development server are not used.
        port: Where to serve; 0 takes a free port.
        channel: The channel to show; None is the first.
        say: Tells the person at the terminal something.

    Raises:
        StartupError: There is no such channel, the port is taken, or the bot cannot start.
    """
    if channel is not None and channel not in CHANNELS:
        raise StartupError(
            f"No channel {channel!r} in the rehearsal; there are {' and '.join(CHANNELS)}",
            exit_code=2,
        )
    env = simcord.Env(create_bot(settings), check_errors=False)
    world = build_world(env)
    # Only the settings make a simulated person the owner, and their id is known only now.
    owners = settings.owner_ids | {world.owner.id}
    bot = create_bot(settings.model_copy(update={"owner_ids": owners, "dev_guild_id": None}))
    bot.wait = DeclaredWait(env)
    env.bot = bot
    env.backend.advance_clock(max(0.0, (datetime.now(UTC) - env.now()).total_seconds()))
    try:
        await env.start()
        with env.time_context():
            await _play(env, bot, world, world.channels[channel or CHANNELS[0]], port, say)
    finally:
        await bot.close()
        await env.shutdown()


async def _play(
    env: simcord.Env,
    bot: Bard,
    world: World,
    channel: ChannelHandle,
    port: int,
    say: Callable[[str], None],
) -> None:
    await recall(bot, world, channel)
    viewers = [world.owner, world.guest]
    async with AsyncExitStack() as stack:
        try:
            page = await stack.enter_async_context(
                env.preview(channel, viewers=viewers, layout="channel", port=port)
            )
        except SetupError as error:
            raise StartupError(f"Cannot serve the page: {error}; try another --port") from error
        say(
            "This is a rehearsal: a simulated Discord on this machine, with the real bot and "
            f"model.\nOpen {page.url}\nand type /bard in #{channel.name}. You are "
            f"{world.owner.name}, who owns the bot; {world.guest.name} is an ordinary member.\n"
            "To go live, put DISCORD_TOKEN=... into .env and run `python -m bot`. "
            "Ctrl-C ends this."
        )
        clock = asyncio.create_task(_run_clock(env, page, _take_turns(page)))
        closed = asyncio.create_task(page.wait_closed())
        try:
            done, _ = await asyncio.wait((clock, closed), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
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
    return World(
        guild=guild,
        channels={name: guild.create_text_channel(name) for name in CHANNELS},
        owner=guild.add_member(env.create_user("prospero"), roles=[managers]),
        guest=guild.add_member(env.create_user("miranda")),
    )


async def recall(bot: Bard, world: World, channel: ChannelHandle) -> None:
    """Post the last turns of the channel's scene again: a new simulation starts empty.

    Messages get new ids, and old ids may come up again for other messages, so the history
    forgets the old ones first.
    """
    names = {member.id: member.name for member in (world.owner, world.guest)}
    scene = await bot.history.scene(channel.id)
    turns = await bot.history.tail(channel.id, scene, chars=RECALLED_CHARS)
    await bot.history.unlink(world.guild.id)
    stage = bot.get_channel(channel.id)
    assert isinstance(stage, discord.TextChannel)  # noqa: S101 - as created
    for turn in turns:
        message = await stage.send(
            embeds=embeds(turn, author=headline(turn, names.get(turn.user_id, ""))),
            view=controls(turn),
            allowed_mentions=discord.AllowedMentions.none(),
        )
        await bot.history.show(turn, message.id)


class DeclaredWait:
    """Tells the simulation what the bot waits for, or it would take the bot for stuck."""

    def __init__(self, env: simcord.Env) -> None:
        self._env = env

    async def __call__(self, awaitable: Awaitable[T], /) -> T:
        """Await inside a declaration; only the bot's own tasks may do so."""
        result: T = await self._env.external_wait(awaitable, reason="the model, or an earlier turn")
        return result


def _take_turns(page: Preview) -> asyncio.Lock:
    """Return a lock that each action of the page holds from now on.

    The simulation does one thing at a time and turns an action away that falls into a beat of
    the clock; the page then takes itself for broken. It offers no public way to queue them.
    """
    lock = asyncio.Lock()
    act = page._action  # noqa: SLF001 - see above; the browser test notices if it goes

    async def act_in_turn(context_id: str | None, body: Mapping[str, Any]) -> dict[str, Any]:
        async with lock:
            return await act(context_id, body)

    page._action = act_in_turn  # type: ignore[method-assign]  # noqa: SLF001
    return lock


async def _run_clock(env: simcord.Env, page: Preview, lock: asyncio.Lock) -> None:
    """Let simulated time pass as real time does, and show what the bot did in it."""
    shown = len(env.http_requests)
    last = time.perf_counter()
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        async with lock:
            now = time.perf_counter()
            try:
                await env.advance_time(now - last)
                if len(env.http_requests) > shown:
                    shown = len(env.http_requests)
                    await page.refresh()
            except (SetupError, TimeoutError) as busy:
                log.debug("Skipped a beat: %s", busy)
            last = now
