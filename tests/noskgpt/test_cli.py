"""The command line, in processes of its own."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from noskgpt import checkpoint as checkpoints
from tests.noskgpt.reference import Reference


def noskgpt(*arguments: str | Path, cwd: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``python -m noskgpt`` from a folder that is not the checkout."""
    return subprocess.run(  # noqa: S603  (our own command)
        [sys.executable, "-m", "noskgpt", *map(str, arguments)],
        cwd=cwd,
        input=text,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_prompt_prints_its_continuation_and_nothing_else(
    weights_file: Path, tmp_path: Path
) -> None:
    arguments = ("--prompt", "JULIET:", "--max-chars", "80", "--seed", "1")
    first = noskgpt(*arguments, "--weights", weights_file, cwd=tmp_path)
    again = noskgpt(*arguments, "--weights", weights_file, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert len(first.stdout) == 81
    assert first.stdout[-1] == "\n"
    assert first.stdout == again.stdout
    assert first.stderr == ""


def test_the_console_answers_until_exit(weights_file: Path, tmp_path: Path) -> None:
    arguments = ("--max-chars", "40", "--weights", weights_file)
    left = noskgpt(*arguments, cwd=tmp_path, text="ROMEO:\n\nexit\nJULIET:\n")
    assert left.returncode == 0, left.stderr
    assert "ROMEO:" in left.stdout
    assert "JULIET:" not in left.stdout
    ended = noskgpt(*arguments, cwd=tmp_path, text="")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_trains_evaluates_and_speaks(small_corpus: Path, tmp_path: Path) -> None:
    options = ("--corpus", small_corpus, "--steps", "3", "--batch", "2", "--out", "new.pth")
    trained = noskgpt("train", *options, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    record = checkpoints.load(tmp_path / "new.pth").training
    assert record.command is not None
    assert record.command.startswith("noskgpt train --corpus")
    measured = noskgpt(
        "evaluate", "--weights", "new.pth", "--corpus", small_corpus, "--json", cwd=tmp_path
    )
    report = json.loads(measured.stdout)
    assert abs(report["loss"] - report["recorded_loss"]) < 1e-4
    assert report["bits_per_character"] > report["loss"]
    spoken = noskgpt("--weights", "new.pth", "--prompt", "thou", "--max-chars", "9", cwd=tmp_path)
    assert len(spoken.stdout) == 10


def test_imports_weights_of_the_original(tmp_path: Path) -> None:
    torch.save(Reference().state_dict(), tmp_path / "old.pth")
    done = noskgpt("import-reference", "old.pth", "new.pth", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert checkpoints.load(tmp_path / "new.pth").training.command is not None


def test_a_mistake_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    for arguments in (
        ("--weights", "none.pth", "--prompt", "x"),
        ("evaluate", "--weights", "none.pth"),
        ("train", "--corpus", "none.txt"),
    ):
        result = noskgpt(*arguments, cwd=tmp_path)
        assert result.returncode == 1
        assert "none." in result.stderr
        assert result.stderr.count("\n") == 1
        assert "Traceback" not in result.stderr


def test_training_that_could_not_be_saved_does_not_begin(
    small_corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file" / "weights.pth"):
        done = noskgpt("train", "--corpus", small_corpus, "--out", out, cwd=tmp_path)
        assert done.returncode == 1
        assert "cannot be written" in done.stderr
        assert "Traceback" not in done.stderr
        assert "step" not in done.stdout


def test_help_names_the_commands(tmp_path: Path) -> None:
    shown = noskgpt("--help", cwd=tmp_path).stdout
    for name in ("train", "evaluate", "import-reference", "--max-chars", "--temperature"):
        assert name in shown
