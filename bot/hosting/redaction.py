"""Keep tokens, and what members write, out of log records.

The bot itself logs neither. discord.py does at DEBUG: it logs every event and every request with
its content, and addresses that hold the token of an interaction.
"""

import copy
import json
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

import discord
from discord import app_commands

REMOVED = "[removed]"

_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        # Addresses: /interactions/ID/TOKEN/callback and /webhooks/ID/TOKEN/...
        r"(?<=/interactions/)(?P<kept>\d+/)[^/\s?&'\")]+",
        r"(?<=/webhooks/)(?P<kept>\d+/)[^/\s?&'\")]+",
        # Fields of JSON or of a dictionary.
        r"(?P<kept>[\"'](?:token|session_id|authorization)[\"']\s*:\s*[\"'])[^\"']+",
        # An interaction's token: "interaction:" and more, in base64.
        r"(?P<kept>)aW50ZXJhY3Rpb246[\w+/=-]+",
    )
)
_CONTENT = "{[<\"'"
"""What a text begins with that is JSON or HTML, and not a name, a method or a route."""
_LONGEST_NAME = 200


class Redactor:
    """Remove tokens and contents from records.

    Args:
        secrets: Texts to remove wherever they are, such as the bot's token.
    """

    def __init__(self, *secrets: str) -> None:
        self._secrets = tuple(secret for secret in secrets if secret)

    def text(self, text: str, *more: str) -> str:
        """Return a text without tokens, and without some more texts."""
        for secret in (*self._secrets, *more):
            text = text.replace(secret, REMOVED)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\g<kept>{REMOVED}", text)
        return text

    @staticmethod
    def record(record: logging.LogRecord) -> logging.LogRecord:
        """Return a record whose arguments are no contents; it is a copy, for one handler alone.

        Only records of discord.py are changed: the others have no such arguments.
        """
        record = copy.copy(record)
        if record.name.split(".")[0] == "discord" and record.args:
            # A single dictionary is given without a tuple around it.
            arguments = record.args if isinstance(record.args, tuple) else (record.args,)
            record.args = tuple(_harmless(argument) for argument in arguments)
        return record


def values_in(error: BaseException | None) -> Iterator[str]:
    """Yield the texts of an error, its causes and contexts that contain what a member wrote."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        error = pending.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        if isinstance(error, app_commands.TransformerError):
            yield str(error)
        pending += [error.__cause__, error.__context__]


def _harmless(argument: Any) -> object:  # noqa: ANN401 - any argument of a record
    """Return an argument of a record of discord.py, or a description of it if it has contents."""
    match argument:
        case None | bool() | int() | float() | discord.Object():
            return argument
        case BaseException():
            return str(argument)
        case str():
            if argument[:1] in _CONTENT and argument:
                return _described(argument)
            return argument if len(argument) <= _LONGEST_NAME else _described(argument)
        case Mapping():
            return _event(argument)
    kind = type(argument).__name__
    return str(argument) if kind == "URL" else f"<{kind}>"


def _described(text: str) -> str:
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if isinstance(content, dict):
        return _event(content)
    return f"<{len(text)} characters>"


def _event(content: Mapping[Any, Any]) -> str:
    """Return what kind of event of the gateway, or how large another answer is."""
    if "op" in content:
        return f"<op {content['op']}, {content.get('t')}>"
    return f"<{len(content)} fields>"
