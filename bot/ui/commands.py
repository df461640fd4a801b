"""Application commands that handle their own errors, so that a host's handlers never see them."""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import discord
from discord import app_commands

from .interactions import NETWORK_ERRORS, brief, handle, respond_to_error
from .localisation import OWN

log = logging.getLogger(__name__)

Callback = Callable[..., Awaitable[None]]
"""A method of a cog or a function: takes the interaction, then the command's options."""

EVERYWHERE = app_commands.AppCommandContext(guild=True, dm_channel=True, private_channel=True)
FOR_ALL = app_commands.AppInstallationType(guild=True, user=True)
SERVERS = app_commands.AppCommandContext(guild=True, dm_channel=False, private_channel=False)
FOR_SERVERS = app_commands.AppInstallationType(guild=True, user=False)


def handled(callback: Callback) -> Callable[..., Any]:
    """Wrap a command's callback: track its task, and respond to every error it raises."""

    @functools.wraps(callback)
    async def wrapper(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - any command's
        # A method has its cog before the interaction.
        interaction = next(arg for arg in args if isinstance(arg, discord.Interaction))
        if not await handle(interaction, lambda _bard: callback(*args, **kwargs)):
            _mark_failed(interaction)

    return wrapper


class Command(app_commands.Command[Any, ..., None]):
    """A slash command with a `handled` callback.

    Its own errors end here too: an option that the callback lacks, or one that is missing,
    because Discord still has an older definition of the command.
    """

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 - the library's
        super().__init__(**given)
        for parameter in self.parameters:
            for choice in parameter.choices:
                # A choice has no public name that can be marked.
                name = choice._locale_name  # noqa: SLF001 - see above
                if name is not None:
                    name.extras[OWN] = True

    async def _invoke_with_namespace(
        self, interaction: discord.Interaction[Any], namespace: app_commands.Namespace
    ) -> None:
        # No public method sees such an error before the tree's handler, which is the host's.
        try:
            await super()._invoke_with_namespace(interaction, namespace)
        except app_commands.AppCommandError as error:
            _mark_failed(interaction)
            await respond_to_error(interaction, error)

    async def _invoke_autocomplete(
        self, interaction: discord.Interaction[Any], name: str, namespace: app_commands.Namespace
    ) -> None:
        # The library would log an error with its traceback. The suggestions come too late, or are
        # for an option that has none any more: Discord still has an older definition.
        expected = (app_commands.AppCommandError, discord.HTTPException, *NETWORK_ERRORS)
        try:
            await super()._invoke_autocomplete(interaction, name, namespace)
        except expected as error:
            log.debug("Nobody gets the suggestions: %s", brief(error))


class Group(app_commands.Group):
    """A group of slash commands with `handled` callbacks."""

    def command(self, *, name: str, description: str) -> Callable[[Callback], Command]:  # type: ignore[override]
        """Return a decorator that adds a callback to the group as a command."""

        def decorator(callback: Callback) -> Command:
            made = Command(
                name=name, description=description, callback=handled(callback), parent=None
            )
            self.add_command(made)
            return made

        return decorator


def command(
    *,
    name: str,
    description: str,
    contexts: app_commands.AppCommandContext = EVERYWHERE,
    installs: app_commands.AppInstallationType = FOR_ALL,
) -> Callable[[Callback], Command]:
    """Return a decorator that makes a callback a slash command."""

    def decorator(callback: Callback) -> Command:
        return Command(
            name=name,
            description=description,
            callback=handled(callback),
            allowed_contexts=contexts,
            allowed_installs=installs,
        )

    return decorator


def _mark_failed(interaction: discord.Interaction[Any]) -> None:
    """Tell the library not to announce a completed command to the host's listeners."""
    interaction.command_failed = True
