"""The command tree: answers for every failure, and syncs only what changed."""

import asyncio
import logging
import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands

from ..errors import RefusedError, SceneError

if TYPE_CHECKING:
    from ..client import Bard

log = logging.getLogger(__name__)

# An interaction that Discord no longer knows: answered too late, or its token has run out.
_GONE = frozenset({10008, 10015, 10062, 50027})

_DEFINING = (
    "name",
    "name_localizations",
    "description",
    "description_localizations",
    "options",
    "nsfw",
    "default_member_permissions",
)

NOT_ALLOWED = (
    "This stage is barred to me: I lack a permission here. "
    "Ask whoever manages the server to let me view this channel and send messages in it."
)
LEAVING = "I am called from the stage this very moment. Ask me again when I am back, in a minute."
NOT_YOURS = "That part is not yours to play: this command is not open to you here."
OLD_SCRIPT = (
    "My part was rewritten a moment ago, and this command is of the old script. "
    "Reload Discord (Ctrl+R) and try again."
)
UNFORESEEN = (
    "Alas, the scene broke off: something failed on my side, and it is no fault of yours. "
    "Please try again; if it fails again, give the bot's owner this id."
)


class BardTree(app_commands.CommandTree["Bard"]):
    """The bard's commands, in servers and private channels, for servers and for users."""

    def __init__(self, client: "Bard") -> None:
        super().__init__(
            client,
            allowed_contexts=app_commands.AppCommandContext(
                guild=True, dm_channel=True, private_channel=True
            ),
            allowed_installs=app_commands.AppInstallationType(guild=True, user=True),
        )

    async def interaction_check(self, interaction: discord.Interaction["Bard"], /) -> bool:
        """Take a request on, unless the bot is about to leave, which it then says."""
        if self.client.closing:
            # Suggestions while somebody types can only be suggestions.
            if interaction.type is not discord.InteractionType.autocomplete:
                await answer(interaction, LEAVING)
            return False
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self.client.answering.add(task)
        task.add_done_callback(self.client.answering.discard)
        return True

    async def on_error(
        self, interaction: discord.Interaction["Bard"], error: app_commands.AppCommandError, /
    ) -> None:
        """Tell the user, once, what went wrong; an unforeseen error is logged under an id."""
        cause = error.original if isinstance(error, app_commands.CommandInvokeError) else error
        await explain(interaction, cause)

    async def sync_if_changed(self, guild: discord.abc.Snowflake | None = None) -> bool:
        """Send the commands to Discord if they differ from what it holds; return whether."""
        # The raw answer: discord.py's model of it loses fields (nsfw, permissions) and, in
        # 2.7.1, misreads the contexts.
        http, application_id = self.client.http, self.client.application_id
        assert application_id is not None  # noqa: S101 - known since the login
        held: Sequence[Mapping[str, Any]]
        if guild is None:
            held = await http.get_global_commands(application_id)
        else:
            self.copy_global_to(guild=guild)
            held = await http.get_guild_commands(application_id, guild.id)
        wanted = [command.to_dict(self) for command in self.get_commands(guild=guild)]
        changed = _canonical(held, guild) != _canonical(wanted, guild)
        if changed:
            await self.sync(guild=guild)
        log.info("Commands %s", "synced" if changed else "unchanged")
        return changed


async def answer(interaction: discord.Interaction[Any], text: str) -> None:
    """Say something to the user alone, in whichever way the interaction still allows."""
    nobody = discord.AllowedMentions.none()
    try:
        if interaction.response.is_done():
            await interaction.followup.send(text, ephemeral=True, allowed_mentions=nobody)
        else:
            await interaction.response.send_message(text, ephemeral=True, allowed_mentions=nobody)
    except discord.HTTPException as error:
        log.warning("Could not answer an interaction: %s", error)


async def explain(interaction: discord.Interaction[Any], cause: Exception) -> None:
    """Tell the user what went wrong with a command or a button."""
    if isinstance(cause, discord.HTTPException) and cause.code in _GONE:
        log.warning("The interaction was gone before its answer: %s", cause)
        return
    await answer(interaction, _describe(cause))


def _describe(cause: Exception) -> str:
    """Return what to tell the user; logs the cause under an id, unless it is the user's to mend."""
    error_id = secrets.token_hex(4)
    level = logging.WARNING
    match cause:
        case SceneError() | RefusedError():
            return str(cause)
        case app_commands.CommandOnCooldown():
            seconds = math.ceil(cause.retry_after)
            return f"Patience, gentle friend: I may speak to you again in {seconds} s."
        case app_commands.BotMissingPermissions() | discord.Forbidden():
            text = NOT_ALLOWED
        case app_commands.CommandSignatureMismatch() | app_commands.CommandNotFound():
            text = OLD_SCRIPT
        case app_commands.CheckFailure():
            text = NOT_YOURS
        case _:
            level, text = logging.ERROR, UNFORESEEN
    log.log(level, "Error %s in an interaction", error_id, exc_info=cause)
    return f"{text} Error id: `{error_id}`"


def _canonical(
    commands: Iterable[Mapping[str, Any]], guild: discord.abc.Snowflake | None
) -> dict[tuple[int, str], dict[str, Any]]:
    """Return commands by type and name, with what defines them and no defaults."""
    result = {}
    for command in commands:
        plain = {key: command.get(key) for key in _DEFINING}
        if command.get("default_member_permissions") is not None:
            plain["default_member_permissions"] = str(command["default_member_permissions"])
        for key in ("contexts", "integration_types"):
            # A server's commands have neither.
            plain[key] = sorted(command.get(key) or ()) if guild is None else None
        result[command["type"], command["name"]] = _without_defaults(plain)
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
