"""The real bot on a simulated Discord, with a real model that is small enough to be quick."""

import hashlib
import json
import random
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import discord
import pytest
import simcord
import torch
from simcord.actors import MemberActor
from simcord.builders import ChannelHandle, GuildHandle
from simcord.results import InteractionResult

from bot import Bard, Settings, create_bot
from noskgpt.checkpoint import Checkpoint, save
from noskgpt.inference import lexicon
from noskgpt.model import GPT, ModelConfig
from noskgpt.tokenizer import VOCABULARY


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in ("DISCORD_TOKEN", *(f"BARD_{name.upper()}" for name in Settings.model_fields)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _own_seeds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies differ from request to request, but not from one run of the tests to the next."""
    drawn = random.Random(request.node.nodeid)  # noqa: S311 - nothing secret
    monkeypatch.setattr(secrets, "randbelow", drawn.randrange)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a real, untrained model with the full alphabet and context."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.manual_seed(1)
    config = ModelConfig(n_layer=1, n_head=2, n_embd=16)
    words = lexicon.build(VOCABULARY, lexicon.words("But soft, what light through yonder window?"))
    model = GPT(config)
    model.round_to_bfloat16()  # as the shipped ones, for which the decoder is compiled already
    weights = model.state_dict()
    save(Checkpoint(config=config, vocabulary=VOCABULARY, weights=weights, lexicon=words), path)
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text with three speakers: two in its training part, the third in what is held out."""
    path = tmp_path_factory.mktemp("corpus") / "play.txt"
    scene = "ROMEO:\nO, she doth teach.\n\nFirst Citizen:\nSpeak.\n\nROMEO:\nAy me.\n\n"
    train, held_out = scene * 150, "TYBALT:\nPeace?\n\n" * 90
    path.write_text(train + held_out, encoding="utf-8")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = {"sha256": digest, "held_out_start": len(train)}
    path.with_suffix(".json").write_text(json.dumps(manifest), encoding="utf-8")
    return path


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "settings(**values): settings that differ from the usual")


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, tmp_path: Path, weights: Path, corpus: Path
) -> Settings:
    """Settings with files of the test's own."""
    usual = {
        "database": tmp_path / "bard.sqlite3",
        "weights": weights,
        "corpus": corpus,
        "workers": 2,
        "cooldown": 0,
    }
    marker = request.node.get_closest_marker("settings")
    return Settings(**(usual | (marker.kwargs if marker else {})))


@pytest.fixture
async def simcord_bot(settings: Settings) -> AsyncIterator[Bard]:
    """The bot that `simcord_env` runs."""
    bot = create_bot(settings)
    yield bot
    await bot.close()


@dataclass
class Stage:
    """A running bot in a server with two channels and two members."""

    env: simcord.Env
    bot: Bard
    guild: GuildHandle
    garden: ChannelHandle
    tavern: ChannelHandle
    ann: MemberActor
    """Manages the server."""
    ben: MemberActor
    contexts: list[str] = field(default_factory=list)
    """What the model was given, request by request."""

    def listen(self) -> None:
        """Write down from now on what the model is given."""
        model = self.bot.generation.model
        generate = model.generate

        def listening(prompt: str, *args: Any, **kwargs: Any) -> str:
            self.contexts.append(prompt)
            return generate(prompt, *args, **kwargs)

        model.generate = listening  # type: ignore[method-assign]

    async def restart(self) -> None:
        """End the bot and start it anew, as a new process would."""
        old, new = self.bot, create_bot(self.bot.settings)
        await self.env.restart_bot(new)
        await old.close()
        self.bot = new
        self.listen()


@pytest.fixture
async def stage(simcord_bot: Bard, simcord_env: simcord.Env) -> AsyncIterator[Stage]:
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
