"""Test that generating text does not import training code or plotting libraries."""

import subprocess
import sys

import pytest


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
