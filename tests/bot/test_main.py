"""`python -m bot` as a process: startup, exit codes and shutdown."""

import asyncio
import signal
import socket
import sqlite3
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from bot.errors import Reason
from bot.ui.responses import REJECTIONS
from noskgpt import commands
from tests.bot.process import (
    LOADING_HANGS,
    REPLIES_HANG,
    REPLIES_WAIT,
    bot_process,
    clean_end,
    created,
)
from tests.wire.faults import When
from tests.wire.server import Discord

RUN_AT_LOOPBACK = """
import discord, yarl
from bot.__main__ import (main)
discord.http.Route.BASE = "http://127.0.0.1:{port}/api/v10"
discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL("ws://127.0.0.1:{port}")
main()
"""
WITHOUT_A_LIMIT = """
import bot.bard, bot.signals
bot.bard.GRACE_SECONDS = bot.signals.END_SECONDS = 1000
"""
AT_ONCE = "import bot.signals; bot.signals.END_SECONDS = 0"
WITHOUT_SIMCORD = """
import sys
from bot.__main__ import main
sys.modules["simcord"] = None
main()
"""
CLOSING = REJECTIONS[Reason.CLOSING]


@asynccontextmanager
async def connected_bot(
    server: Discord, weights: Path, program: str = "", **environment: str
) -> AsyncIterator[Process]:
    """Run the bot after a program, until the server has seen it connect."""
    program += RUN_AT_LOOPBACK.format(port=server.port)
    environment |= {"DISCORD_TOKEN": server.token}
    identified = server.gateway.identified
    async with bot_process("-c", program, weights=weights, **environment) as process:
        await server.gateway.has_identified(identified + 1)
        yield process


def contents(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


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
    # In the working directory of the test, the interpreter has its folder in front.
    assert f"`{sys.executable} -m bot rehearse`" in line


async def test_missing_token_without_the_stage(weights: Path) -> None:
    code, line = await startup_error("-c", WITHOUT_SIMCORD, weights=weights)
    assert code == 2
    assert "DISCORD_TOKEN" in line
    assert "rehearse" not in line


async def test_prints_its_version(weights: Path) -> None:
    async with bot_process("-m", "bot", "--version", weights=weights) as process:
        out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out.decode()) == (0, f"{commands.version()}\n")


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
    async with Discord().running() as server:
        code, line = await startup_error(
            "-c", RUN_AT_LOOPBACK.format(port=server.port), weights=weights, DISCORD_TOKEN="wrong"
        )
    assert code == 1
    assert "DISCORD_TOKEN" in line
    assert "wrong" not in line


async def waiting_line(process: Process) -> str:
    """Wait for the line of the log that says that the bot waits for Discord; return it."""
    assert process.stderr is not None
    async with asyncio.timeout(120):
        while "Trying again in" not in (line := (await process.stderr.readline()).decode()):
            assert line, "the bot has ended"
    return line


async def test_signal_while_discord_is_unreachable_ends_the_process_at_once(weights: Path) -> None:
    program = WITHOUT_A_LIMIT + "import bot.hosting.login as login; login.FIRST_SECONDS = 1000"
    program += RUN_AT_LOOPBACK.format(port=closed_port())
    async with bot_process(
        "-c", program, weights=weights, DISCORD_TOKEN="x", BARD_LOG_FORMAT="text"
    ) as process:
        assert "Cannot reach Discord" in await waiting_line(process)
        process.send_signal(signal.SIGTERM)
        assert "Stopped" in await clean_end(process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_signal_shuts_down_after_the_reply_in_progress(
    weights: Path, number: signal.Signals
) -> None:
    async with (
        Discord().running() as server,
        connected_bot(server, weights) as process,
    ):
        asked = await server.slash("bard", prompt="ROMEO:", max_chars=400)
        await asked.acknowledged()
        process.send_signal(number)
        assert "right" not in await clean_end(process)
        assert (await asked.reply()).embeds


async def test_signal_with_a_full_queue_tells_everybody(weights: Path, tmp_path: Path) -> None:
    async with (
        Discord().running() as server,
        connected_bot(server, weights, REPLIES_WAIT, BARD_QUEUE="5") as process,
    ):
        running = await server.slash("bard", prompt="ROMEO:", max_chars=9)
        await created(tmp_path / "generating")
        waiting = [
            await server.slash("bard", prompt="JULIET:", by=server.person(f"Person {number}"))
            for number in range(5)
        ]
        for asked in waiting:
            await asked.says("in line")
        process.send_signal(signal.SIGTERM)
        for asked in waiting:
            rejection = await asked.private(CLOSING)
            assert asked.messages() == [rejection]  # the status is gone
        # The gateway is still open.
        late = await server.slash("bard", prompt="NURSE:", by=server.person("Late"))
        await late.private(CLOSING)
        assert not running.interaction.followups
        (tmp_path / "gate").touch()
        await clean_end(process)
        assert (await running.reply()).embeds[0]["title"] == "ROMEO:"


async def test_second_signal_ends_the_requests_in_progress(weights: Path, tmp_path: Path) -> None:
    async with (
        Discord().running() as server,
        connected_bot(server, weights, REPLIES_WAIT + WITHOUT_A_LIMIT) as process,
    ):
        running = await server.slash("bard", prompt="ROMEO:")
        await created(tmp_path / "generating")
        waiting = await server.slash("bard", prompt="JULIET:")
        await waiting.acknowledged()
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        await clean_end(process)
        for asked in (running, waiting):
            await asked.private(CLOSING)


async def test_third_signal_ends_the_process_at_once(weights: Path, tmp_path: Path) -> None:
    async with (
        Discord().running() as server,
        connected_bot(server, weights, REPLIES_HANG + WITHOUT_A_LIMIT) as process,
    ):
        await server.slash("bard", prompt="ROMEO:")
        await created(tmp_path / "generating")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
        await clean_end(process)


async def test_process_that_hangs_ends_at_the_limit(weights: Path, tmp_path: Path) -> None:
    async with (
        Discord().running() as server,
        connected_bot(server, weights, REPLIES_HANG + AT_ONCE) as process,
    ):
        await server.slash("bard", prompt="ROMEO:")
        await created(tmp_path / "generating")
        process.send_signal(signal.SIGTERM)
        await clean_end(process)


async def test_second_signal_ends_an_export_under_way(weights: Path) -> None:
    async with (
        Discord().running() as server,
        connected_bot(server, weights, WITHOUT_A_LIMIT) as process,
    ):
        await (await server.slash("bard", prompt="ROMEO:", max_chars=9)).reply()
        held = server.faults.holds("POST followup", When.BEFORE)
        exporting = await server.slash("scene export", what="all about me, as JSON")
        await server.struck(held)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        await exporting.private(CLOSING)
        await clean_end(process)
        server.faults.clear()


async def test_signal_while_the_weights_load(weights: Path, tmp_path: Path) -> None:
    async with Discord().running() as server:
        program = LOADING_HANGS + RUN_AT_LOOPBACK.format(port=server.port)
        async with bot_process("-c", program, weights=weights, DISCORD_TOKEN="right") as process:
            await created(tmp_path / "generating")
            process.send_signal(signal.SIGTERM)
            (tmp_path / "gate").touch()
            await clean_end(process)
        assert not server.gateway.identified


async def test_signal_while_discord_does_not_answer_the_login(weights: Path) -> None:
    asked = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
        program = RUN_AT_LOOPBACK.format(port=server.sockets[0].getsockname()[1])
        async with bot_process("-c", program, weights=weights, DISCORD_TOKEN="x") as process:
            await asyncio.wait_for(asked.wait(), 120)
            process.send_signal(signal.SIGTERM)
            await clean_end(process)


async def test_signal_while_discord_is_away(weights: Path, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        online = await stack.enter_async_context(AsyncExitStack())
        server = await online.enter_async_context(Discord().running())
        program = f"{REPLIES_WAIT}\nimport bot.ui.interactions as ui; ui.PAUSES = (0.1,)"
        process = await stack.enter_async_context(connected_bot(server, weights, program))
        assert process.stderr is not None
        await server.slash("bard", prompt="ROMEO:", max_chars=9)
        await created(tmp_path / "generating")
        await online.aclose()
        (tmp_path / "gate").touch()
        log = b""
        async with asyncio.timeout(240):
            while b"not known whether" not in log or b"Attempting a reconnect" not in log:
                log += await process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        _, rest = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0
    assert b"never retrieved" not in log + rest


async def test_token_that_is_reset_while_the_bot_runs_is_named(weights: Path) -> None:
    async with Discord().running() as server, connected_bot(server, weights) as process:
        server.gateway._token = "another"  # noqa: S105 - of a test server
        server.gateway.drop()
        _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    (line,) = [line for line in err.decode().splitlines() if line.startswith("bard: ")]
    assert "rejected the token in DISCORD_TOKEN" in line


async def test_second_bot_on_the_same_files_changes_nothing(weights: Path, tmp_path: Path) -> None:
    database = tmp_path / "bard.sqlite3"
    (tmp_path / "rehearsal-link.sqlite3").symlink_to(database)
    async with (
        Discord().running() as server,
        connected_bot(server, weights, BARD_DATABASE=str(database)) as process,
    ):
        asked = await server.slash("bard", prompt="ROMEO:", max_chars=9)
        await asked.reply()
        # The reply is recorded before the scene is read.
        await (await server.slash("scene show")).reply()
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(
                "INSERT INTO runs (user_id, channel_id, preset, minutes, started_at)"
                " VALUES (1, 2, 'quick', 1, 0)"
            )
        before = contents(database)
        for command, name in (
            (["-c", RUN_AT_LOOPBACK.format(port=server.port)], "bard.sqlite3"),
            (["-m", "bot", "rehearse", "--port", "0"], "link.sqlite3"),
        ):
            code, line = await startup_error(
                *command, weights=weights, DISCORD_TOKEN="right", BARD_DATABASE=name
            )
            assert code == 1
            assert f"{database} is in use by another bot" in line
            assert "BARD_DATABASE" in line
        assert contents(database) == before
        process.kill()
        await process.wait()
        # The next one starts, and finds the run that the kill interrupted.
        async with connected_bot(server, weights, BARD_DATABASE=str(database)) as after:
            after.send_signal(signal.SIGTERM)
            assert "interrupted" in await clean_end(after)


NOBODY_READS_THE_LOG = """
import os, sys
_, full = os.pipe()
os.set_blocking(full, False)
try:
    while True:
        os.write(full, bytes(4096))
except BlockingIOError:
    os.set_blocking(full, True)
sys.stderr = os.fdopen(full, "w")
"""


async def test_log_that_nobody_reads_delays_no_reply_and_no_end(weights: Path) -> None:
    async with (
        Discord().running() as server,
        connected_bot(server, weights, NOBODY_READS_THE_LOG) as process,
    ):
        asked = await server.slash("bard", prompt="ROMEO:", max_chars=9)
        assert (await asked.reply()).embeds
        process.send_signal(signal.SIGTERM)
        await clean_end(process)


BACKUP_HANGS = """
import pathlib, time
from bot.__main__ import main
from bot.hosting import backup
def hang(*_, **__):
    pathlib.Path("begun").touch()
    time.sleep(1000)
backup.save_backup = hang
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_command_that_a_signal_ends_does_not_pass_for_done(
    weights: Path, tmp_path: Path, number: signal.Signals
) -> None:
    async with bot_process("-c", BACKUP_HANGS, "backup", "copy", weights=weights) as process:
        await created(tmp_path / "begun")
        process.send_signal(number)
        _, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, err) == (128 + number, b"")


@pytest.mark.parametrize(
    ("status", "said"),
    [(503, "503 Service Unavailable"), (429, "429 Too Many Requests"), (200, "portal or a proxy")],
)
async def test_page_of_html_is_one_short_line(weights: Path, status: int, said: str) -> None:
    async with Discord().running() as server:
        server.faults.fails("GET me", status, times=9)
        program = RUN_AT_LOOPBACK.format(port=server.port)
        async with bot_process(
            "-c", program, weights=weights, DISCORD_TOKEN="right", BARD_LOG_FORMAT="text"
        ) as process:
            line = await waiting_line(process)
            process.send_signal(signal.SIGTERM)
            await clean_end(process)
    assert said in line
    assert "<" not in line
    assert len(line) < 250


async def test_rehearsal_in_an_unknown_channel(weights: Path) -> None:
    code, line = await startup_error("-m", "bot", "rehearse", "--channel", "attic", weights=weights)
    assert code == 2
    assert "stage and tavern" in line


async def test_rehearsal_on_a_port_in_use(weights: Path, tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        code, line = await startup_error(
            "-m", "bot", "rehearse", "--port", str(port), weights=weights
        )
    assert code == 1
    assert "--port" in line
    assert not [*tmp_path.iterdir()]  # noqa: ASYNC240 - the process has ended; no file was opened


async def test_rehearsal_without_simcord(weights: Path) -> None:
    code, line = await startup_error("-c", WITHOUT_SIMCORD, "rehearse", weights=weights)
    assert code == 1
    assert "make run" in line
