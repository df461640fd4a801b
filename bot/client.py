"""The stand-alone bot: a client that loads the extension and registers its commands."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import discord
from discord import app_commands
from discord.ext import commands

from .bard import Bard
from .concurrency import Wait, plain_wait
from .config import Settings, load_standalone_settings
from .connection import ShardedBot
from .errors import Reason, RejectedError, StartupError
from .observation import NO_OBSERVER, Observer
from .ui.hosts import has_direct_messages
from .ui.interactions import NETWORK_ERRORS, brief, find_bard, respond_to_error
from .ui.localisation import CommandTranslator
from .ui.responses import is_from_proxy

log = logging.getLogger(__name__)

EXTENSION = __name__.rpartition(".")[0]
"""The extension's name: `noskgpt_bard`, or `bot` in a checkout."""

_DEFINITION = (
    "name",
    "name_localizations",
    "description",
    "description_localizations",
    "options",
    "nsfw",
    "default_member_permissions",
)
_KEPT = (*_DEFINITION, "id", "type", "integration_types", "contexts", "handler")
"""What Discord accepts of a command that is registered again as it is."""
_KINDS = frozenset(kind.value for kind in discord.AppCommandType)
"""The types of command that the library can define."""
_LAST_ANSWERS_SECONDS = 1.0
"""Time that the last answers have before the connection ends."""


class BardTree(app_commands.CommandTree["BardClient"]):
    """A command tree that responds to unknown commands, and syncs only what has changed.

    Attributes:
        answering: The tasks that respond to an unknown command.
    """

    def __init__(self, client: "BardClient") -> None:
        super().__init__(client)
        self.answering: set[asyncio.Task[Any]] = set()

    async def on_error(
        self, interaction: discord.Interaction["BardClient"], error: app_commands.AppCommandError, /
    ) -> None:
        """Respond to a command that the tree lacks: the bot shuts down, or Discord's is older."""
        if interaction.type is discord.InteractionType.autocomplete:
            return  # only suggestions can respond to it
        if (task := asyncio.current_task()) is not None:
            self.answering.add(task)
            task.add_done_callback(self.answering.discard)
        closing = find_bard(self.client) is None
        await respond_to_error(interaction, RejectedError(Reason.CLOSING) if closing else error)

    async def sync_if_changed(self, guild: discord.abc.Snowflake | None = None) -> bool:
        """Register the commands if they differ from Discord's; return whether it was done.

        Commands of a type that the library cannot define, such as the entry point of an Activity,
        are kept. If Discord refuses, commands that were registered before stay in use.

        Args:
            guild: Register them in this server alone; None registers them everywhere.

        Raises:
            HTTPException: Discord refused, and none of the commands was registered before.
        """
        # The raw response: discord.py's model of it loses fields (nsfw, permissions) and, in
        # 2.7.1, misreads the contexts.
        http, application_id = self.client.http, self.client.application_id
        assert application_id is not None  # noqa: S101 - known since the login
        path = f"/applications/{application_id}/commands"
        if guild is not None:
            self.copy_global_to(guild=guild)
            path = f"/applications/{application_id}/guilds/{guild.id}/commands"
        # The library's own requests leave out the translations, which would always differ then.
        registered: list[Any] = await http.request(
            discord.http.Route("GET", path), params={"with_localizations": "true"}
        )
        translator = self.translator or CommandTranslator()
        wanted: list[Any] = [
            await command.get_translated_payload(self, translator)
            for command in self.get_commands(guild=guild)
        ]
        ours = _canonical((c for c in registered if c["type"] in _KINDS), guild)
        if ours == (new := _canonical(wanted, guild)):
            log.info("Commands unchanged")
            return False
        wanted += [_kept(command) for command in registered if command["type"] not in _KINDS]
        try:
            if guild is None:
                await http.bulk_upsert_global_commands(application_id, wanted)
            else:
                await http.bulk_upsert_guild_commands(application_id, guild.id, wanted)
        except (discord.HTTPException, *NETWORK_ERRORS) as error:
            if ours.keys().isdisjoint(new):
                raise
            log.error("The commands stay as registered before: %s", brief(error))  # noqa: TRY400 - no defect of the bot
            return False
        log.info("Commands registered")
        return True


class BardClient(ShardedBot):
    """A bot that hosts the extension and nothing else.

    Args:
        settings: The extension's settings, and the client's own among them.
        wait: See `bot.concurrency.Wait`.
        observer: Is told what the extension does.
    """

    hosts_bard_alone = True
    """See `bot.ui.owners.has_own_client`."""

    def __init__(
        self, settings: Settings, wait: Wait = plain_wait, observer: Observer = NO_OBSERVER
    ) -> None:
        super().__init__(
            # Text reaches the bot where it is mentioned and in direct messages, so that no
            # privileged intent is needed.
            command_prefix=(),
            help_command=None,
            tree_cls=BardTree,
            # Message events bring these texts, and report replies that were deleted by hand.
            intents=discord.Intents(guilds=True, guild_messages=True, dm_messages=True),
            max_messages=None,
            allowed_mentions=discord.AllowedMentions.none(),
            # Without a count, Discord's recommendation is used.
            shard_count=settings.shard_count,
            shard_ids=settings.shard_ids,
        )
        self.bard_settings = settings
        self.bard_wait = wait
        self.bard_observer = observer
        self._lost_shards: set[int] = set()

    async def setup_hook(self) -> None:
        """Load the extension, unless it is loaded; register its commands if they changed.

        Of several processes, the one with shard 0 registers them.
        """
        if EXTENSION not in self.extensions:
            await self.load_bard()
        if not has_direct_messages(self):
            log.info("The process with shard 0 registers the commands")
            return
        tree = self.tree
        assert isinstance(tree, BardTree)  # noqa: S101 - given as tree_cls above
        await tree.set_translator(CommandTranslator())
        guild_id = self.bard_settings.dev_guild_id
        guild = discord.Object(guild_id) if guild_id else None
        try:
            await tree.sync_if_changed(guild)
        except discord.Forbidden as error:
            if guild is None or is_from_proxy(error):
                raise
            raise StartupError(
                f"BARD_DEV_GUILD_ID is {guild_id}, a server that the bot may not add commands to: "
                "invite it there with the scope applications.commands, or unset the variable."
            ) from error

    async def load_bard(self) -> None:
        """Load the extension.

        Raises:
            StartupError: See `setup`.
        """
        try:
            await self.load_extension(EXTENSION)
        except commands.ExtensionFailed as error:
            raise error.original from error

    def hasten(self) -> None:
        """Let `close` wait no longer for requests in progress."""
        bard = find_bard(self)
        if bard is not None:
            bard.hasten()

    async def close(self) -> None:
        """Unload the extension while Discord still delivers requests, then disconnect."""
        try:
            if EXTENSION in self.extensions:
                await self.unload_extension(EXTENSION)
            tree = self.tree
            assert isinstance(tree, BardTree)  # noqa: S101 - given as tree_cls above
            if tree.answering:
                await asyncio.wait(tree.answering, timeout=_LAST_ANSWERS_SECONDS)
        finally:
            await super().close()

    @property
    def bard(self) -> Bard:
        """The services of the extension, while it is loaded."""
        bard = find_bard(self)
        assert bard is not None  # noqa: S101 - loaded by setup_hook
        return bard

    async def on_message(self, message: discord.Message, /) -> None:
        """Ignore messages; the framework would look for prefix commands."""

    @property
    def connected(self) -> bool:
        """Whether Discord delivers the events of every shard of this process now."""
        return self.is_ready() and not self._lost_shards

    async def on_shard_connect(self, shard_id: int) -> None:
        """Note that a shard has a session."""
        self._lost_shards.discard(shard_id)

    async def on_shard_resumed(self, shard_id: int) -> None:
        """Note that the session of a shard goes on."""
        self._lost_shards.discard(shard_id)

    async def on_shard_disconnect(self, shard_id: int) -> None:
        """Note that the connection of a shard is lost."""
        self._lost_shards.add(shard_id)

    async def on_ready(self) -> None:
        """Log that the bot is ready."""
        log.info("Ready as %s; servers: %d", self.user, len(self.guilds))


def create_bot(settings: Settings | None = None, observer: Observer = NO_OBSERVER) -> BardClient:
    """Return a bot that is not connected yet; settings of None are read now.

    Raises:
        StartupError: A setting in the environment or `.env` is not allowed.
    """
    settings = load_standalone_settings() if settings is None else settings
    return BardClient(settings, observer=observer)


def _kept(command: Mapping[str, Any]) -> dict[str, Any]:
    return {key: command[key] for key in _KEPT if command.get(key) not in (None, "", [], {})}


def _canonical(
    commands: Iterable[Mapping[str, Any]], guild: discord.abc.Snowflake | None
) -> dict[tuple[int, str], dict[str, Any]]:
    """Return definitions by type and name, without default values."""
    result = {}
    for command in commands:
        definition = {key: command.get(key) for key in _DEFINITION}
        if command.get("default_member_permissions") is not None:
            permissions = str(command["default_member_permissions"])
            definition["default_member_permissions"] = permissions
        for key in ("contexts", "integration_types"):
            # A server's commands have neither.
            definition[key] = sorted(command.get(key) or ()) if guild is None else None
        result[command["type"], command["name"]] = _without_defaults(definition)
    return result


def _without_defaults(value: Any) -> Any:  # noqa: ANN401 - any JSON
    match value:
        case Mapping():
            kept = {key: _without_defaults(item) for key, item in value.items()}
            # Compared by identity: a smallest value of 0 equals False.
            absent = (None, False)
            return {
                key: item
                for key, item in kept.items()
                if item not in ([], {}, "") and not any(item is nothing for nothing in absent)
            }
        case list():
            return [_without_defaults(item) for item in value]
        case _:
            return value
