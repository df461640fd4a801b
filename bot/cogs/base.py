"""The base of the bard's cogs, and listeners that handle their own errors."""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from discord.ext import commands

from ..bard import Bard
from ..errors import RejectedError
from ..ui.hosts import Host

log = logging.getLogger(__name__)

P = ParamSpec("P")
C = TypeVar("C", bound="BardCog")


class BardCog(commands.Cog):
    """A cog with its client and the bard's services."""

    def __init__(self, client: Host, bard: Bard) -> None:
        self.client = client
        self.bard = bard

    async def cog_unload(self) -> None:
        """Undo `cog_load`."""


def listener(
    callback: Callable[Concatenate[C, P], Awaitable[None]],
) -> Callable[..., Any]:
    """Make a method a listener: track its task, and log every error, which the host would get."""

    @functools.wraps(callback)
    async def wrapper(self: C, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            self.bard.track_current_task()
            await callback(self, *args, **kwargs)
        except RejectedError as error:
            # The database cannot be used, which is logged with its cause.
            log.warning("The listener %s could not finish: %s", callback.__qualname__, error)
        except Exception:
            log.exception("The listener %s failed", callback.__qualname__)

    return commands.Cog.listener()(wrapper)
