"""`python -m bot` as a process: startup, exit codes and shutdown."""

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from tests.bot.loopback import LoopbackDiscord
from tests.bot.process import bot_process

RUN_AT_LOOPBACK = """
import discord, yarl
from bot.__main__ import (main)
discord.http.Route.BASE = "http://127.0.0.1:{port}/api/v10"
discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL("ws://127.0.0.1:{port}")
main()
"""


async def startup_error(*arguments: str, weights: Path, **environment: str) -> tuple[int, str]:
    """Run until the process ends; return its exit code and the error line, the last of stderr."""
    async with bot_process(*arguments, weights=weights, **environment) as process:
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
    assert not out
    assert "Traceback" not in err.decode()
    lines = [line for line in err.decode().splitlines() if line.startswith("bard: ")]
    assert len(lines) == 1
    assert err.decode().endswith(f"{lines[0]}\n")
    return process.returncode, lines[0]


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_missing_token(weights: Path) -> None:
    code, line = await startup_error("-m", "bot", weights=weights)
    assert code == 2
    assert "DISCORD_TOKEN" in line
    assert "python -m bot rehearse" in line


async def test_or_rehearse_without_a_token_serves_the_page(weights: Path) -> None:
    async with bot_process("-m", "bot", "--or-rehearse", weights=weights) as process:
        assert process.stdout is not None
        first_line = await asyncio.wait_for(process.stdout.readline(), 60)
        if not first_line:  # the default port may be in use on this machine
            assert process.stderr is not None
            assert b"Cannot serve the page" in await process.stderr.read()
            return
        assert first_line.startswith(b"This is a rehearsal")
        assert b"http://127.0.0.1:8765/" in await process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    assert b"Traceback" not in err


async def test_invalid_setting(weights: Path) -> None:
    code, line = await startup_error("-m", "bot", weights=weights, BARD_MAX_CHARS="5000")
    assert code == 2
    assert "BARD_MAX_CHARS is '5000'; allowed: a whole number from 1 to 4000" in line


async def test_missing_weights(tmp_path: Path) -> None:
    missing = tmp_path / "none.pth"
    code, line = await startup_error("-m", "bot", weights=missing, DISCORD_TOKEN="x")
    assert code == 1
    assert str(missing) in line


async def test_file_that_is_no_database(tmp_path: Path, weights: Path) -> None:
    database = tmp_path / "poem.txt"
    database.write_text("Shall I compare thee to a summer's day?\n" * 50)
    code, line = await startup_error(
        "-m", "bot", weights=weights, DISCORD_TOKEN="x", BARD_DATABASE=str(database)
    )
    assert code == 1
    assert str(database) in line


async def test_wrong_token(weights: Path) -> None:
    async with LoopbackDiscord().running() as server:
        code, line = await startup_error(
            "-c", RUN_AT_LOOPBACK.format(port=server.port), weights=weights, DISCORD_TOKEN="wrong"
        )
    assert code == 1
    assert "DISCORD_TOKEN" in line
    assert "wrong" not in line


async def test_unreachable_discord(weights: Path) -> None:
    code, line = await startup_error(
        "-c", RUN_AT_LOOPBACK.format(port=closed_port()), weights=weights, DISCORD_TOKEN="x"
    )
    assert code == 1
    assert "Cannot reach Discord" in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_shuts_down_after_the_reply_in_progress(
    weights: Path, number: signal.Signals
) -> None:
    async with LoopbackDiscord().running() as server:
        async with bot_process(
            "-c", RUN_AT_LOOPBACK.format(port=server.port), weights=weights, DISCORD_TOKEN="right"
        ) as process:
            await asyncio.wait_for(server.ready.wait(), 60)
            token = await server.slash("bard", prompt="ROMEO:", max_chars=400)
            await asyncio.wait_for(server.acknowledged(1), 30)
            process.send_signal(number)
            _, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
        assert "Traceback" not in err.decode()
        assert "right" not in err.decode()
        assert token in server.edits


async def test_rehearsal_in_an_unknown_channel(weights: Path) -> None:
    code, line = await startup_error("-m", "bot", "rehearse", "--channel", "attic", weights=weights)
    assert code == 2
    assert "stage and tavern" in line


async def test_rehearsal_on_a_port_in_use(weights: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        code, line = await startup_error(
            "-m", "bot", "rehearse", "--port", str(port), weights=weights
        )
    assert code == 1
    assert "--port" in line


async def test_rehearsal_without_simcord(weights: Path) -> None:
    without_simcord = (
        "import sys; sys.modules['simcord'] = None; sys.argv[1:] = ['rehearse'];"
        "from bot.__main__ import main; main()"
    )
    code, line = await startup_error("-c", without_simcord, weights=weights)
    assert code == 1
    assert "make run" in line
