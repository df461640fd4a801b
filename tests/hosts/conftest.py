"""The wheel in an environment of its own, and whole hosts that load it there."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.wheel import ROOT, Built, run, share_machine_code

FOLDER = Path(__file__).parent
EXAMPLE = ROOT / "examples" / "host.py"

# Not read: the host's own, for a program of its own.
DOTENV = """
DISCORD_TOKEN=of-the-host
BARD_DATABASE=of-the-host.sqlite3
BARD_COOLDOWN=never
BARD_MAX_CHARS=1
"""

Observed = dict[str, Any]


@pytest.fixture(scope="session")
def python(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel, and with the other packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    # Before the other packages are there: among them is an editable install of this checkout.
    pip = (sys.executable, "-m", "pip", "--python", str(python), "--quiet", "install")
    run(*pip, "--no-deps", "--no-index", str(built.wheel), cwd=folder)
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own,) = folder.glob("lib/python*/site-packages")
    # Files .pth in these folders, such as that of the editable install, have no effect.
    share_machine_code(own / "noskgpt/inference")
    (own / "others.pth").write_text("\n".join(sorted(packages)) + "\n", encoding="utf-8")
    return python


@pytest.fixture(scope="session")
def drive(
    python: Path, weights: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Observed]:
    """A function that runs a scenario of driver.py in a host and returns what it observes."""

    def drive(host: str, scenario: str) -> Observed:
        base = tmp_path_factory.mktemp(host)
        folder, data = base / "host", base / "data"
        environment = {"HOME": str(base), "XDG_DATA_HOME": str(data)}
        if host == "example":
            folder.mkdir()
            shutil.copy(EXAMPLE, folder)
        else:
            shutil.copytree(FOLDER / host, folder, ignore=shutil.ignore_patterns("__pycache__"))
            (folder / "__init__.py").unlink()  # of the tests, not of the host
        if host == "file_host":
            environment |= {"TINY_WEIGHTS": str(weights), "SMALL_CORPUS": str(corpus)}
        if host == "package_host":
            (folder / ".env").write_text(DOTENV, encoding="utf-8")
            environment |= {
                "BARD_WEIGHTS": str(weights),
                "BARD_CORPUS": str(corpus),
                "BARD_COOLDOWN": "3",
                "BARD_WORKERS": "2",
            }
        shutil.copy(FOLDER / "driver.py", folder)
        done = subprocess.run(  # noqa: S603 - our own program
            (str(python), "driver.py", scenario),
            cwd=folder,
            env={"PATH": os.defpath, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        # One line: neither the host nor the extension prints anything.
        assert not done.stderr
        (line,) = done.stdout.splitlines()
        seen: Observed = json.loads(line)
        return seen | {"place": str(folder), "data": str(data), "prefix": str(python.parents[1])}

    return drive
