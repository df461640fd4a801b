"""The base of the bard's cogs: a client and the services."""

from discord.ext import commands

from ..bard import Bard


class BardCog(commands.Cog):
    """A cog with its client and the bard's services."""

    def __init__(self, client: commands.Bot, bard: Bard) -> None:
        self.client = client
        self.bard = bard
