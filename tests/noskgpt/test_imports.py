"""Test that generating text imports neither PyTorch, training code nor plotting libraries."""

import subprocess
import sys
from pathlib import Path

import pytest

from noskgpt.checkpoint import load


@pytest.mark.parametrize("module", ["noskgpt", "noskgpt.inference.generator", "noskgpt.evaluation"])
def test_imports_no_training_code_and_no_terminal_or_plotting_library(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    done = subprocess.run(  # noqa: S603  (the code under test)
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    imported = done.stdout.splitlines()
    assert module in imported
    unwanted = ("noskgpt.training", "matplotlib", "rich", "typer")
    assert not [name for name in imported if name.startswith(unwanted)]


GENERATE = """
import sys, noskgpt
model = noskgpt.load(sys.argv[1])
model.generate("ROMEO:", 20, real_words=True, cast=True, echo=True)
noskgpt.checkpoint.save(model.checkpoint, noskgpt.checkpoint.Path(sys.argv[2]))
print("torch" in sys.modules)
print(model.model.parameter_count())
print("torch" in sys.modules)
"""


def test_pytorch_is_imported_only_when_the_network_is_asked_for(
    weights: Path, tmp_path: Path
) -> None:
    done = subprocess.run(  # noqa: S603  (the code under test)
        [sys.executable, "-c", GENERATE, str(weights), str(tmp_path / "copy.pth")],
        capture_output=True,
        text=True,
        check=True,
    )
    parameters = load(weights).config.parameters
    assert done.stdout.split() == ["False", str(parameters), "True"]
    assert load(tmp_path / "copy.pth").fingerprint() == load(weights).fingerprint()


@pytest.mark.parametrize("module", ["noskgpt.cli", "bot.__main__", "bot.rehearsal"])
def test_programs_start_without_pytorch_and_training(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    done = subprocess.run(  # noqa: S603  (the code under test)
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    imported = done.stdout.splitlines()
    assert module in imported
    unwanted = ("noskgpt.training", "matplotlib", "torch")
    assert not [name for name in imported if name.startswith(unwanted)]
