"""Test the command line in subprocesses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from noskgpt import checkpoint as checkpoints
from noskgpt import cli, commands
from tests.noskgpt.reference import Reference


def noskgpt(*arguments: str | Path, cwd: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``python -m noskgpt`` in a folder outside the checkout."""
    return run(sys.executable, "-m", "noskgpt", *arguments, cwd=cwd, text=text)


def run(*command: str | Path, cwd: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in a folder outside the checkout."""
    return subprocess.run(  # noqa: S603  (the command under test)
        command,
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


def test_says_on_stderr_that_the_decoder_is_compiled(weights_file: Path, tmp_path: Path) -> None:
    program = """
from noskgpt.cli import main
from noskgpt.inference import jit
jit._CACHE = None  # as after an installation; the functions themselves keep their cache
main()
"""
    result = run(
        *(sys.executable, "-c", program, "--prompt", "JULIET:", "--max-chars", "8"),
        *("--weights", weights_file),
        cwd=tmp_path,
    )
    assert len(result.stdout) == 9
    assert result.stderr.startswith("Compiling the decoder, which takes")
    assert result.stderr.count("\n") == 1


def test_the_console_replies_until_exit_or_end_of_input(weights_file: Path, tmp_path: Path) -> None:
    arguments = ("--max-chars", "40", "--weights", weights_file)
    on_exit = noskgpt(*arguments, cwd=tmp_path, text="ROMEO:\n\nexit\nJULIET:\n")
    assert on_exit.returncode == 0, on_exit.stderr
    assert "ROMEO:" in on_exit.stdout
    assert "JULIET:" not in on_exit.stdout
    on_end = noskgpt(*arguments, cwd=tmp_path, text="")
    assert (on_end.returncode, on_end.stderr) == (0, "")


def test_trains_evaluates_and_generates(
    small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--corpus", small_corpus, "--steps", "3", "--batch", "2", "--out", "new.pth")
    trained = noskgpt("train", *options, "--plot", "loss.png", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "step 3: training loss" in trained.stdout
    assert "of the peak" in trained.stdout
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    record = checkpoints.load(tmp_path / "new.pth").training
    assert record.command is not None
    assert record.command.startswith(f"noskgpt train --corpus {small_corpus.name} --steps 3")
    monkeypatch.setattr(cli, "WORD_SAMPLES", 2)  # 100 take long
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", "--weights", "new.pth", "--corpus", str(small_corpus), "--seed", "4"]
    measured = CliRunner().invoke(cli.app, [*command, "--json"])
    report = json.loads(measured.stdout)
    assert abs(report["loss"] - report["recorded_loss"]) < 1e-4
    assert report["bits_per_character"] > report["loss"]
    assert report["words"] > 100
    assert 0 < report["real_words_fraction"] < 0.9  # so short a run does not learn to spell
    assert report["made_up_words"]
    text = CliRunner().invoke(cli.app, command).stdout
    assert f"real words          {report['real_words_fraction']:.2%} of {report['words']:,}" in text
    reply = noskgpt("--weights", "new.pth", "--prompt", "thou", "--max-chars", "9", cwd=tmp_path)
    assert len(reply.stdout) == 10


def test_trains_evaluates_and_generates_in_another_alphabet(tmp_path: Path) -> None:
    lines = "\n".join(f"Ὧ ξένε, ἄγγελλε §{i} Λακεδαιμονίοις!" for i in range(600))
    (tmp_path / "greek.txt").write_text(lines, encoding="utf-8")
    symbols = len(set(lines))
    options = ("--corpus", "greek.txt", "--steps", "3", "--batch", "2", "--out", "greek.pth")
    assert noskgpt("train", *options, cwd=tmp_path).returncode == 0
    assert checkpoints.load(tmp_path / "greek.pth").config.vocab_size == symbols
    measured = noskgpt(
        *("evaluate", "--weights", "greek.pth", "--corpus", "greek.txt", "--json"), cwd=tmp_path
    )
    assert json.loads(measured.stdout)["loss"] < 4.2
    for option in ((), ("--real-words", "--cast", "--echo")):
        reply = noskgpt(
            *("--weights", "greek.pth", "--prompt", "Ὧ", "--max-chars", "30", *option), cwd=tmp_path
        )
        assert len(reply.stdout) == 31
        assert set(reply.stdout) <= set(lines)


def test_options_override_a_preset(small_corpus: Path, tmp_path: Path) -> None:
    options = ("--preset", "original", "--steps", "2", "--batch", "2", "--json")
    done = noskgpt("train", "--corpus", small_corpus, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events[:2]] == ["started", "progress"]
    assert events[-1]["out"] == "var/weights.pth"
    assert (events[-1]["steps"], events[-1]["batch"]) == (2, 2)
    assert (tmp_path / "var" / "weights.pth").is_file()
    wrong = noskgpt("train", "--preset", "fastest", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


def test_prints_a_failure_as_a_json_event(small_corpus: Path, tmp_path: Path) -> None:
    done = noskgpt("train", "--corpus", "none.txt", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["event"] == "error"
    assert "none.txt" in json.loads(done.stdout)["problem"]
    assert "none.txt" in done.stderr
    options = ("--steps", "2", "--batch", "2", "--plot", "loss.nonsense")
    rejected = noskgpt("train", "--corpus", small_corpus, *options, cwd=tmp_path)
    assert rejected.returncode == 1
    assert "loss.nonsense" in rejected.stderr
    assert not (tmp_path / "var" / "weights.pth").exists()


def test_converts_weights_of_the_original(tmp_path: Path) -> None:
    torch.save(Reference().state_dict(), tmp_path / "old.pth")
    done = noskgpt("import-reference", "old.pth", "new.pth", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert checkpoints.load(tmp_path / "new.pth").training.command is not None


def fails(
    *arguments: str | Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[str, str]:
    """Run the command line in this process, which saves the start of one; return its output."""
    monkeypatch.setattr(sys, "argv", ["noskgpt", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    printed = capsys.readouterr()
    return printed.out, printed.err


def test_an_error_prints_one_line_and_sets_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none.d").mkdir()
    for arguments in (
        ("--weights", "none.pth", "--prompt", "x"),
        ("evaluate", "--weights", "none.pth"),
        ("train", "--corpus", "none.txt"),
        ("train", "--init-from", "none.d"),
    ):
        _, line = fails(*arguments, monkeypatch=monkeypatch, capsys=capsys)
        assert "none." in line
        assert line.count("\n") == 1


def test_training_does_not_start_if_the_weights_cannot_be_written(
    small_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file" / "weights.pth"):
        options = ("--corpus", small_corpus, "--out", out)
        text, line = fails("train", *options, monkeypatch=monkeypatch, capsys=capsys)
        assert "cannot be written" in line
        assert "step" not in text


def test_help_lists_the_commands(tmp_path: Path) -> None:
    text = noskgpt("--help", cwd=tmp_path).stdout
    for name in ("train", "evaluate", "import-reference", "--max-chars", "--temperature"):
        assert name in text


def test_prints_its_version(tmp_path: Path) -> None:
    assert noskgpt("--version", cwd=tmp_path).stdout == f"{commands.version()}\n"
