"""The bard as a discord.py extension: `setup` adds it to a host, `teardown` removes it.

A host loads it with `await bot.load_extension("noskgpt_bard")`. `create_bot` builds a bot of its
own that loads the same extension.
"""

import logging
import weakref

from discord import AppCommandType, app_commands
from pydantic_settings import BaseSettings

from .bard import Bard
from .client import BardClient, create_bot
from .cogs import BUTTONS, COGS, COMMANDS
from .cogs.base import BardCog
from .concurrency import plain_wait
from .config import Settings, load_settings, load_standalone_settings
from .errors import RejectedError, StartupError
from .observation import NO_OBSERVER
from .storage.database import unusable
from .ui.hosts import Host
from .ui.localisation import CommandTranslator

__all__ = [
    "Bard",
    "BardClient",
    "CommandTranslator",
    "Settings",
    "StartupError",
    "create_bot",
    "load_settings",
    "load_standalone_settings",
    "setup",
    "teardown",
]

log = logging.getLogger(__name__)

_bards: weakref.WeakKeyDictionary[Host, Bard] = weakref.WeakKeyDictionary()


async def setup(bot: Host) -> None:
    """Add the bard to a host. Called by `load_extension`.

    Settings come from the host's attribute `bard_settings`, else from the environment. The host's
    attribute `bard_observer`, if it has one, is told what the services do.

    Raises:
        StartupError: The host has a command of one of the bard's names, a setting is not
            allowed, another bot uses the same files, or the database or the weights cannot be
            used. The host is unchanged then.
    """
    for name, kind in COMMANDS:
        if bot.tree.get_command(name, type=kind) is not None:
            label = f"/{name}" if kind is AppCommandType.chat_input else name
            raise StartupError(
                f"The bot already has the command {label}, which noskgpt_bard adds: "
                "rename or remove it, then load the extension again."
            )
    settings = _settings(bot)
    try:
        await _load(bot, settings)
    except RejectedError as error:  # the database cannot be used any more since it was opened
        raise unusable(settings.database_path, error) from error


async def _load(bot: Host, settings: Settings) -> None:
    """Open the services, and add their cogs and buttons to a host, or nothing of them."""
    bard = await Bard.open(
        settings,
        getattr(bot, "bard_wait", plain_wait),
        getattr(bot, "bard_observer", NO_OBSERVER),
    )
    _bards[bot] = bard
    try:
        for cog in COGS:
            await _add_cog(bot, cog(bot, bard))
        bot.add_dynamic_items(*BUTTONS)
    except BaseException as error:
        await teardown(bot)
        if isinstance(error, app_commands.CommandLimitReached):
            raise StartupError(
                f"The bot has too many commands for those of noskgpt_bard: {error}"
            ) from error
        raise


async def teardown(bot: Host) -> None:
    """Remove the bard from a host, after the requests in progress. Called by `unload_extension`.

    A cancellation hastens this, and is raised at the end.
    """
    bard = _bards.get(bot)
    # `unload_extension` has removed the cogs before, the first of which does the same.
    if bard is not None:
        await bard.drain()
    for cog in COGS:
        await bot.remove_cog(cog.__cog_name__)
    bot.remove_dynamic_items(*BUTTONS)
    try:
        if bard is not None:
            await bard.close()
    except Exception:
        # The library would drop it without a word.
        log.exception("Could not shut down in order")
    finally:
        _bards.pop(bot, None)


async def _add_cog(bot: Host, cog: BardCog) -> None:
    """Add a cog to a host, or nothing of it."""
    try:
        await bot.add_cog(cog)
    except BaseException:
        # The library leaves a cog loaded whose commands it could not add, and forgets it.
        await cog.cog_unload()
        raise


def _settings(bot: Host) -> Settings:
    """Return the settings that the host has set, else those of the environment.

    Raises:
        StartupError: They are not allowed.
    """
    given = getattr(bot, "bard_settings", None)
    if given is None:
        return load_settings()
    if not isinstance(given, BaseSettings):
        raise StartupError("bot.bard_settings must be an instance of noskgpt_bard.Settings")
    # Not the object itself: after a reload its class is that of the unloaded module.
    return Settings(**given.model_dump(exclude_unset=True))
