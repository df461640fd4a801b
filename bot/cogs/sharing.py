"""Do what other processes of the bot have decided, if there is a folder that they share."""

import logging

from discord.ext import tasks

from ..bard import Bard
from ..complaints import Complaints
from ..errors import RejectedError
from ..ui.hosts import Host
from .base import BardCog

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Time between looks at the shared folder."""


class SharingCog(BardCog, name="noskgpt_bard.sharing"):
    """Use the weights, bind the blocks and carry out the deletions of the other processes."""

    def __init__(self, client: Host, bard: Bard) -> None:
        super().__init__(client, bard)
        self._complaints = Complaints(log)

    async def cog_load(self) -> None:
        """Start to look at the shared folder."""
        if self.bard.settings.shared_dir is not None:
            self.look.start()

    async def cog_unload(self) -> None:
        """Stop looking."""
        self.look.cancel()

    @tasks.loop(seconds=LOOK_SECONDS)
    async def look(self) -> None:
        """Carry out what is new in the shared folder."""
        try:
            await self.bard.promotions.follow()
            await self.bard.shared_blocks.follow()
            if self.bard.shared_deletions is not None:
                await self.bard.shared_deletions.carry_out()
        except (OSError, RejectedError) as error:
            self._complaints.met(
                "What other processes have decided is not carried out yet: %s", error
            )
        except Exception:  # an error would end the loop
            log.exception("Could not do what other processes have decided")
        else:
            self._complaints.over()
