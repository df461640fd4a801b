"""The texts of rejections and errors."""

import errno
import logging
import re
import string
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import aiohttp
import discord
import pytest
from discord import app_commands

from bot.errors import Reason, RejectedError
from bot.languages import ENGLISH
from bot.ui.responses import (
    ARCHIVED,
    BLOCKED,
    DISCORD_BUSY,
    DISCORD_DOWN,
    EXHAUSTED,
    LOCKED_OUT,
    MESSAGE_GONE,
    NOT_ALLOWED,
    NOT_OPEN,
    OUTDATED,
    REJECTIONS,
    TOO_LARGE,
    UNEXPECTED,
    error_response,
    rejection_text,
)

# As documented in `Reason`.
DETAILS: dict[Reason, dict[str, object]] = {
    Reason.WRONG_CHANNEL: {"channels": frozenset({22, 21})},
    Reason.ROLE_MISSING: {"roles": frozenset({31, 32})},
    Reason.COOLDOWN: {"seconds": 6.2},
    Reason.THREAD_NOT_ALLOWED_TO_BOT: {"permissions": ["create_public_threads"]},
    Reason.THREAD_NOT_ALLOWED_TO_MEMBER: {"permissions": ["create_public_threads"]},
    Reason.TOO_MANY_SCHEDULES: {"limit": 10},
    Reason.UNKNOWN_SCHEDULE: {"number": 7},
    Reason.CANNOT_SEND: {"channel": 21, "permissions": ["embed_links"]},
    Reason.SENDER_CANNOT_SEND: {"channel": 21, "permissions": ["send_messages"]},
    Reason.PART_NAME: {"limit": 32},
    Reason.PART_TAKEN: {"part": "ROMEO", "holder": 23},
    Reason.LINE_AWAITED: {"part": "ROMEO", "holder": 23},
    Reason.PART_GIVEN_UP: {"part": "ROMEO"},
    Reason.RUN_NOT_STARTED: {"problem": "No space left on device"},
    Reason.UNKNOWN_RUN: {"run_id": 7},
    Reason.RUN_NOT_FINISHED: {"run_id": 7, "state": "failed", "action": "promoted"},
    Reason.RUN_IN_USE: {"run_id": 7},
    Reason.RUN_PROMOTED_ALREADY: {"run_id": 7},
    Reason.RUN_DAMAGED: {"run_id": 7},
    Reason.OPTION_WITH_RESUME: {"option": "minutes"},
    Reason.TEXT_DOES_NOT_FIT: {"missing": "ß ü"},
    Reason.UNKNOWN_VOICE: {"name": "Kit", "known": ["default", "marlowe"]},
    Reason.VOICE_DAMAGED: {"name": "marlowe"},
    Reason.VOICE_UNREADABLE: {"name": "marlowe"},
    Reason.VOICE_NAME_TAKEN: {"name": "marlowe"},
    Reason.VOICE_PROMOTED_ALREADY: {"name": "marlowe", "run_id": 7},
    Reason.TOO_MANY_VOICES: {"most": 23},
}
FIRST_OF_SCHEDULES = list(Reason).index(Reason.NO_SUCH_TIME)
PLAIN = [Reason.NOT_MANAGER, Reason.NOT_OWNER, *list(Reason)[FIRST_OF_SCHEDULES:]]
"""Rejections of managers and owners, to whom the bard does not speak in character."""


def test_every_reason_has_a_text() -> None:
    assert set(REJECTIONS) == set(Reason)
    assert len(set(REJECTIONS.values())) == len(Reason)


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_text_needs_only_the_documented_details(reason: Reason) -> None:
    details = DETAILS.get(reason, {})
    text = rejection_text(RejectedError(reason, **details), ENGLISH)
    assert 1 <= len(text) <= 2000
    assert not set("{}") & set(text)
    named = {field for _, field, _, _ in string.Formatter().parse(REJECTIONS[reason]) if field}
    computed = {"places"} if reason is Reason.WRONG_CHANNEL else set(details)
    assert named <= computed
    for value in details.values():
        if isinstance(value, int | str):
            assert str(value) in text or reason is Reason.COOLDOWN


def test_details_that_are_formatted() -> None:
    channels = rejection_text(
        RejectedError(Reason.WRONG_CHANNEL, channels=frozenset({22, 21})), ENGLISH
    )
    assert channels.endswith("<#21>, <#22>")
    assert "in 7 s" in rejection_text(RejectedError(Reason.COOLDOWN, seconds=6.2), ENGLISH)


@pytest.mark.parametrize("reason", PLAIN, ids=lambda reason: reason.name)
def test_managers_and_owners_get_plain_texts(reason: Reason) -> None:
    assert not re.search(r"\b(?:I|me|my|mine|friend)\b", REJECTIONS[reason])


def discord_error(status: int, code: int = 0, text: str = "") -> discord.HTTPException:
    kind = {403: discord.Forbidden, 404: discord.NotFound}.get(status, discord.HTTPException)
    if status >= 500:
        kind = discord.DiscordServerError
    response = cast("Any", SimpleNamespace(status=status, reason="reason"))
    return kind(response, {"code": code, "message": text} if code else text)


@pytest.mark.parametrize(
    ("error", "text", "level"),
    [
        (app_commands.CheckFailure(), NOT_OPEN, logging.WARNING),
        (app_commands.CommandNotFound("old", []), OUTDATED, logging.WARNING),
        (ZeroDivisionError("a cause"), UNEXPECTED, logging.ERROR),
        (discord_error(403, 50013), NOT_ALLOWED, logging.WARNING),
        (discord_error(400, 200000), BLOCKED, logging.INFO),
        (discord_error(400, 200001), BLOCKED, logging.INFO),
        (discord_error(400, 240000), BLOCKED, logging.INFO),
        (discord_error(403, 50001), NOT_ALLOWED, logging.WARNING),
        (discord_error(400, 50083), ARCHIVED, logging.INFO),
        (discord_error(400, 30046), LOCKED_OUT, logging.INFO),
        (discord_error(404, 10008), MESSAGE_GONE, logging.INFO),
        (discord_error(413, text="<html>"), TOO_LARGE, logging.WARNING),
        (discord_error(429, text="<html>"), DISCORD_BUSY, logging.WARNING),
        (discord_error(503, text="<html>"), DISCORD_DOWN, logging.WARNING),
        (discord_error(403, text="<!DOCTYPE html>"), DISCORD_DOWN, logging.WARNING),
        (discord_error(404, text="<html>"), DISCORD_DOWN, logging.WARNING),
        (discord_error(403, 40333), DISCORD_DOWN, logging.WARNING),
        (discord_error(400, 40006), DISCORD_DOWN, logging.WARNING),
        (discord_error(401), DISCORD_DOWN, logging.WARNING),
        (aiohttp.ServerDisconnectedError(), DISCORD_DOWN, logging.WARNING),
        (TimeoutError(), DISCORD_DOWN, logging.WARNING),
        (ConnectionResetError(), DISCORD_DOWN, logging.WARNING),
        (OSError(errno.EMFILE, "Too many open files"), EXHAUSTED, logging.ERROR),
        (aiohttp.ClientOSError(errno.EMFILE, "Too many"), EXHAUSTED, logging.ERROR),
        (MemoryError(), EXHAUSTED, logging.ERROR),
        (
            app_commands.TransformerError("99", discord.AppCommandOptionType.integer, Mock()),
            OUTDATED,
            logging.WARNING,
        ),
        (discord_error(400, 50035), UNEXPECTED, logging.ERROR),
    ],
)
def test_each_foreseen_failure_has_its_words_and_level(
    error: Exception, text: str, level: int
) -> None:
    assert error_response(error) == (level, text)
