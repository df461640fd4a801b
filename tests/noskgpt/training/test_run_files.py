"""Test saved runs: kill, stop and resume real training processes."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from noskgpt import archive
from noskgpt import checkpoint as checkpoints
from noskgpt.corpus import load_corpus
from noskgpt.errors import CheckpointError, TrainingError
from noskgpt.limits import MAX_STATE_BYTES
from noskgpt.runs import NotSaved, Progress, run_path
from noskgpt.training import run_files
from noskgpt.training import trainer as trainers
from noskgpt.training.distributed import Group
from noskgpt.training.recipe import TrainingConfig
from noskgpt.training.trainer import Trainer
from noskgpt.training.updates import Updates
from tests.noskgpt.test_cli import noskgpt

STEPS = ("--steps", "20", "--batch", "4", "--dropout", "0.1", "--precision", "fp32")
CPU = Group(torch.device("cpu"))


@pytest.fixture(scope="module")
def uninterrupted(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the weights file of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs")
    done = noskgpt("train", "--corpus", small_corpus, *STEPS, "--out", "new.pth", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "new.pth"


def watch(
    corpus: Path, folder: Path, until: Callable[[dict[str, Any]], bool], *options: str
) -> tuple[subprocess.Popen[str], list[dict[str, Any]]]:
    """Start a run that saves after every event; return it at the first event `until` accepts."""
    command = [sys.executable, "-m", "noskgpt", "train", "--corpus", str(corpus), *STEPS]
    process = subprocess.Popen(  # noqa: S603
        [*command, "--out", "new.pth", "--json", "--save-seconds", "0", *options],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    events: list[dict[str, Any]] = []
    assert process.stdout is not None
    for line in process.stdout:
        events.append(json.loads(line))
        if until(events[-1]):
            break
    return process, events


def same_weights(one: Path, other: Path) -> bool:
    first, second = checkpoints.load(one), checkpoints.load(other)
    assert first.training.held_out_loss == second.training.held_out_loss
    assert first.training.curve == second.training.curve
    return first.fingerprint() == second.fingerprint()


def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(
    small_corpus: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    process, _ = watch(small_corpus, tmp_path, lambda event: event["event"] == "saved")
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    assert not (tmp_path / "new.pth").exists()
    again = noskgpt("train", "--resume", "--out", "new.pth", "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    events = [json.loads(line) for line in again.stdout.splitlines()]
    assert (events[0]["event"], events[-1]["event"]) == ("started", "finished")
    assert 0 < events[0]["step"] < 20
    assert same_weights(tmp_path / "new.pth", uninterrupted)
    assert not (tmp_path / "new.pth.run").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_run_and_stops_it(
    small_corpus: Path, uninterrupted: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process, events = watch(small_corpus, tmp_path, lambda event: event["event"] == "progress")
    process.send_signal(number)
    rest, _ = process.communicate()
    events += [json.loads(line) for line in rest.splitlines()]
    assert process.returncode == 128 + number
    *_, saved, interrupted = events
    assert (saved["event"], interrupted["event"]) == ("saved", "interrupted")
    assert saved["step"] == interrupted["step"] < 20
    kept = (tmp_path / "new.pth.run").read_bytes()
    refused = noskgpt("train", "--corpus", small_corpus, "--out", "new.pth", cwd=tmp_path)
    assert refused.returncode == 1
    assert "unfinished run" in refused.stderr
    changed = noskgpt("train", "--resume", "--out", "new.pth", "--steps", "9", cwd=tmp_path)
    assert changed.returncode == 1
    assert "leave out --steps" in changed.stderr
    assert (tmp_path / "new.pth.run").read_bytes() == kept
    again = noskgpt("train", "--resume", "--out", "new.pth", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"Resuming at step {saved['step']}" in again.stdout
    assert same_weights(tmp_path / "new.pth", uninterrupted)


@pytest.mark.parametrize("closed", [("stdin",), ("stdout",), ("stdout", "stdin")])
def test_a_run_stops_with_its_parent_and_is_saved(
    small_corpus: Path, uninterrupted: Path, tmp_path: Path, closed: tuple[str, ...]
) -> None:
    process, _ = watch(
        small_corpus, tmp_path, lambda event: event["event"] == "progress", "--until-stdin-ends"
    )
    for name in closed:
        getattr(process, name).close()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert process.stderr is not None
    assert process.stderr.read() == ""
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
    assert not (tmp_path / "new.pth").exists()
    again = noskgpt(
        "train", "--resume", "--out", "new.pth", "--json", "--until-stdin-ends", cwd=tmp_path
    )
    assert again.returncode == 128 + signal.SIGTERM  # its input was closed before it started
    again = noskgpt("train", "--resume", "--out", "new.pth", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert same_weights(tmp_path / "new.pth", uninterrupted)


def test_two_processes_reach_the_losses_of_one(small_corpus: Path, tmp_path: Path) -> None:
    options = ("--steps", "12", "--batch", "4", "--precision", "fp32", "--json")
    alone = noskgpt("train", "--corpus", small_corpus, *options, "--out", "one.pth", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    shared = subprocess.run(  # noqa: S603
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "-m", "noskgpt", "train", "--corpus", str(small_corpus)),
            *(*options, "--out", "two.pth"),
        ],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert shared.returncode == 0, shared.stderr
    events = [json.loads(line) for line in shared.stdout.splitlines()]
    assert [event["event"] for event in events].count("finished") == 1
    assert events[0]["processes"] == 2
    one, two = (checkpoints.load(tmp_path / f"{name}.pth") for name in ("one", "two"))
    assert two.training.processes == 2
    assert two.training.held_out_loss == pytest.approx(one.training.held_out_loss, abs=1e-3)
    for mine, theirs in zip(one.training.curve, two.training.curve, strict=True):
        assert mine[1] == pytest.approx(theirs[1], abs=1e-3)


def test_a_run_survives_a_full_disk_and_its_files_stay_intact(
    small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulate the failing write, because filling a real disk needs root permissions."""
    out = tmp_path / "new.pth"
    config = TrainingConfig(steps=4, batch=2, report_every=1, evaluations=1)
    trainer = run_files.start(out, config, corpus_path=small_corpus, command="", group=CPU)
    write, events = archive.write, []

    def fail_at_step_2(document: object, file: Any) -> None:
        if trainer.position.step == 2:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(document, file)

    monkeypatch.setattr(archive, "write", fail_at_step_2)
    for event in run_files.train_and_save(trainer, out, corpus_path=small_corpus, save_seconds=0):
        events.append(event)
        if isinstance(event, NotSaved):
            assert event.step == 2
            assert "No space left" in event.problem
            assert [path.name for path in tmp_path.iterdir()] == ["new.pth.run"]
            _, text = run_files.resume(out, corpus_path=None, group=CPU)
            assert text == small_corpus
    kinds = [type(event).__name__ for event in events]
    assert kinds.count("NotSaved") == 1
    assert kinds.count("Saved") == 2
    assert checkpoints.load(out).training.steps == 4
    assert [path.name for path in tmp_path.iterdir()] == ["new.pth"]


def test_rejects_a_missing_damaged_or_foreign_state_file(
    small_corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.pth"
    with pytest.raises(TrainingError, match="no unfinished run"):
        run_files.resume(out, corpus_path=None, group=CPU)
    path = run_path(out)
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"new\.pth\.run"):
        run_files.resume(out, corpus_path=None, group=CPU)
    torch.save({"format": "noskgpt-run", "format_version": 99}, path)
    with pytest.raises(CheckpointError, match="Delete the file"):
        run_files.resume(out, corpus_path=None, group=CPU)
    state = Trainer(load_corpus(small_corpus), TrainingConfig(steps=2)).state()
    del state["weights"]
    whole = {"format": run_files.FORMAT, "format_version": run_files.FORMAT_VERSION, "corpus": None}
    torch.save(whole | state, path)
    with pytest.raises(CheckpointError, match="damaged run"):
        run_files.resume(out, corpus_path=small_corpus, group=CPU)


def test_a_lack_of_memory_is_no_damage_to_the_run(
    small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new.pth"
    trainer = Trainer(load_corpus(small_corpus), TrainingConfig(steps=2))
    document = {"format": run_files.FORMAT, "format_version": run_files.FORMAT_VERSION}
    torch.save(document | {"corpus": None} | trainer.state(), run_path(out))

    def lack_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_restore", lack_memory)
        with pytest.raises(TrainingError, match="The GPU has too little free memory"):
            run_files.resume(out, corpus_path=small_corpus, group=CPU)
    resumed, _ = run_files.resume(out, corpus_path=small_corpus, group=CPU)
    assert resumed.position.step == 0


WITHOUT = """
import sys
from noskgpt import cli
from noskgpt.training.updates import Updates
take_step = Updates.take_step
def fail(updates, step, *rest):
    if step == 2:
        raise {error}
    return take_step(updates, step, *rest)
Updates.take_step = fail
cli.main()
"""
"""A command line whose training runs lack something at the third step."""


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        ("MemoryError", "too little free memory"),
        ("OSError(28, 'No space left on device')", "The disk is full"),
    ],
)
def test_a_lack_is_the_last_event_and_the_run_can_be_resumed(
    small_corpus: Path, tmp_path: Path, error: str, problem: str
) -> None:
    arguments = ("train", "--json", "--corpus", str(small_corpus), *STEPS, "--out", "new.pth")
    done = subprocess.run(  # noqa: S603 - its own program
        [sys.executable, "-c", WITHOUT.format(error=error), *arguments, "--save-seconds", "0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    event = json.loads(done.stdout.splitlines()[-1])
    assert event["event"] == "error"
    assert problem in event["problem"]
    assert "Traceback" not in done.stderr
    resumed, _ = run_files.resume(tmp_path / "new.pth", corpus_path=None, group=CPU)
    assert resumed.position.step == 1


def test_an_output_that_cannot_be_written_is_an_event(small_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "new.pth"
    done = noskgpt("train", "--json", "--corpus", small_corpus, "--out", out, cwd=tmp_path)
    assert "cannot be written" in json.loads(done.stdout)["problem"]


@pytest.fixture(scope="module")
def state(small_corpus: Path, random_checkpoint: checkpoints.Checkpoint) -> dict[str, Any]:
    """Return the state of a run from weights, after a step."""
    config = TrainingConfig(steps=5, batch=1, precision="fp32")
    trainer = Trainer(load_corpus(small_corpus), config, start=random_checkpoint)
    for event in trainer.run():
        if isinstance(event, Progress):
            trainer.stop()
    whole = {"format": run_files.FORMAT, "format_version": run_files.FORMAT_VERSION}
    return whole | {"corpus": str(small_corpus)} | trainer.state()


NAN = float("nan")
IMPOSSIBLE: dict[str, tuple[Any, ...]] = {
    "step": (-1, 5, 2**70, 1.5, NAN, "1", None),
    "steps": (0, 1, -5, NAN, 2**70),
    "evaluated": (-1, 2, NAN),
    "evaluations": (0, NAN, 2**70),
    "evaluated_characters": (0, -1, 10**9, 5000.5, NAN),
    "evaluation_seconds": (-1, NAN, float("inf"), "1", 10**400),
    "processes": ([], 2**70),
    "seconds": (-1, NAN, None),
    "losses": (None, [NAN], ["1"], [[]]),
    "curve": (None, [1], [(1, 2)], [(1.5, 1.0, None)], [(1, NAN, None)], "abc"),
    "start_loss": (NAN, "1"),
    "lr_scale": (NAN, -1),
    "precision": ("fp64", None, []),
    "command": (3, None),
    "corpus": (3, ["a"]),
    "config": (
        *(None, {}, {"batch": 0}, {"batch": 10**9}, {"batch": 1.5}, {"muon_lr": NAN}),
        *({"muon_lr": "1"}, {"dropout": -1.0}, {"dropout": 1.0}, {"seed": -1}, {"seed": 2**60}),
        *({"minutes": NAN}, {"optimizer": []}, {"report_every": NAN}),
    ),
    "start": (
        *(3, {}, {"vocabulary": "aa"}, {"vocabulary": 3}, {"words": 3}, {"words": [3]}),
        *({"name": 3}, {"command": 3}, {"config": None}, {"config": {"n_embd": 10**6}}),
    ),
    "weights": (None, {}, {"head.bias": torch.zeros(3)}, {"head.bias": torch.full((65,), NAN)}),
    "optimizers": (
        *([], [{}, {}], [{"state": {99: {}}}, {"state": {}}], [{"state": {0: {}}}, {"state": {}}]),
        [{"state": {0: {"momentum": torch.zeros(3)}}}, {"state": {}}],
        [{"state": {0: {"momentum": torch.full((128, 128), NAN)}}}, {"state": {}}],
        [{"state": {0: {"momentum": None}}}, {"state": {}}],
    ),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in IMPOSSIBLE.items() for value in values]
)
def test_refuses_an_impossible_state(
    state: dict[str, Any], tmp_path: Path, name: str, value: Any
) -> None:
    out = tmp_path / "new.pth"
    partial = isinstance(value, dict) and value and isinstance(state[name], dict)
    torch.save(state | {name: state[name] | value if partial else value}, run_path(out))
    with pytest.raises(CheckpointError, match=r"^[^\n]*new\.pth\.run: damaged run \([^\n]*$"):
        run_files.resume(out, corpus_path=None, group=CPU)


def test_resumes_a_possible_state_also_of_an_earlier_version(
    state: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "new.pth"
    words = {"start": state["start"] | {"words": ["fool", "king"]}}
    for change in ({}, words):
        torch.save(state | change, run_path(out))
        trainer, _ = run_files.resume(out, corpus_path=None, group=CPU)
        assert trainer.position.step == state["step"] > 0
    assert trainer.start is not None
    assert trainer.start.words == {"fool", "king"}


def test_refuses_a_state_file_that_is_too_large_or_no_file(tmp_path: Path) -> None:
    out = tmp_path / "new.pth"
    path = run_path(out)
    with path.open("wb") as file:
        file.truncate(MAX_STATE_BYTES + 1)
    with pytest.raises(CheckpointError, match=r"Larger than 1600 MB.* Delete the file"):
        run_files.resume(out, corpus_path=None, group=CPU)
    path.unlink()
    path.mkdir()
    with pytest.raises(CheckpointError, match=r"Is a directory.* Delete the file"):
        run_files.resume(out, corpus_path=None, group=CPU)


def test_a_long_run_has_a_curve_that_fits_into_its_file(
    small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainers, "_MAX_POINTS", 5)
    config = TrainingConfig(steps=40, batch=1, report_every=1, evaluations=1, precision="fp32")
    trainer = Trainer(load_corpus(small_corpus), config)
    monkeypatch.setattr(Updates, "take_step", lambda *_: 1.0)
    list(trainer.run())
    assert [step for step, _, _ in trainer.position.curve] == [1, 8, 16, 24, 32, 40]
