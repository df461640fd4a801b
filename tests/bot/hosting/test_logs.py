"""The two formats of the log, and what is kept out of both."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from aiohttp import ClientError
from discord import AppCommandOptionType, app_commands

from bot import Settings
from bot.hosting import logs
from bot.ui.interactions import brief
from tests.bot.process import run_program

Format = Literal["text", "json"]
TOKEN = "aW50ZXJhY3Rpb246MTIzNDU2Nzg5MDpBYkNk"  # noqa: S105 - of no interaction


class Stream(io.StringIO):
    """A stream that is read after all was written."""

    def getvalue(self) -> str:
        for handler in logging.getLogger().handlers:
            handler.flush()
        return super().getvalue()


class Terminal(Stream):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., io.StringIO]]:
    """Return a function that configures the log; all loggers are as before at the end."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    levels = {name: logging.getLogger(name).level for name in ("", *logs.LEVELS_OF)}

    def configured(*, stream: io.StringIO | None = None, **settings: object) -> io.StringIO:
        root.handlers.clear()
        stream = stream or Stream()
        logs.configure(Settings.model_validate({"log_level": "DEBUG", **settings}), stream)
        return stream

    yield configured
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


FINALIZED = """
import io, logging, sys
from bot.hosting.logs import LineWriter

stream = io.StringIO()
handler = LineWriter(stream)
logger = logging.getLogger()
logger.addHandler(handler)
number = interrupted = 0
while interrupted == number:
    number += 1
    calls = 0

    def finalize(frame, event, argument):
        global calls, interrupted
        if event in {"call", "c_call"}:
            calls += 1
            if calls == number:
                interrupted += 1
                logger.warning("finalized")

    sys.setprofile(finalize)
    logger.warning("line")
    sys.setprofile(None)
handler.flush()
assert number > 10, "too few interruptions"
assert stream.getvalue().count("line\\n") == number
assert stream.getvalue().count("finalized\\n") == interrupted
"""


def test_object_that_logs_when_it_is_collected_does_not_hang() -> None:
    # The library's tasks and connections do, and it may happen at each call within another line.
    assert run_program(FINALIZED) == (0, "")


def test_terminal_gets_text_and_a_pipe_gets_json(
    configure: Callable[..., io.StringIO],
) -> None:
    for stream, readable in ((Terminal(), True), (Stream(), False)):
        configure(stream=stream)
        logging.getLogger("bot").info("All the world's a stage")
        assert stream.getvalue().startswith("{") is not readable
        assert "All the world's a stage" in stream.getvalue()


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    """Return an error with a traceback."""
    with pytest.raises(type(error)):
        raise error from cause
    return error


def test_json_is_one_line_with_the_error_id_and_the_traceback(
    configure: Callable[..., io.StringIO],
) -> None:
    stream = configure(log_format="json")
    error = raised(ValueError("a line\nand another: “é”"))
    log = logging.getLogger("bot.x")
    log.error("Error %s", "a1", exc_info=error, extra={"error_id": "a1"})
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert (record["level"], record["logger"]) == ("ERROR", "bot.x")
    assert (record["message"], record["error_id"]) == ("Error a1", "a1")
    assert record["traceback"].startswith("Traceback")
    assert record["traceback"].endswith("ValueError: a line\nand another: “é”")
    assert record["time"].endswith("Z")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_tokens_and_contents_of_the_library_are_removed(
    configure: Callable[..., io.StringIO], log_format: Format
) -> None:
    stream = configure(log_format=log_format, DISCORD_TOKEN="bot.token.secret")
    library = logging.getLogger("discord.http")
    event = {"op": 0, "t": "INTERACTION_CREATE", "d": {"token": TOKEN, "value": "my words"}}
    library.debug("For Shard ID %s: WebSocket Event: %s", None, event)
    library.debug("Received error %s", event)
    library.debug("%s %s received %s", "POST", "https://x/webhooks/12/short-one?wait=1", [event])
    library.debug("%s with %s", "POST", json.dumps(event))
    library.debug("%s with %s", "POST", json.dumps([event]))
    other = logging.getLogger("bot.ui")
    url = "URL('https://x/api/v10/interactions/34/short-two/callback')"
    other.error(
        "Failed: %s",
        "https://x/webhooks/12/short-three/messages/@original",
        exc_info=raised(RuntimeError(f"{url}, {{'token': 'short-four'}}")),
    )
    other.info("Authorization: Bot bot.token.secret, %s", TOKEN)
    log = stream.getvalue()
    for secret in ("short-", TOKEN, "bot.token.secret", "my words"):
        assert secret not in log
    assert log.count("INTERACTION_CREATE") == 3
    assert "/webhooks/12/[removed]" in log
    assert "/interactions/34/[removed]/callback" in log


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_option_that_cannot_be_read_is_not_quoted(
    configure: Callable[..., io.StringIO], log_format: Format
) -> None:
    stream = configure(log_format=log_format)
    words = "Wherefore art thou"
    option = app_commands.TransformerError(
        words, AppCommandOptionType.string, app_commands.Transformer()
    )
    error = raised(RuntimeError("later"), raised(option))
    logging.getLogger("bot.ui").error("It failed: %s", brief(option), exc_info=error)
    assert "TransformerError" in stream.getvalue()
    assert "An option is not of the type string" in stream.getvalue()
    assert words not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_late_heartbeat_is_explained_once(
    configure: Callable[..., io.StringIO], log_format: Format
) -> None:
    stream = configure(log_format=log_format)
    for seconds in (11.0, 12.0, 13.0):
        logging.getLogger("discord.gateway").warning(
            "Can't keep up, shard ID %s websocket is %.1fs behind.", None, seconds
        )
    log = stream.getvalue()
    assert log.count("Can't keep up") == 3
    assert log.count("BARD_WORKERS") == 1
    assert log.index("BARD_WORKERS") < log.index("12.0s")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_outage_has_no_traceback_and_another_error_of_the_library_has(
    configure: Callable[..., io.StringIO], log_format: Format
) -> None:
    stream = configure(log_format=log_format)
    library = logging.getLogger("discord.client")
    for error in (ConnectionResetError(104, "reset by peer"), TimeoutError(), ClientError("down")):
        library.error("Attempting a reconnect in %.2fs", 3.2, exc_info=raised(error))
    assert len(stream.getvalue().splitlines()) == 3
    assert "Traceback" not in stream.getvalue()
    assert "in 3.20s: [Errno 104] reset by peer" in stream.getvalue()
    library.error("Ignoring exception", exc_info=raised(KeyError("id")))
    assert "Traceback" in stream.getvalue()
