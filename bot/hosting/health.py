"""Find out whether the running bot is healthy."""

from ..client import BardClient
from ..ui.interactions import find_bard


class Health:
    """The health of a stand-alone bot.

    Args:
        bot: The bot, which need not have started.
    """

    def __init__(self, bot: BardClient) -> None:
        self._bot = bot

    async def defects(self) -> list[str]:
        """Return what only a restart mends, as phrases; that this returns shows a live event loop.

        It takes `bot.core.inference.ANSWER_SECONDS` at most.
        """
        bard = find_bard(self._bot)
        if bard is None or await bard.inference.is_alive():
            return []
        return ["the workers make no progress"]

    async def obstacles(self) -> list[str]:
        """Return why the bot answers no request at present, as phrases; none if it does."""
        bard = find_bard(self._bot)
        if bard is None:
            return ["the bot is starting"]
        if bard.closing:
            return ["the bot is shutting down"]
        found = await self.defects()
        if not self._bot.connected:
            found.append("Discord is not connected")
        return found
