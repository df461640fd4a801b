"""Fixtures: the real bot on a simulated Discord, with a small real model."""

import random
import re
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import discord
import pytest
import simcord
from simcord import interactions
from simcord.actors import MemberActor
from simcord.builders import ChannelHandle, GuildHandle
from simcord.results import InteractionResult, ResponseMessage

import bot.bard
from bot import Bard, BardClient, Settings, create_bot
from bot.concurrency import Threads, Wait, plain_wait
from bot.errors import Reason, RejectedError
from bot.storage.records import Place, Turn


@pytest.fixture(autouse=True)
def _isolated_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the settings and the data folder of the person who runs the tests."""
    for name in ("DISCORD_TOKEN", *(f"BARD_{name.upper()}" for name in Settings.model_fields)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user-data"))
    monkeypatch.chdir(tmp_path)


@contextmanager
def restored_modules() -> Iterator[None]:
    """Restore the bot's modules in `sys.modules` at the end."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "bot"}
    try:
        yield
    finally:
        sys.modules.update(before)


@pytest.fixture(autouse=True)
def _restored_modules() -> Iterator[None]:
    """Restore the modules that unloading the extension removes; the tests have their classes."""
    with restored_modules():
        yield


@pytest.fixture(autouse=True)
def _fixed_seeds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the same seeds in every run of a test; they still differ between its requests."""
    drawn = random.Random(request.node.nodeid)  # noqa: S311 - nothing secret
    monkeypatch.setattr(secrets, "randbelow", drawn.randrange)


@pytest.fixture(autouse=True)
def _ended_threads() -> Iterator[None]:
    """Fail a test that leaves services open: a later one would find their threads."""
    yield
    assert not [t.name for t in threading.enumerate() if t.name.startswith("noskgpt")]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "settings(**values): override settings of the test bot")


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, tmp_path: Path, weights: Path, corpus: Path
) -> Settings:
    """Settings whose files are in the test's own folder."""
    defaults = {
        "database": tmp_path / "bard.sqlite3",
        "runs_dir": tmp_path / "runs",
        "weights": weights,
        "corpus": corpus,
        "workers": 2,
        "cooldown": 0,
        "shard_count": 1,  # the simulated Discord recommends none
    }
    marker = request.node.get_closest_marker("settings")
    return Settings(**(defaults | (marker.kwargs if marker else {})))


@pytest.fixture
async def simcord_bot(settings: Settings) -> AsyncIterator[BardClient]:
    """The bot that the fixture `simcord_env` of SimCord runs."""
    bot = create_bot(settings)
    yield bot
    await bot.close()


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    """A thread for the blocking calls of services that a test opens without a bot."""
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
    """Context of each generation since `record_contexts`."""

    @property
    def bard(self) -> Bard:
        """The services of the running bot."""
        return self.bot.bard

    async def turns(self, channel_id: int, scene: int | None = None) -> list[Turn]:
        """Return the shown turns of a channel's scene, by default of the current one."""
        place = Place(guild_id=None, channel_id=channel_id)
        number = await self.bard.turns.scene(place) if scene is None else scene
        return await self.bard.turns.tail(place, number, chars=1_000_000)

    async def scene(self, channel_id: int) -> int:
        """Return the number of a channel's current scene."""
        return await self.bard.turns.scene(Place(guild_id=None, channel_id=channel_id))

    async def forget(self, user_id: int) -> None:
        """Delete all turns that a person requested."""
        deletions = self.bard.turns.deletions
        await deletions.carry_out(await deletions.record("user", user_id))

    def record_contexts(self) -> None:
        """Append the context of each generation to `contexts`."""
        model = self.bard.inference.model
        generate = model.generate

        def recording(prompt: str, *args: Any, **kwargs: Any) -> str:
            self.contexts.append(prompt)
            return generate(prompt, *args, **kwargs)

        model.generate = recording  # type: ignore[method-assign]

    async def restart(self, wait: Wait = plain_wait) -> None:
        """Replace the bot by a new one on the same files, as a restart of the process does."""
        old, new = self.bot, BardClient(self.bot.bard_settings, wait)
        with restored_modules():
            # The simulation cancels the old bot's tasks, as a kill ends them, before it starts the
            # new one. A kill releases the locks as well.
            try:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(bot.bard, "exclusive", lambda *_: nullcontext())
                    await self.env.restart_bot(new)
            except BaseException:
                await new.close()
                raise
            finally:
                await old.close()
        self.bot = new
        self.record_contexts()


@pytest.fixture
async def stage(simcord_bot: BardClient, simcord_env: simcord.Env) -> AsyncIterator[Stage]:
    """A running bot with a server and its members."""
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
    stage.record_contexts()
    yield stage
    if stage.bot is not simcord_bot:
        await stage.bot.close()


@pytest.fixture
def locales(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """The locales of people by id, `en-US` without an entry; those of servers are their own."""
    chosen: dict[int, str] = {}
    made = interactions.base_payload

    def base_payload(backend: Any, **given: Any) -> tuple[Any, dict[str, Any]]:
        # SimCord 3.2.1 has no other locale than en-US in interactions.
        record, payload = made(backend, **given)
        payload["locale"] = chosen.get(given["user_id"], "en-US")
        if given["guild_id"] is not None:
            payload["guild_locale"] = backend.get_guild(given["guild_id"]).preferred_locale
        return record, payload

    monkeypatch.setattr(interactions, "base_payload", base_payload)
    return chosen


@contextmanager
def rejected(reason: Reason, **details: object) -> Iterator[None]:
    """Check that the block raises a rejection with a reason and at least these details."""
    with pytest.raises(RejectedError) as caught:
        yield
    assert caught.value.reason is reason
    assert details.items() <= caught.value.details.items()


def message_of(result: InteractionResult) -> ResponseMessage:
    """Return the message that an interaction was responded with; there must be one."""
    assert result.response is not None
    return result.response


def labels_of(message: ResponseMessage) -> list[str]:
    """Return the labels of a message's buttons."""
    return [item["label"] for row in message.components for item in row["components"]]


def text_of(result: InteractionResult) -> str:
    """Return the text of a response: its content, then that of its embeds."""
    message = message_of(result)
    parts: list[str | None] = [message.content]
    for embed in message.embeds:
        parts += [embed.author.name, embed.title, embed.description]
        parts += [f"{field.name}: {field.value}" for field in embed.fields]
        parts.append(embed.footer.text)
    return "\n".join(part for part in parts if part)


def content_of(result: InteractionResult) -> str:
    """Return the contents of an interaction's response and follow-ups, without embeds."""
    messages = [result.response, *result.followups]
    return "\n".join(message.content for message in messages if message is not None)


async def exported_file(result: InteractionResult) -> str:
    """Return the text of the one file in the messages that only one person sees."""
    messages = [message for message in (result.response, *result.followups) if message is not None]
    assert all(message.ephemeral for message in messages)
    (file,) = (attachment for message in messages for attachment in message.attachments)
    return (await file.read()).decode()


def reply_length(result: InteractionResult) -> int:
    """Return the number of characters that a reply's footer gives."""
    (count,) = re.findall(r"^(?:Take .* · )?([\d,]+) characters? · ", text_of(result), re.MULTILINE)
    return int(count.replace(",", ""))
