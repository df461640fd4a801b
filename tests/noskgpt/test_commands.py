"""Commands that messages advise work in the shell that shows the message."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from noskgpt import commands
from noskgpt.commands import noskgpt
from noskgpt.errors import CheckpointError
from noskgpt.inference import generator
from noskgpt.resources import weights_advice, weights_path
from tests.wheel import ROOT


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs of an environment in the working directory, which this process seems to use."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "noskgpt"):
        (programs / name).write_text("#!/bin/sh\necho $0 $@\n")
        (programs / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setattr(sys, "argv", ["host.py"])
    monkeypatch.chdir(tmp_path)
    return programs


def shell(command: str) -> str:
    """Return what a command prints in a shell that has the environment of this process."""
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)  # noqa: S603, S607
    return done.stdout.split("/")[-1].strip()


def test_program_of_a_checkout_has_its_folder(environment: Path) -> None:
    assert noskgpt("train") == ".venv/bin/noskgpt train"
    assert shell(noskgpt("train")) == "noskgpt train"
    assert environment.is_dir()


@pytest.mark.usefixtures("environment")
def test_program_of_a_module_is_run_as_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "noskgpt" / "__main__.py")])
    assert noskgpt("train") == ".venv/bin/python -m noskgpt train"
    assert shell(noskgpt("train")) == "python -m noskgpt train"


def test_program_that_the_shell_finds_has_no_folder(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{environment}{os.pathsep}{os.environ['PATH']}")
    assert noskgpt("--out", "my weights.pth") == "noskgpt --out 'my weights.pth'"
    assert shell(noskgpt("train")) == "noskgpt train"


def test_program_elsewhere_has_its_whole_path(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert noskgpt("train") == f"{environment / 'noskgpt'} train"
    assert shell(noskgpt("train")) == "noskgpt train"


def test_without_a_script_the_module_is_run(environment: Path) -> None:
    (environment / "noskgpt").unlink()
    assert noskgpt() == ".venv/bin/python -m noskgpt"
    assert commands.pip("install", "x[y]") == ".venv/bin/python -m pip install 'x[y]'"


def test_only_the_shipped_weights_are_restored_with_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = weights_advice(tmp_path / "weights.pth")
    assert "git" not in own
    assert "noskgpt train" in own
    monkeypatch.chdir(ROOT)
    assert "git" not in weights_advice(tmp_path / "weights.pth")

    # The command that restores it restores it, from any folder: in a clone, which can be damaged.
    shipped = weights_advice(weights_path())
    assert "`git checkout weights.pth`" in shipped or ".git" not in os.listdir(ROOT)  # noqa: PTH208
    monkeypatch.chdir(tmp_path)
    clone = tmp_path / "clone"
    (clone / "noskgpt").mkdir(parents=True)
    (clone / "weights.pth").write_text("whole")
    git = ("git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "weights")):
        subprocess.run([*git, *words], check=True)  # noqa: S603
    (clone / "weights.pth").write_text("damaged")
    monkeypatch.setattr("noskgpt.resources._IN_CHECKOUT", clone)
    (command,) = re.findall("`(.*)`", weights_advice(clone / "weights.pth"))
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)  # noqa: S603, S607
    assert (clone / "weights.pth").read_text() == "whole"

    shutil.rmtree(clone / ".git")
    assert "git" not in weights_advice(clone / "weights.pth")
    monkeypatch.setattr("noskgpt.resources._IN_WHEEL", clone)
    assert "Install noskgpt-bard again" in weights_advice(clone / "weights.pth")


def test_error_about_other_weights_names_no_command_of_git(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_text("no weights")
    with pytest.raises(CheckpointError) as raised:
        generator.load(tmp_path / "weights.pth")
    assert "git" not in str(raised.value).replace(str(tmp_path), "")


def test_version_is_that_of_the_project() -> None:
    assert commands.version() == f"noskgpt-bard {_stated_version()}"


def _stated_version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["project"]["version"])


@pytest.mark.parametrize(
    ("command", "recorded"),
    [
        ("noskgpt train --out /home/ann/runs/3/weights.pth --seed 1", "--out weights.pth --seed 1"),
        ("noskgpt train --out=/home/ann/weights.pth", "--out=weights.pth"),
        ("noskgpt train --corpus '/home/ann/an old text.txt'", "--corpus 'an old text.txt'"),
        (r"noskgpt train --corpus 'C:\Users\ann\text.txt'", "--corpus text.txt"),
        ("noskgpt train --corpus '/home/ann/not closed", "--corpus not closed"),
    ],
)
def test_recorded_command_has_no_folder(command: str, recorded: str) -> None:
    assert commands.without_folders(command) == f"noskgpt train {recorded}"
