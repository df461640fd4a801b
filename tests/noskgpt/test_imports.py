"""The library imports what it needs and no more."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["noskgpt", "noskgpt.inference.generator", "noskgpt.evaluation"])
def test_generating_text_imports_no_training_and_no_plotting(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    done = subprocess.run(  # noqa: S603  (our own command)
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    imported = done.stdout.splitlines()
    assert module in imported
    unwanted = ("noskgpt.training", "matplotlib", "rich", "typer")
    assert not [name for name in imported if name.startswith(unwanted)]
