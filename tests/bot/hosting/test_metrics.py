"""What the metrics say, and that the sample dashboard asks for nothing else."""

import asyncio
import json
import re
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import bot.core.inference
from bot import Bard, Settings
from bot.hosting.health import Health
from bot.hosting.metrics import PREFIX, Metrics
from bot.hosting.web import serving
from bot.observation import Snapshot, Training, TrainingState
from tests.wheel import run

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "deploy" / "grafana-dashboard.json"
FULL = Snapshot(
    weights="0123abcd",
    waiting=2,
    running=1,
    database_bytes=4096,
    training=Training(
        state=TrainingState.RUNNING, step=10, steps=20, train_loss=1.5, held_out_loss=1.6
    ),
)


def exported(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Return the names of the samples and of their labels."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            if not sample.name.endswith("_created"):  # the library adds them
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def own(samples: Iterable[str]) -> set[str]:
    """Return the names of the bot's metrics to which samples belong."""
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in samples}
    return {name for name in names if name.startswith(PREFIX)}


def complete() -> Metrics:
    """Return metrics of which none is missing."""
    metrics = Metrics()
    metrics.add_process()
    metrics.watch_connection(lambda: True)
    metrics.watch(lambda: FULL)
    return metrics


def expressions(node: Any) -> list[str]:
    """Return every expression in a dashboard."""
    if isinstance(node, dict):
        own = [value for key, value in node.items() if key in {"expr", "query"}]
        own = [value for value in own if isinstance(value, str) and value != "prometheus"]
        return own + [expr for value in node.values() for expr in expressions(value)]
    if isinstance(node, list):
        return [expr for value in node for expr in expressions(value)]
    return []


def test_dashboard_asks_for_metrics_and_labels_that_exist() -> None:
    found = exported(complete().registry)
    asked = expressions(json.loads(DASHBOARD.read_bytes()))
    used = set()
    for expression in asked:
        names = set(re.findall(r"\b(?:noskgpt|process|python)_\w+", expression))
        assert names, expression
        assert names <= set(found), expression
        labels = {label for name in names for label in found[name]}
        grouped = re.findall(r"\bby \(([^)]*)\)", expression)
        wanted = {label.strip() for group in grouped for label in group.split(",")}
        wanted |= set(re.findall(r"(\w+)=~?\"", expression))
        assert wanted <= labels, expression
        used |= names
    assert len(used) >= 15
    assert own(found) <= own(used), "each metric of the bot is on the dashboard"


def test_document_lists_every_metric() -> None:
    text = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    listed = {f"{PREFIX}{name}" for name in re.findall(r"^\| `(\w+)`", text, re.MULTILINE)}
    assert own(exported(complete().registry)) <= listed


def test_bot_without_the_server_imports_nothing_of_it() -> None:
    program = (
        "import sys, bot.__main__; print({'aiohttp.web', 'prometheus_client'} & {*sys.modules})"
    )
    assert run(sys.executable, "-c", program, cwd=ROOT) == "set()\n"


async def test_two_bots_in_a_process_are_counted_apart(settings: Settings, tmp_path: Path) -> None:
    other = settings.model_copy(
        update={"database": tmp_path / "other.sqlite3", "runs_dir": tmp_path / "other"}
    )
    metrics = [Metrics(), Metrics()]
    bards = [
        await Bard.open(each, observer=observer)
        for each, observer in zip((settings, other), metrics, strict=True)
    ]
    host = CollectorRegistry()
    host.register(metrics[0])
    try:
        await bards[0].inference.generate("", max_chars=10, temperature=1.0)
        counts = [
            observer.registry.get_sample_value(f"{PREFIX}generated_characters_total")
            for observer in metrics
        ]
        assert counts == [10, 0]
        assert exported(host) == exported(metrics[0].registry)
        assert f"{PREFIX}database_bytes" in exported(host)
    finally:
        for bard in bards:
            await bard.close()
    assert f"{PREFIX}database_bytes" not in exported(host), "the services are closed"


async def healthz(bard: Bard, caplog: pytest.LogCaptureFixture) -> tuple[int, str]:
    """Return the status and the text of /healthz of a bot with these services."""
    cog = SimpleNamespace(bard=bard)
    health = Health(cast("Any", SimpleNamespace(get_cog=lambda _name: cog)))
    with caplog.at_level("INFO"):
        async with serving("127.0.0.1", 0, health, Metrics()), aiohttp.ClientSession() as session:
            port = caplog.messages[-1].split(" on port ")[1].split()[0]
            async with session.get(f"http://127.0.0.1:{port}/healthz") as response:
                return response.status, await response.text()


async def test_busy_worker_is_alive_and_a_stalled_one_is_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bot.core.inference, "ANSWER_SECONDS", 0.01)
    bard = await Bard.open(settings.model_copy(update={"workers": 1}))
    inference = bard.inference
    began, gate = threading.Event(), threading.Event()
    generate = inference.model.generate

    def held(*args: Any, **options: Any) -> str:
        began.set()
        gate.wait()
        return generate(*args, **options)

    monkeypatch.setattr(inference.model, "generate", held)
    try:
        task = asyncio.create_task(inference.generate("", max_chars=5, temperature=1.0))
        await asyncio.to_thread(began.wait)
        assert await inference.is_alive()
        assert await inference.is_alive(), "the probe before still waits"
        with monkeypatch.context() as patch:
            patch.setattr(bot.core.inference, "STALL_SECONDS", 0.0)
            assert not await inference.is_alive()
            assert await healthz(bard, caplog) == (503, "the workers make no progress")
        gate.set()
        await task
        monkeypatch.setattr(bot.core.inference, "ANSWER_SECONDS", 60.0)
        assert await inference.is_alive()
        assert await healthz(bard, caplog) == (200, "ok")
    finally:
        gate.set()
        await bard.close()
