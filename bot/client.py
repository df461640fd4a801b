"""The bot: what it opens, joins and closes."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import discord
from discord.ext import commands

from .cogs.about import AboutCog
from .cogs.bard import BardCog
from .cogs.retention import RetentionCog
from .cogs.scene import SceneCog
from .cogs.settings import SettingsCog
from .cogs.train import TrainCog
from .config import Settings, load_settings
from .core.admission import Cooldowns, create_cooldowns
from .core.inference import Generation, Wait, plain_wait
from .core.promotions import Succession
from .core.request_queue import RequestQueue
from .core.scenes import Scenes
from .core.suggestions import Suggestions
from .core.training_runner import Training
from .errors import StartupError
from .storage.database import open_database
from .storage.guild_settings import GuildSettingsStore
from .storage.runs import Runs
from .storage.turns import History
from .ui.queue_status import StopButton
from .ui.replies import Choose, Continue, Delete, Reroll
from .ui.responses import BardTree

if TYPE_CHECKING:
    import aiosqlite

log = logging.getLogger(__name__)

_LAST_WORDS_SECONDS = 10.0
"""How long closing waits for turns under way, so that nobody is left without an answer."""


class Bard(commands.Bot):
    """The bot with its services, which `login` opens and `close` closes.

    Attributes:
        settings: What it was built with.
        wait: How its services wait for threads and each other; see `bot.generation.Wait`.
        started_at: When it logged in.
        closing: Whether it answers no new requests.
        answering: The requests under way, which `close` waits for.
        history: The stored turns.
        guild_settings: What the servers' managers decided.
        generation: The model at work.
        queue: The requests for it.
        cooldowns: When each person may ask again.
        scenes: Plays turns.
        suggestions: Prompts to choose from.
        runs: The stored training runs.
        succession: Which weights speak.
        training: The run under way.
        watching: The tasks that show a run, which `close` lets show its end.
    """

    history: History
    guild_settings: GuildSettingsStore
    generation: Generation
    queue: RequestQueue
    cooldowns: Cooldowns
    scenes: Scenes
    suggestions: Suggestions
    runs: Runs
    succession: Succession
    training: Training

    def __init__(self, settings: Settings) -> None:
        options: dict[str, Any] = {}
        if settings.owner_ids:
            options["owner_ids"] = set(settings.owner_ids)
        super().__init__(
            # Slash commands only: no message is read, so no privileged intent is needed.
            command_prefix=(),
            help_command=None,
            tree_cls=BardTree,
            # Message events tell of replies that were deleted by hand.
            intents=discord.Intents(guilds=True, guild_messages=True, dm_messages=True),
            max_messages=None,
            allowed_mentions=discord.AllowedMentions.none(),
            **options,
        )
        self.settings = settings
        self.wait: Wait = plain_wait
        self.closing = False
        self.started_at = discord.utils.utcnow()
        self.answering: set[asyncio.Task[Any]] = set()
        self.watching: set[asyncio.Task[None]] = set()
        self._database: aiosqlite.Connection | None = None
        self._generation: Generation | None = None
        self._training: Training | None = None

    async def login(self, token: str) -> None:
        """Open what is here first: a bot without its voice need not join Discord.

        Raises:
            StartupError: The database or the weights cannot be used.
        """
        await self._close_services()
        await self._open_services()
        self.closing = False
        self.started_at = discord.utils.utcnow()
        await super().login(token)

    async def setup_hook(self) -> None:
        """Add the commands and buttons; send the commands to Discord if they changed."""
        for cog in (BardCog, SceneCog, SettingsCog, AboutCog, TrainCog, RetentionCog):
            await self.add_cog(cog(self), override=True)
        self.add_dynamic_items(Continue, Reroll, Choose, Delete, StopButton)
        guild_id = self.settings.dev_guild_id
        guild = discord.Object(guild_id) if guild_id else None
        try:
            await self.tree.sync_if_changed(guild)
        except discord.Forbidden as error:
            if guild is None:
                raise
            raise StartupError(
                f"BARD_DEV_GUILD_ID is {guild_id}, a server that the bot may not add commands to: "
                "invite it there with the scope applications.commands, or unset the variable."
            ) from error

    @property
    def tree(self) -> BardTree:
        """The bot's command tree."""
        tree = super().tree
        assert isinstance(tree, BardTree)  # noqa: S101 - given as tree_cls above
        return tree

    async def on_message(self, message: discord.Message, /) -> None:
        """Leave messages alone; the framework would look for prefix commands."""

    async def on_ready(self) -> None:
        """Log that the bot can be spoken to."""
        log.info("Ready as %s in %d servers", self.user, len(self.guilds))

    async def close(self) -> None:
        """Let turns under way end, stop a run, leave Discord, and close the services."""
        self.closing = True
        if self._training is not None:
            await self._training.close()
        if last_words := self.answering | self.watching:
            await asyncio.wait(last_words, timeout=_LAST_WORDS_SECONDS)
        await super().close()
        await self._close_services()

    async def _open_services(self) -> None:
        self._database = await open_database(self.settings.database)
        self.history = History(self._database)
        self.guild_settings = GuildSettingsStore(self._database, self.settings)
        await self.guild_settings.load()
        self._generation = Generation(self.settings.weights, self.settings.workers, self.wait)
        self.generation = self._generation
        self.queue = RequestQueue(self.settings.workers, self.settings.queue, self.wait)
        self.cooldowns = create_cooldowns()
        self.scenes = Scenes(self.history, self.generation, self.wait)
        self.suggestions = Suggestions(self.history)
        await self.suggestions.load(self.settings.corpus)
        self.runs = Runs(self._database)
        self.succession = Succession(self.runs, self.generation, self.settings.runs_dir)
        await self.succession.load()
        self._training = Training(
            self.runs,
            self.succession,
            self.generation,
            folder=self.settings.runs_dir,
            corpus=self.settings.corpus,
            keep=self.settings.keep_runs,
            auto_promote=self.settings.auto_promote,
            wait=self.wait,
        )
        self.training = self._training
        log.info("Speaking with weights %s", self.generation.model.name)

    async def _close_services(self) -> None:
        training, self._training = self._training, None
        if training is not None:
            await training.close()
        generation, self._generation = self._generation, None
        if generation is not None:
            await generation.close()
        connection, self._database = self._database, None
        if connection is not None:
            await connection.close()


def create_bot(settings: Settings | None = None) -> Bard:
    """Return the bot, not yet connected to anything; settings of None are read now.

    Raises:
        StartupError: A setting in the environment or `.env` is not allowed.
    """
    return Bard(load_settings() if settings is None else settings)
