"""What the person who hosts the bot sees of it: log, health and metrics of the real process."""

import asyncio
import json
import signal
import stat
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.wire.conftest import Scene, new_scene, speech
from tests.wire.process import ROOT, BotProcess
from tests.wire.server import Discord
from tests.wire.town import speeches

ASK = """
import sys
import bot.hosting.alive
bot.hosting.alive.ASK_SECONDS = {seconds}
sys.argv[1:] = ["check", "--alive"]
from bot.__main__ import main
main()
"""
"""`check --alive`, with the time that it gives to the bot."""
NO_PAUSES = "import bot.hosting.login as login; login.FIRST_SECONDS = 0.01"
WORDS = "Wherefore doth the porcupine quarrel with Ophelia's umbrella"
"""A prompt that appears in a log only if prompts do."""


@dataclass
class Watched:
    """A bot that serves its health and metrics."""

    scene: Scene
    base: str
    folder: Path

    @property
    def bot(self) -> BotProcess:
        """The process."""
        return self.scene.bot

    async def get(self, path: str) -> tuple[int, str]:
        """Return the status and text of an answer."""
        async with aiohttp.ClientSession() as session, session.get(self.base + path) as response:
            return response.status, await response.text()

    async def samples(self) -> dict[str, float]:
        """Return the metrics by name and labels."""
        _, text = await self.get("/metrics")
        return {
            f"{sample.name}{sorted(sample.labels.values())}": sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def check(self, *, seconds: float = 30) -> tuple[int | None, str]:
        """Return the exit code and the output of `check --alive`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            ASK.format(seconds=seconds),
            env={"PYTHONPATH": str(ROOT), "BARD_DATABASE": str(self.bot.database)},
            cwd=self.folder,
            stdout=PIPE,
        )
        out, _ = await process.communicate()
        return process.returncode, out.decode()


@asynccontextmanager
async def watched(
    discord: Discord, folder: Path, weights: Path, **settings: str
) -> AsyncIterator[Watched]:
    settings = {"BARD_HTTP_PORT": "0", **settings}
    bot = BotProcess(discord, folder, weights, first=NO_PAUSES, **settings)
    try:
        await bot.start()
        async with new_scene(discord, bot) as scene:
            line = json.loads(await bot.logged("Serving /healthz"))["message"]
            await bot.logged("Ready as")
            port = line.split(" on port ")[1].split()[0]
            yield Watched(scene, f"http://127.0.0.1:{port}", folder)
    finally:
        await bot.close()


async def test_log_at_debug_has_no_token_and_no_words_of_members(
    weights: Path, tmp_path: Path
) -> None:
    async with (
        Discord().running() as discord,
        watched(discord, tmp_path, weights, BARD_LOG_LEVEL="DEBUG") as it,
    ):
        scene = it.scene
        shown = await speech(await scene.ask(WORDS))
        typed = await discord.typed("bard", "prompt", WORDS, by=scene.ben, at=scene.garden)
        await typed.suggestions()
        await speech(await scene.press(shown, "Continue"))
        note = discord.post(scene.ben, scene.garden, WORDS)
        await speech(await discord.menu("Continue as Shakespeare", note, by=scene.ben))
        texts = await scene.read()
        discord.faults.refuses("PATCH @original", 400, 50035)
        refused = await scene.ask(WORDS)
        apology = (await refused.private("Error id")).text
        assert await it.bot.stop() == 0

        records: list[dict[str, Any]] = [json.loads(line) for line in it.bot.lines]
        log = "\n".join(it.bot.lines)
        assert {"discord.gateway", "discord.http", "discord.webhook.async_"} <= {
            record["logger"] for record in records
        }, "the library logs at DEBUG"
        assert "INTERACTION_CREATE" in log
        tokens = {interaction.token for interaction in discord.world.interactions.values()}
        assert len(tokens) >= 6
        said = {word for text in (WORDS, *texts) for word in [text, *text.split("\n")] if word}
        for secret in {*tokens, *said, "porcupine", f"Bot {discord.token}"}:
            assert secret not in log
        (failed,) = [record for record in records if "error_id" in record]
        assert failed["error_id"] in apology
        assert failed["level"] == "ERROR"
        assert "HTTPException" in failed["traceback"]
        (invitation,) = [record for record in records if "Invite" in record["message"]]
        assert "scope=bot+applications.commands" in invitation["message"]


async def test_metrics_count_what_happened(weights: Path, tmp_path: Path) -> None:
    async with (
        Discord().running() as discord,
        watched(discord, tmp_path, weights, BARD_COOLDOWN="3600") as it,
    ):
        reply = await speech(await it.scene.ask(WORDS))
        await (await it.scene.ask(WORDS)).private("Patience")
        assert await it.get("/readyz") == (200, "ok")
        values = await it.samples()
        async with asyncio.timeout(60):
            # A request is counted when it has ended, just after its reply is seen.
            while not values["noskgpt_bard_requests_total['replied']"]:
                values = await it.samples()
        _, text = await it.get("/metrics")

        def value(name: str, *labels: str) -> float:
            return values[f"noskgpt_bard_{name}{sorted(labels)}"]

        assert value("requests_total", "replied") == 1
        assert value("requests_total", "rejected") == 1
        assert value("rejections_total", "cooldown") == 1
        assert value("reply_seconds_count") == 1
        assert value("acknowledge_seconds_count") == 2
        assert value("generated_characters_total") >= len(speeches(reply)[0])
        assert value("generation_seconds_total") > 0
        assert value("connected") == 1
        assert value("requests_waiting") == value("requests_running") == 0
        assert value("training_state", "idle") == 1
        assert value("database_bytes") >= it.bot.database.stat().st_size
        assert "process_resident_memory_bytes[]" in values
        for person in (it.scene.ann.id, it.scene.ben.id, it.scene.guild.id, it.scene.garden.id):
            assert person not in text
        assert "porcupine" not in text


async def test_check_alive_tells_a_bot_that_answers_from_one_that_does_not(
    weights: Path, tmp_path: Path
) -> None:
    # A path that is too long for the address of a socket, as folders of hosts may be.
    folder = tmp_path / ("long" * 20) / ("longer" * 20)
    folder.mkdir(parents=True)
    async with Discord().running() as discord, watched(discord, folder, weights) as it:
        code, line = await it.check()
        assert (code, line.count("\n")) == (0, 1), line
        (opened,) = folder.glob("*.sock")
        assert stat.S_IMODE(opened.stat().st_mode) == 0o600

        process = it.bot._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        code, line = await it.check(seconds=0.2)
        assert code == 1
        assert "event loop does not answer" in line
        process.send_signal(signal.SIGCONT)

        await it.bot.kill()
        code, line = await it.check()
        assert code == 1
        assert "no bot runs" in line
        assert opened.exists(), "a kill leaves the socket"
        it.bot.lines.clear()
        await it.bot.start()
        await it.bot.logged("Ready as")
        assert (await it.check())[0] == 0

        assert await it.bot.stop() == 0
        assert not opened.exists()


async def test_outage_is_one_line_and_not_ready(weights: Path, tmp_path: Path) -> None:
    async with Discord().running() as discord, watched(discord, tmp_path, weights) as it:
        assert await it.get("/readyz") == (200, "ok")
        discord.gateway.away = True
        discord.gateway.drop()
        line = json.loads(await it.bot.logged("Attempting a reconnect"))
        assert "traceback" not in line
        assert "503" in line["message"]
        status, text = await it.get("/readyz")
        assert (status, text) == (503, "Discord is not connected")
        assert (await it.get("/healthz"))[0] == 200, "a restart would not help"
        code, said = await it.check()
        assert (code, "Discord is not connected" in said) == (1, True)
        discord.gateway.away = False
        await it.bot.logged("RESUMED")
        await speech(await it.scene.ask("ROMEO:"))
        assert await it.get("/readyz") == (200, "ok")


async def test_bot_waits_for_a_discord_that_cannot_be_reached_at_first(
    weights: Path, tmp_path: Path
) -> None:
    async with Discord().running() as discord:
        discord.faults.drops("GET me", times=2)
        discord.faults.bans("GET application").headers["Retry-After"] = "0"
        async with watched(discord, tmp_path, weights) as it:
            attempts = [line for line in it.bot.lines if "Trying again" in line]
            assert len(attempts) >= 2
            assert "Cannot reach Discord" in attempts[0]
            assert "429 Too Many Requests" in attempts[-1]
            await speech(await it.scene.ask("ROMEO:"))
            assert await it.bot.stop() == 0
            assert not [line for line in it.bot.lines if "nclosed" in line]


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
async def test_port_that_is_taken_is_one_line_and_touches_no_file(
    level: str, weights: Path, tmp_path: Path
) -> None:
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with taken, Discord().running() as discord:
        port = str(taken.sockets[0].getsockname()[1])
        bot = BotProcess(discord, tmp_path, weights, BARD_HTTP_PORT=port, BARD_LOG_LEVEL=level)
        try:
            with pytest.raises(AssertionError, match="the bot ended with 1"):
                await bot.start()
        finally:
            await bot.close()
        errors = [line for line in bot.lines if line.startswith("bard: ")]
        assert len(errors) == 1
        assert "BARD_HTTP_PORT" in errors[0]
        assert not [*tmp_path.iterdir()]  # noqa: ASYNC240 - the process has ended
