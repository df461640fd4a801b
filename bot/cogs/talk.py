"""Reply to messages: in servers to those that mention the bot, in direct messages to all."""

import logging

import discord

from ..bard import Bard
from ..errors import Reason, RejectedError
from ..storage.records import Place, TurnRequest
from ..ui.access import roles_of
from ..ui.addressing import Advice, MessageRequest, read
from ..ui.hosts import Host
from ..ui.localisation import language_of_answer
from ..ui.messages import MessageReply, MessageTarget, Typing
from ..ui.names import Viewpoint
from ..ui.notices import Notices
from ..ui.queue_status import QueueStatus
from ..ui.replies import accept_from
from ..ui.responses import MENTION_ME, WORDS_ALONE
from .base import BardCog, listener

log = logging.getLogger(__name__)


class TalkCog(BardCog, name="noskgpt_bard.talk"):
    """Play turns in reply to messages, as `/bard` does in response to a command."""

    def __init__(self, client: Host, bard: Bard) -> None:
        super().__init__(client, bard)
        self._notices = Notices(bard)

    async def cog_unload(self) -> None:
        """Delete the notices that are to be deleted."""
        self._notices.hasten()

    @listener
    async def on_message(self, message: discord.Message) -> None:
        """Reply to a message that is addressed to the bot. An edited one is no request."""
        asked = self._request_of(message)
        if asked is None or not _may_write(message, self._me):
            return
        if (await self.client.get_context(message)).valid:
            return  # a command of the host
        if not self.bard.deliveries.is_first(message.id):
            return  # Discord has delivered it before
        try:
            if asked.advice is None:
                await self._reply(message, asked)
            else:
                await self._advise(message, asked.advice)
        except Exception as error:  # noqa: BLE001 - the host would get it
            await self._notices.explain(message, error, self._me.display_name)

    @property
    def _me(self) -> discord.ClientUser:
        assert self.client.user is not None  # noqa: S101 - messages come after the login
        return self.client.user

    def _request_of(self, message: discord.Message) -> MessageRequest | None:
        """Return what a message asks; None if the bot does not reply to it."""
        direct = isinstance(message.channel, discord.DMChannel)
        if direct and not self.bard.settings.answer_direct_messages:
            return None
        if not direct:
            # Without the intent for servers, neither roles nor the channels of threads are known.
            guild = message.guild
            if guild is None or not self.bard.settings.serves(guild.id):
                return None
            if not self.bard.guild_settings.get(guild.id).answer_mentions:
                return None
        return read(message, self._me, direct=direct)

    async def _reply(self, message: discord.Message, asked: MessageRequest) -> None:
        """Play a turn, and show it in a reply to the message."""
        bard, place = self.bard, _place_of(message)
        with accept_from(message.author, place, message.id, bard) as queued:
            scene = None
            if asked.answers is not None:
                turn = await bard.scenes.find(asked.answers)
                scene = turn.scene if turn.place == place else None
            if asked.prompt is None and scene is None:
                await bard.scenes.require_scene(place)
            target, language = MessageTarget(message), language_of_answer(message, bard)
            async with (
                QueueStatus(target, queued, bard.wait, language) as status,
                Typing(message.channel, bard.wait) as typing,
            ):
                request = TurnRequest(
                    place=place, user_id=message.author.id, prompt=asked.prompt, scene=scene
                )
                viewpoint = Viewpoint(self.client, message.guild, message.author, language)
                display = MessageReply(viewpoint, bard, target, status, typing.stop)
                await bard.scenes.play(request, display, queued)

    async def _advise(self, message: discord.Message, advice: Advice) -> None:
        """Tell the sender of a message what it lacks, if the bot would reply to it."""
        bard, place = self.bard, _place_of(message)
        rules = bard.guild_settings.rules(place.guild_id)
        if bard.closing:
            raise RejectedError(Reason.CLOSING)
        bard.admission.require_person(message.author.id, roles_of(message.author), rules)
        bard.admission.require_channel(place.channel_ids, rules)
        language = language_of_answer(message, bard)
        if advice is Advice.WORDS:
            await self._notices.send(message, language(WORDS_ALONE))
        else:
            text = language(MENTION_ME, me=self._me.mention, name=self._me.display_name)
            await self._notices.advise_once(message, text)


def _place_of(message: discord.Message) -> Place:
    return Place(
        guild_id=None if message.guild is None else message.guild.id,
        channel_id=message.channel.id,
        parent_id=getattr(message.channel, "parent_id", None),
    )


def _may_write(message: discord.Message, me: discord.ClientUser) -> bool:
    """Return whether the bot may send messages in the channel, or whether that is not known."""
    channel = message.channel
    member = None if message.guild is None else message.guild.get_member(me.id)
    if member is None or not isinstance(channel, discord.Thread | discord.abc.GuildChannel):
        return True
    try:
        allowed = channel.permissions_for(member)
    except discord.ClientException:  # the channel of a thread is not known
        return True
    if isinstance(channel, discord.Thread):
        return allowed.send_messages_in_threads
    return allowed.send_messages
