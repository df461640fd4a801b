"""`/bard-admin`: let the bot's owner block people, and see and leave the bot's servers."""

import logging
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import discord
from discord import app_commands

from ..bard import Bard
from ..errors import Reason, RejectedError
from ..languages import ENGLISH, Language, Plural, Text
from ..ui.commands import FOR_SERVERS, Group
from ..ui.components import Button, view_of
from ..ui.embeds import escape, one_line
from ..ui.interactions import edit_response, handle
from ..ui.localisation import language_of
from ..ui.owners import acknowledge_owner, has_own_client
from .base import BardCog

log = logging.getLogger(__name__)

PAGE_SERVERS = 10
"""Servers on one page of the list."""
_NAME_CHARS, _LABEL_CHARS = 60, 100

BLOCKED_NOW = Text(
    "Blocked: {person} (`{id}`) gets no reply any more, in any server or direct message. "
    "`/bard-admin unblock` lifts the block."
)
BLOCKED_BEFORE = Text("{person} (`{id}`) was blocked already.")
UNBLOCKED = Text("No longer blocked: {person} (`{id}`).")
NOT_BLOCKED = Text("{person} (`{id}`) was not blocked.")
NO_SERVERS = Text(
    "No servers: the bot is in none, or the bot that has loaded the bard lacks the intent `guilds`."
)
SERVERS = Text("**Servers of the bot: {first} to {last} of {count}, by id**\n{lines}")
SERVER = "`{id}` {name}, {members}"
MEMBERS = Plural("{count:,} member", "{count:,} members")
MEMBERS_UNKNOWN = Text("members not known")
SERVER_ID = Text("Id {id}", "entry")
CHOOSE = Text("Choose a server to leave", "placeholder")
EARLIER = Text("Earlier", "button")
LATER = Text("Later", "button")
LEAVE = Text("Leave", "button")
STAY = Text("Stay", "button")
ASK_LEAVE = Text(
    "Leave {name} (`{id}`)? The settings and scenes of that server are deleted. "
    "Somebody who manages it can invite the bot again."
)
LEFT = Text("The bot has left {name} (`{id}`).")
STAYED = Text("The bot stays in all its servers.")


class AdminCog(BardCog, name="noskgpt_bard.admin"):
    """The commands `/bard-admin`, for the bot's owners alone."""

    admin = Group(
        name="bard-admin",
        description="Block people, list servers. For the bot's owner.",
        # Discord cannot show a command to the bot's owner alone. It is hidden from all but
        # administrators in servers, and shown in direct messages; each command checks the owner.
        default_permissions=discord.Permissions.none(),
        allowed_contexts=app_commands.AppCommandContext(
            guild=True, dm_channel=True, private_channel=False
        ),
        allowed_installs=FOR_SERVERS,
    )

    def __init__(self, client: Any, bard: Bard) -> None:  # noqa: ANN401 - see BardCog
        super().__init__(client, bard)
        self.view = ServersView([], ENGLISH)

    async def cog_load(self) -> None:
        """Handle the lists of every message, also of those sent before a restart."""
        self.client.add_view(self.view)

    async def cog_unload(self) -> None:
        """Stop handling the lists."""
        self.view.stop()

    @admin.command(name="block", description="Reject every request of a person, everywhere.")
    @app_commands.describe(user="The person; their id works as well")
    async def block(self, interaction: discord.Interaction[Any], user: discord.User) -> None:
        """Block a person until the block is lifted."""
        await acknowledge_owner(interaction, self.bard)
        if user.id == interaction.user.id:
            raise RejectedError(Reason.OWN_BLOCK)
        blocked = await self.bard.shared_blocks.block(user.id)
        await _answer(interaction, BLOCKED_NOW if blocked else BLOCKED_BEFORE, user)

    @admin.command(name="unblock", description="Lift the block of a person.")
    @app_commands.describe(user="The person; their id works as well")
    async def unblock(self, interaction: discord.Interaction[Any], user: discord.User) -> None:
        """Lift a block, if there is one."""
        await acknowledge_owner(interaction, self.bard)
        lifted = await self.bard.shared_blocks.lift(user.id)
        await _answer(interaction, UNBLOCKED if lifted else NOT_BLOCKED, user)

    @admin.command(name="servers", description="List the bot's servers; leave one.")
    async def servers(self, interaction: discord.Interaction[Any]) -> None:
        """Show the first page of the list."""
        await acknowledge_owner(interaction, self.bard)
        await _show_servers(interaction)


class ServersView(discord.ui.View):
    """The list from which the owner chooses a server. One instance handles those of all messages.

    Args:
        guilds: The servers of the page.
        language: That of the list.
    """

    def __init__(self, guilds: Sequence[discord.Guild], language: Language) -> None:
        super().__init__(timeout=None)
        self.choose.placeholder = language(CHOOSE)
        self.choose.options = [
            discord.SelectOption(
                label=one_line(guild.name, _LABEL_CHARS) or str(guild.id),
                description=language(SERVER_ID, id=guild.id),
                value=str(guild.id),
            )
            for guild in guilds
        ]

    @discord.ui.select(cls=discord.ui.Select[Any], custom_id="bard:servers:choose")
    async def choose(
        self, interaction: discord.Interaction[Any], select: discord.ui.Select[Any]
    ) -> None:
        """Ask whether to leave the chosen server."""
        guild_id = int(select.values[0])
        await handle(interaction, lambda bard: _ask_to_leave(interaction, bard, guild_id))


class ServersPage(Button, template=r"bard:servers:(?P<side>before|from):(?P<guild>[0-9]+)"):
    """Show the page of servers before an id, or from an id on. For the bot's owner."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Replace the page that is shown."""
        await acknowledge_owner(interaction, bard, press=True)
        await _show_servers(interaction, int(self["guild"]), earlier=self["side"] == "before")


class ConfirmLeave(Button, template=r"bard:leave:(?P<guild>[0-9]+)"):
    """Leave a server, or stay in all if the id is 0. For the bot's owner."""

    async def press(self, interaction: discord.Interaction[Any], bard: Bard) -> None:
        """Leave, and replace the question by the outcome."""
        await acknowledge_owner(interaction, bard, press=True)
        language = language_of(interaction)
        if not (guild_id := int(self["guild"])):
            await edit_response(interaction, content=language(STAYED))
            return
        guild = _guild(interaction, guild_id)
        try:
            await guild.leave()
        except discord.NotFound as error:
            raise RejectedError(Reason.UNKNOWN_SERVER) from error
        log.warning("Left server %d, as the bot's owner %d asked", guild_id, interaction.user.id)
        await edit_response(interaction, content=language(LEFT, name=_name(guild), id=guild_id))


async def _ask_to_leave(interaction: discord.Interaction[Any], bard: Bard, guild_id: int) -> None:
    await acknowledge_owner(interaction, bard, press=True)
    guild, language = _guild(interaction, guild_id), language_of(interaction)
    view = view_of(
        ConfirmLeave(language(LEAVE), f"bard:leave:{guild_id}", discord.ButtonStyle.danger),
        ConfirmLeave(language(STAY), "bard:leave:0"),
    )
    question = language(ASK_LEAVE, name=_name(guild), id=guild_id)
    await edit_response(interaction, content=question, view=view)


def _guild(interaction: discord.Interaction[Any], guild_id: int) -> discord.Guild:
    """Return a server that the bot may leave.

    Raises:
        RejectedError: The bot is not in it, or belongs to a host.
    """
    if not has_own_client(interaction.client):
        raise RejectedError(Reason.CANNOT_LEAVE)
    guild: discord.Guild | None = interaction.client.get_guild(guild_id)
    if guild is None:
        raise RejectedError(Reason.UNKNOWN_SERVER)
    return guild


async def _show_servers(
    interaction: discord.Interaction[Any], guild_id: int = 0, *, earlier: bool = False
) -> None:
    """Show a page of the list.

    Args:
        interaction: The acknowledged interaction.
        guild_id: The page begins with the first server that has this id or a higher one.
        earlier: Whether it ends before that server instead.
    """
    guilds = sorted(interaction.client.guilds, key=lambda guild: guild.id)
    language = language_of(interaction)
    if not guilds:
        await edit_response(interaction, content=language(NO_SERVERS))
        return
    at = bisect_left(guilds, guild_id, key=lambda guild: guild.id)
    # The last servers may be gone since the button was sent.
    start = max(0, min(at - PAGE_SERVERS if earlier else at, len(guilds) - 1))
    page = guilds[start : start + PAGE_SERVERS]
    end = start + len(page)
    view = ServersView(page, language)
    view.stop()  # that of the cog handles the list
    if not has_own_client(interaction.client):
        view.clear_items()
    if len(guilds) > len(page):
        after = guilds[end].id if end < len(guilds) else 0
        before = f"bard:servers:before:{page[0].id}"
        view.add_item(ServersPage(language(EARLIER), before, disabled=not start))
        later = f"bard:servers:from:{after}"
        view.add_item(ServersPage(language(LATER), later, disabled=not after))
    lines = [
        SERVER.format(id=guild.id, name=_name(guild), members=_members(guild, language))
        for guild in page
    ]
    text = language(SERVERS, count=len(guilds), first=start + 1, last=end, lines="\n".join(lines))
    await edit_response(interaction, content=text, view=view)


def _name(guild: discord.Guild) -> str:
    return escape(one_line(guild.name, _NAME_CHARS))


def _members(guild: discord.Guild, language: Language) -> str:
    count = guild.member_count
    return language(MEMBERS_UNKNOWN) if count is None else language.plural(MEMBERS, count)


async def _answer(interaction: discord.Interaction[Any], text: Text, user: discord.User) -> None:
    person = escape(one_line(user.display_name, _NAME_CHARS))
    await edit_response(
        interaction, content=language_of(interaction)(text, person=person, id=user.id)
    )
