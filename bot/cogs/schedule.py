"""`/schedule`: let a server's managers have a scene played each day; and the loop that does it."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import discord
from discord import app_commands

from ..bard import Bard
from ..core.schedule import parse_time
from ..errors import Reason, RejectedError
from ..storage.records import Place
from ..ui.access import guild_of, require_manager, require_person
from ..ui.commands import FOR_SERVERS, SERVERS, Group
from ..ui.daily_scenes import DailyPlayer, lacking
from ..ui.forms import PROMPT_LIMIT
from ..ui.interactions import acknowledge, bard_of, edit_response
from ..ui.localisation import language_of
from ..ui.permissions import missing_to_send
from ..ui.replies import storable
from ..ui.schedule_texts import (
    NONE,
    added,
    overview,
    removed,
    suggestion,
)
from .base import BardCog, listener

log = logging.getLogger(__name__)

_CHOICES = 25
_TIMES = tuple(f"{hour:02}:{minute:02}" for minute in (0, 30) for hour in range(24))

_Picked = app_commands.AppCommandChannel | app_commands.AppCommandThread


class PlaceTransformer(app_commands.Transformer):
    """A channel in which messages can be sent, also one that the host does not know."""

    @property
    def type(self) -> discord.AppCommandOptionType:
        """The type of the option."""
        return discord.AppCommandOptionType.channel

    @property
    def channel_types(self) -> list[discord.ChannelType]:
        """The types of channels that Discord offers."""
        types = discord.ChannelType
        return [
            types.text,
            types.news,
            types.voice,
            types.stage_voice,
            types.public_thread,
            types.private_thread,
            types.news_thread,
        ]

    async def transform(self, _interaction: discord.Interaction[Any], value: Any) -> _Picked:  # noqa: ANN401 - the library's
        """Return the channel as Discord sent it, with the sender's permissions in it."""
        picked: _Picked = value
        return picked


class ScheduleCog(BardCog, name="noskgpt_bard.schedule"):
    """The commands `/schedule`, and the loop that plays what is due."""

    schedule = Group(
        name="schedule",
        description="Scenes that are played each day.",
        allowed_contexts=SERVERS,
        allowed_installs=FOR_SERVERS,
        default_permissions=discord.Permissions(manage_guild=True),
    )

    def __init__(self, client: Any, bard: Bard) -> None:  # noqa: ANN401 - see BardCog
        super().__init__(client, bard)
        self.player = DailyPlayer(client, bard)
        self._loop: asyncio.Task[None] | None = None

    async def cog_load(self) -> None:
        """Start the loop."""
        self._loop = asyncio.create_task(self.player.follow(), name="daily scenes")

    async def cog_unload(self) -> None:
        """Stop the loop. The bard waits for scenes in progress."""
        if self._loop is not None:
            self._loop.cancel()

    @listener
    async def on_ready(self) -> None:
        """Play what became due before the servers were known."""
        self.player.wake()

    @listener
    async def on_guild_channel_delete(self, channel: discord.abc.GuildChannel) -> None:
        """Delete the schedules of a deleted channel, and tell the people who made them."""
        await self._end_channel(channel.id)

    @listener
    async def on_raw_thread_delete(self, payload: discord.RawThreadDeleteEvent) -> None:
        """Delete the schedules of a deleted thread, and tell the people who made them."""
        await self._end_channel(payload.thread_id)

    async def _end_channel(self, channel_id: int) -> None:
        store = self.bard.daily_scenes.store
        ended = await self.player.insist(lambda: store.delete_channel(channel_id))
        await self.player.tell_of_deletion(ended)

    @schedule.command(name="daily", description="Play a new scene each day.")
    @app_commands.describe(
        time="Hours and minutes, from 00:00 to 23:59",
        channel="Where the scene is played",
        prompt="A speaker, such as ROMEO:, or the beginning of a speech",
        timezone="The time zone of the time; the last one used here, or UTC",
    )
    async def daily(
        self,
        interaction: discord.Interaction[Any],
        time: app_commands.Range[str, 1, 10],
        channel: app_commands.Transform[_Picked, PlaceTransformer],
        prompt: app_commands.Range[str, 1, PROMPT_LIMIT],
        timezone: app_commands.Range[str, 1, 100] | None = None,
    ) -> None:
        """Add a schedule, if the sender and the bot may send messages in the channel."""
        require_manager(interaction)
        require_person(interaction, self.bard)
        daily = self.bard.daily_scenes
        at, zone = parse_time(time), daily.zones.find(timezone or "UTC")
        if at is None:
            raise RejectedError(Reason.NO_SUCH_TIME)
        if zone is None:
            raise RejectedError(Reason.NO_SUCH_ZONE)
        place = _place(interaction, channel)
        _require_sending(interaction, channel)
        rules = self.bard.guild_settings.rules(place.guild_id)
        self.bard.admission.require_channel(place.channel_ids, rules)
        await acknowledge(interaction, private=True)
        if timezone is None and (last := await daily.last_zone(guild_of(interaction))):
            zone = daily.zones.find(last) or zone
        schedule = await daily.add(
            place, interaction.user.id, at, zone, storable(prompt), discord.utils.utcnow()
        )
        self.player.wake()
        log.info("Daily scene %d is added", schedule.id)
        await edit_response(interaction, content=added(schedule, language_of(interaction)))

    @schedule.command(name="list", description="Show the daily scenes of this server.")
    async def list_all(self, interaction: discord.Interaction[Any]) -> None:
        """Show the schedules of the server and what became of the last runs, to the sender."""
        require_manager(interaction)
        await acknowledge(interaction, private=True)
        schedules = await self.bard.daily_scenes.store.of_guild(guild_of(interaction))
        language = language_of(interaction)
        if schedules:
            await edit_response(interaction, embeds=[overview(schedules, language)])
        else:
            await edit_response(interaction, content=language(NONE))

    @schedule.command(name="remove", description="Remove a daily scene.")
    @app_commands.describe(number="Its number; /schedule list shows it")
    async def remove(
        self, interaction: discord.Interaction[Any], number: app_commands.Range[int, 1]
    ) -> None:
        """Remove a schedule of the server."""
        require_manager(interaction)
        await acknowledge(interaction, private=True)
        schedule = await self.bard.daily_scenes.remove(guild_of(interaction), number)
        log.info("Daily scene %d is removed", schedule.id)
        await edit_response(interaction, content=removed(schedule, language_of(interaction)))

    @daily.autocomplete("time")
    async def suggest_times(
        self, _interaction: discord.Interaction[Any], typed: str
    ) -> list[app_commands.Choice[str]]:
        """Suggest full and half hours, and the time that is typed."""
        at = parse_time(typed)
        times = [time for time in _TIMES if time.startswith(typed.strip())]
        return _choices(dict.fromkeys([f"{at:%H:%M}", *times] if at else times))

    @daily.autocomplete("timezone")
    async def suggest_zones(
        self, interaction: discord.Interaction[Any], typed: str
    ) -> list[app_commands.Choice[str]]:
        """Suggest time zones, the server's last one first."""
        try:
            daily = bard_of(interaction).daily_scenes
            last = await daily.last_zone(guild_of(interaction))
        except RejectedError:
            return []  # the bard shuts down, or its database cannot be used
        return _choices(daily.zones.suggest(typed, first=last, limit=_CHOICES))

    @remove.autocomplete("number")
    async def suggest_schedules(
        self, interaction: discord.Interaction[Any], typed: object
    ) -> list[app_commands.Choice[int]]:
        """Suggest the schedules of the server."""
        if not interaction.permissions.manage_guild:
            return []
        try:
            store = bard_of(interaction).daily_scenes.store
            schedules = await store.of_guild(guild_of(interaction))
        except RejectedError:
            return []
        return [
            app_commands.Choice(name=suggestion(schedule), value=schedule.id)
            for schedule in schedules
            if str(schedule.id).startswith(str(typed).strip())
        ]


def _place(interaction: discord.Interaction[Any], channel: _Picked) -> Place:
    parent = channel.parent_id if isinstance(channel, app_commands.AppCommandThread) else None
    return Place(guild_id=guild_of(interaction), channel_id=channel.id, parent_id=parent)


def _require_sending(interaction: discord.Interaction[Any], channel: _Picked) -> None:
    """Reject a channel in which the sender or the bot may not send messages.

    Where the host does not know the channel, a failure shows what the bot may not.
    """
    thread = isinstance(channel, app_commands.AppCommandThread)
    if missing := missing_to_send(channel.permissions, thread=thread):
        raise _lacking(Reason.SENDER_CANNOT_SEND, channel.id, missing)
    guild = interaction.client.get_guild(guild_of(interaction))
    known = guild and guild.get_channel_or_thread(channel.id)
    if known is not None and (missing := lacking(known)):
        raise _lacking(Reason.CANNOT_SEND, channel.id, missing)


def _lacking(reason: Reason, channel_id: int, missing: Iterable[str]) -> RejectedError:
    return RejectedError(reason, channel=channel_id, permissions=[*missing])


def _choices(values: Iterable[str]) -> list[app_commands.Choice[str]]:
    return [app_commands.Choice(name=value, value=value) for value in values][:_CHOICES]
