"""The real bot on a simulated Discord, with a real model that is small enough to be quick."""

import random
import re
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import discord
import pytest
import simcord
from simcord.actors import MemberActor
from simcord.builders import ChannelHandle, GuildHandle
from simcord.results import InteractionResult

from bot import Bard, BardClient, Settings, create_bot
from bot.concurrency import Threads, Wait, plain_wait
from bot.errors import Reason, RejectedError


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in ("DISCORD_TOKEN", *(f"BARD_{name.upper()}" for name in Settings.model_fields)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user-data"))
    monkeypatch.chdir(tmp_path)


@contextmanager
def kept_modules() -> Iterator[None]:
    """Restore the bot's modules in `sys.modules` at the end."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "bot"}
    try:
        yield
    finally:
        sys.modules.update(before)


@pytest.fixture(autouse=True)
def _own_modules() -> Iterator[None]:
    """Undo what unloading an extension does to `sys.modules`: the tests hold the same classes."""
    with kept_modules():
        yield


@pytest.fixture(autouse=True)
def _own_seeds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies differ from request to request, but not from one run of the tests to the next."""
    drawn = random.Random(request.node.nodeid)  # noqa: S311 - nothing secret
    monkeypatch.setattr(secrets, "randbelow", drawn.randrange)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "settings(**values): settings that differ from the usual")


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, tmp_path: Path, weights: Path, corpus: Path
) -> Settings:
    """Settings with files of the test's own."""
    usual = {
        "database": tmp_path / "bard.sqlite3",
        "runs_dir": tmp_path / "runs",
        "weights": weights,
        "corpus": corpus,
        "workers": 2,
        "cooldown": 0,
    }
    marker = request.node.get_closest_marker("settings")
    return Settings(**(usual | (marker.kwargs if marker else {})))


@pytest.fixture
async def simcord_bot(settings: Settings) -> AsyncIterator[BardClient]:
    """The bot that `simcord_env` runs."""
    bot = create_bot(settings)
    yield bot
    await bot.close()


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    """A thread for the blocking calls of a service that a test opens by itself."""
    threads = Threads(1, "test")
    yield threads
    await threads.close()


@dataclass
class Stage:
    """A running bot in a server with two channels and two members."""

    env: simcord.Env
    bot: BardClient
    guild: GuildHandle
    garden: ChannelHandle
    tavern: ChannelHandle
    ann: MemberActor
    """Manages the server."""
    ben: MemberActor
    contexts: list[str] = field(default_factory=list)
    """What the model was given, request by request."""

    @property
    def bard(self) -> Bard:
        """The services of the running bot."""
        return self.bot.bard

    def listen(self) -> None:
        """Write down from now on what the model is given."""
        model = self.bard.inference.model
        generate = model.generate

        def listening(prompt: str, *args: Any, **kwargs: Any) -> str:
            self.contexts.append(prompt)
            return generate(prompt, *args, **kwargs)

        model.generate = listening  # type: ignore[method-assign]

    async def restart(self, wait: Wait = plain_wait) -> None:
        """End the bot and start it anew, as a new process would."""
        old, new = self.bot, BardClient(self.bot.bard_settings, wait)
        with kept_modules():
            await self.env.restart_bot(new)
            await old.close()
        self.bot = new
        self.listen()


@pytest.fixture
async def stage(simcord_bot: BardClient, simcord_env: simcord.Env) -> AsyncIterator[Stage]:
    """The bot, running, and the people who use it."""
    guild = simcord_env.create_guild("The Globe")
    managers = guild.create_role("Managers", permissions=discord.Permissions(administrator=True))
    stage = Stage(
        env=simcord_env,
        bot=simcord_bot,
        guild=guild,
        garden=guild.create_text_channel("garden"),
        tavern=guild.create_text_channel("tavern"),
        ann=guild.add_member(simcord_env.create_user("ann"), roles=[managers]),
        ben=guild.add_member(simcord_env.create_user("ben")),
    )
    stage.listen()
    yield stage
    if stage.bot is not simcord_bot:
        await stage.bot.close()


@contextmanager
def rejected(reason: Reason, **details: object) -> Iterator[None]:
    """Expect a rejection for a reason, with these details."""
    with pytest.raises(RejectedError) as caught:
        yield
    assert caught.value.reason is reason
    assert details.items() <= caught.value.details.items()


def text_of(result: InteractionResult) -> str:
    """Return all that an answer says, embeds and footers included."""
    assert result.response is not None
    parts: list[str | None] = [result.response.content]
    for embed in result.response.embeds:
        parts += [embed.author.name, embed.title, embed.description, embed.footer.text]
    return "\n".join(part for part in parts if part)


def said(result: InteractionResult) -> str:
    """Return the plain text of all answers to an interaction, follow-ups included."""
    answers = [result.response, *result.followups]
    return "\n".join(answer.content for answer in answers if answer is not None)


def counted(result: InteractionResult) -> int:
    """Return how many characters a reply says that it has."""
    (count,) = re.findall(r"^(?:Take .* · )?([\d,]+) characters? · ", text_of(result), re.MULTILINE)
    return int(count.replace(",", ""))
