"""`python -m bot` as a process: how it starts, fails and ends."""

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from tests.bot.loopback import LoopbackDiscord
from tests.bot.process import bot_process

AT_LOOPBACK = """
import discord, yarl
from bot.__main__ import (main)
discord.http.Route.BASE = "http://127.0.0.1:{port}/api/v10"
discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL("ws://127.0.0.1:{port}")
main()
"""


async def fails(*arguments: str, weights: Path, **environment: str) -> tuple[int, str]:
    """Run to the end; returns the exit code and the last line of stderr."""
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


async def test_no_token(weights: Path) -> None:
    code, line = await fails("-m", "bot", weights=weights)
    assert code == 2
    assert "DISCORD_TOKEN" in line
    assert "python -m bot rehearse" in line


async def test_make_run_without_a_token_rehearses(weights: Path) -> None:
    async with bot_process("-m", "bot", "--or-rehearse", weights=weights) as process:
        assert process.stdout is not None
        said = await asyncio.wait_for(process.stdout.readline(), 60)
        if not said:  # the port is taken on this machine, by a stage already open perhaps
            assert process.stderr is not None
            assert b"Cannot serve the page" in await process.stderr.read()
            return
        assert said.startswith(b"This is a rehearsal")
        assert b"http://127.0.0.1:8765/" in await process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    assert b"Traceback" not in err


async def test_bad_setting(weights: Path) -> None:
    code, line = await fails("-m", "bot", weights=weights, BARD_MAX_CHARS="5000")
    assert code == 2
    assert "BARD_MAX_CHARS is '5000'; allowed: a whole number from 1 to 4000" in line


async def test_missing_weights(tmp_path: Path) -> None:
    missing = tmp_path / "none.pth"
    code, line = await fails("-m", "bot", weights=missing, DISCORD_TOKEN="x")
    assert code == 1
    assert str(missing) in line


async def test_foreign_database(tmp_path: Path, weights: Path) -> None:
    database = tmp_path / "poem.txt"
    database.write_text("Shall I compare thee to a summer's day?\n" * 50)
    code, line = await fails(
        "-m", "bot", weights=weights, DISCORD_TOKEN="x", BARD_DATABASE=str(database)
    )
    assert code == 1
    assert str(database) in line


async def test_wrong_token(weights: Path) -> None:
    async with LoopbackDiscord().running() as server:
        code, line = await fails(
            "-c", AT_LOOPBACK.format(port=server.port), weights=weights, DISCORD_TOKEN="wrong"
        )
    assert code == 1
    assert "DISCORD_TOKEN" in line
    assert "wrong" not in line


async def test_no_network(weights: Path) -> None:
    code, line = await fails(
        "-c", AT_LOOPBACK.format(port=closed_port()), weights=weights, DISCORD_TOKEN="x"
    )
    assert code == 1
    assert "Cannot reach Discord" in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_stop(weights: Path, number: signal.Signals) -> None:
    async with LoopbackDiscord().running() as server:
        async with bot_process(
            "-c", AT_LOOPBACK.format(port=server.port), weights=weights, DISCORD_TOKEN="right"
        ) as process:
            await asyncio.wait_for(server.ready.wait(), 60)
            token = await server.slash("bard", prompt="ROMEO:", max_chars=400)
            await asyncio.wait_for(server.answered(1), 30)
            process.send_signal(number)
            _, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
        assert "Traceback" not in err.decode()
        assert "right" not in err.decode()
        # Whoever had asked still got the answer.
        assert token in server.edits


async def test_rehearsal_of_an_unknown_channel(weights: Path) -> None:
    code, line = await fails("-m", "bot", "rehearse", "--channel", "attic", weights=weights)
    assert code == 2
    assert "stage and tavern" in line


async def test_rehearsal_on_a_taken_port(weights: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, line = await fails("-m", "bot", "rehearse", "--port", str(port), weights=weights)
    assert code == 1
    assert "--port" in line


async def test_rehearsal_without_its_extra(weights: Path) -> None:
    hidden = (
        "import sys; sys.modules['simcord'] = None; sys.argv[1:] = ['rehearse'];"
        "from bot.__main__ import main; main()"
    )
    code, line = await fails("-c", hidden, weights=weights)
    assert code == 1
    assert "make run" in line
