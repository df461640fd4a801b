"""A built wheel, unpacked elsewhere, carries all that the program needs."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PROBE = """
import asyncio, pathlib, bot.database, noskgpt, noskgpt.corpus
home = pathlib.Path(noskgpt.__file__).parent
assert home.is_relative_to({target!r}), home
bard = noskgpt.load()
assert len(bard.generate("JULIET:", 50, seed=1)) == 50
corpus = noskgpt.corpus.load_corpus()
assert len(corpus.train) == {held_out_start}
assert bard.checkpoint.training.corpus_sha256 == corpus.sha256
async def main():
    connection = await bot.database.open_database(pathlib.Path("var/bard.sqlite3"))
    await connection.close()
asyncio.run(main())
print("complete")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    run(*build, str(ROOT), cwd=folder)
    (wheel,) = folder.glob("*.whl")
    target = folder / "installed"
    run(sys.executable, "-m", "zipfile", "-e", str(wheel), str(target), cwd=folder)
    return target


def run(*command: str, cwd: Path, path: Path | None = None) -> str:
    """Run a command away from the checkout and return what it printed."""
    done = subprocess.run(  # noqa: S603  (our own commands)
        command,
        cwd=cwd,
        env=None if path is None else {"PYTHONPATH": str(path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_works_from_any_folder(installed: Path, tmp_path: Path) -> None:
    manifest = json.loads((ROOT / "data/shakespeare.json").read_text(encoding="utf-8"))
    probe = PROBE.format(target=str(installed), held_out_start=manifest["held_out_start"])
    # PYTHONPATH comes before the editable install of this checkout.
    assert run(sys.executable, "-c", probe, cwd=tmp_path, path=installed) == "complete\n"


def test_names_its_command_and_all_that_it_imports(installed: Path) -> None:
    (information,) = installed.glob("*.dist-info")
    assert "noskgpt = noskgpt.cli:main" in read(information / "entry_points.txt")
    metadata = read(information / "METADATA")
    needed = re.findall(r"^Requires-Dist: ([\w.-]+)[^;\n]*$", metadata, re.MULTILINE)
    required = {name.lower().replace(".", "-") for name in needed}
    imported: set[str] = set()
    for source in [*installed.glob("bot/**/*.py"), *installed.glob("noskgpt/**/*.py")]:
        imported.update(re.findall(r"^\s*(?:from|import) (\w+)", read(source), re.MULTILINE))
    # The rehearsal alone imports simcord, of its extra. numba brings llvmlite, discord.py
    # aiohttp, pydantic-settings pydantic.
    known = {"bot", "noskgpt", "simcord", "llvmlite", "aiohttp", "pydantic"}
    distributions = importlib.metadata.packages_distributions()
    for module in imported - sys.stdlib_module_names - known:
        names = {name.lower().replace(".", "-") for name in distributions[module]}
        assert names & required, module


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_speaks_on_the_command_line(installed: Path, tmp_path: Path) -> None:
    options = ("--prompt", "JULIET:", "--max-chars", "300", "--seed", "1")
    said = run(sys.executable, "-m", "noskgpt", *options, cwd=tmp_path, path=installed)
    assert len(said) == 301
