"""End the requests in progress while their commands and buttons are still there."""

from .base import BardCog


class ShutdownCog(BardCog, name="noskgpt_bard.shutdown"):
    """The first cog of the extension to be removed.

    `unload_extension` removes the cogs in the order in which they were added, their commands
    included, and calls `teardown` only after that. A command in between would be unknown to the
    host, which would report it as an error.
    """

    async def cog_unload(self) -> None:
        """Reject new requests, and wait for those in progress."""
        await self.bard.drain()
