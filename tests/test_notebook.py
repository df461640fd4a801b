"""Test that the notebook converts and that all its cells run in a real kernel."""

import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "training.py"


def test_converts_and_runs_all_cells(tmp_path: Path) -> None:
    target = tmp_path / "training.ipynb"
    subprocess.run(  # noqa: S603
        [
            *(sys.executable, "-m", "jupytext", "--to", "notebook"),
            *("--output", str(target), str(NOTEBOOK)),
        ],
        check=True,
    )
    notebook = nbformat.read(target, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=600, kernel_name="python3")
    client.execute(cwd=str(tmp_path))  # raises if a cell raises
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) > len(code) > 5
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    text = "".join(output.get("text", "") for output in outputs)
    assert "1,170,625 parameters" in text
    assert text.count("JULIET:") == 2
