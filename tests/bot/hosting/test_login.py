"""Which failures of the login a bot waits for, and how long."""

import asyncio
from typing import Any
from unittest.mock import Mock

import aiohttp
import discord
import pytest

from bot import Settings, StartupError, create_bot
from bot.hosting import login


def refusal(status: int, **headers: str) -> discord.HTTPException:
    response = Mock(status=status, reason="Reason", headers=headers)
    return discord.HTTPException(response, {"code": 0, "message": "no"})


def page(status: int) -> discord.HTTPException:
    """Return the answer of a proxy before Discord."""
    return discord.HTTPException(Mock(status=status, reason="Reason", headers={}), "<html></html>")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of `log_in`, which pass at once."""
    made: list[float] = []

    async def pass_at_once(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", pass_at_once)
    return made


async def outcome(monkeypatch: pytest.MonkeyPatch, settings: Settings, *errors: Exception) -> None:
    """Log in to a Discord that fails in these ways, then lets the bot in."""
    pending = list(errors)
    bot = create_bot(settings)

    async def attempt(_token: str) -> None:
        if pending:
            raise pending.pop(0)
        bot._connection.application_id = 7

    monkeypatch.setattr(bot, "login", attempt)
    await login.log_in(bot, "x")
    assert not pending


async def test_pauses_grow_to_a_limit_and_differ(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, pauses: list[float]
) -> None:
    network: list[Exception] = [aiohttp.ClientError("down"), OSError(), TimeoutError()]
    failures = [*network, refusal(503), refusal(429), KeyError("id"), page(403), *network]
    await outcome(monkeypatch, settings, *failures)
    expected = [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]
    assert all(0.8 * s <= made <= 1.2 * s for s, made in zip(expected, pauses, strict=True))
    assert len(set(pauses)) == len(pauses)


async def test_pause_is_as_long_as_discord_asks_for_up_to_an_hour(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, pauses: list[float]
) -> None:
    asked: list[Any] = ["1200", "9999999", "soon"]
    await outcome(
        monkeypatch, settings, *(refusal(429, **{"Retry-After": value}) for value in asked)
    )
    assert pauses[:2] == [1200, 3600]
    assert 16 <= pauses[2] <= 24


@pytest.mark.parametrize("error", [discord.LoginFailure("no"), refusal(400), refusal(403)])
async def test_what_waiting_cannot_mend_is_an_error(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, pauses: list[float], error: Exception
) -> None:
    with pytest.raises(StartupError):
        await outcome(monkeypatch, settings, error)
    assert not pauses


def test_invite_link_asks_for_what_the_bot_needs() -> None:
    link = login.invite_link(1234)
    assert "client_id=1234" in link
    assert "scope=bot+applications.commands" in link
    granted = discord.Permissions(int(link.split("permissions=")[1].split("&")[0]))
    assert {name for name, value in granted if value} == {
        "read_messages",
        "send_messages",
        "send_messages_in_threads",
        "create_public_threads",
        "embed_links",
        "attach_files",
        "read_message_history",
    }
