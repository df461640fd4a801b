"""`make` with a pip that records: what is installed, from where, and what is said meanwhile."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from requirements.audit import UNREACHABLE, VULNERABLE, audit
from tests.wheel import ROOT

CPU_INDEX = "--index-url https://download.pytorch.org/whl/cpu"
RECORDER = '#!/bin/sh\necho "$(basename $0) $*"\n[ "$1 $2" != "show --quiet" ]\n'
PYTHON = f"""#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then
    mkdir -p "$3/bin" && for name in pip python noskgpt; do cp {{recorder}} "$3/bin/$name"; done
else
    exec {sys.executable} "$@"
fi
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what `make run` reads, and a Python that makes environments of recorders."""
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    for name, program in {
        "recorder": RECORDER,
        "python": PYTHON.format(recorder=tmp_path / "recorder"),
    }.items():
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def make(checkout: Path, *words: str, path: str = os.defpath) -> list[str]:
    done = subprocess.run(  # noqa: S603
        ["make", f"PYTHON={checkout / 'python'}", f"NVIDIA={checkout / 'nvidia'}", *words],  # noqa: S607
        cwd=checkout,
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_run_says_what_it_does_and_installs_pins_alone(checkout: Path) -> None:
    said = make(checkout, "run", "TORCH=cpu")
    assert [line for line in said if not line.startswith(("pip show", "noskgpt "))] == [
        "Creating the environment .venv",
        "Installing the pinned packages",
        "pip install --require-hashes --only-binary :all: --requirement requirements/run.txt",
        "Installing PyTorch, the largest download",
        f"pip install {CPU_INDEX} --requirement requirements/torch.txt",
        "Installing the bot",
        "pip install --no-build-isolation --no-deps --editable .",
        "pip check",
        "Compiling the decoder, about 20 s",
        "Starting the bot",
        "python -m bot --or-rehearse",
    ]
    # Installed once.
    assert make(checkout, "run") == ["Starting the bot", "python -m bot --or-rehearse"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, PyPI has no build with CUDA")
def test_run_warns_of_cuda_before_anything_is_downloaded(checkout: Path) -> None:
    said = make(checkout, "run")
    (warning,) = [line for line in said if "NVIDIA" in line]
    assert "`make run TORCH=cpu`" in warning
    assert said.index(warning) < said.index("Installing the pinned packages")
    assert "pip install --requirement requirements/torch.txt" in said


@pytest.mark.parametrize("sign", ["driver", "program"])
def test_run_does_not_warn_where_a_driver_is(checkout: Path, sign: str) -> None:
    tools = checkout / "tools"
    tools.mkdir()
    shutil.copy(checkout / "recorder", checkout / "nvidia" if sign == "driver" else tools)
    if sign == "program":
        (tools / "recorder").rename(tools / "nvidia-smi")
    said = make(checkout, "run", path=f"{tools}{os.pathsep}{os.defpath}")
    assert not [line for line in said if "NVIDIA" in line]


@contextmanager
def osv(answer: dict[str, object]) -> Iterator[str]:
    """Serve a database that gives one answer to each question; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def pinned(tmp_path: Path) -> Path:
    """Two pins."""
    path = tmp_path / "pins.txt"
    path.write_text("aiosqlite==0.22.1\nfilelock==4.3.1\n")
    return path


def test_audit_finds_nothing(pinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with osv({}) as database:
        assert audit(database, pinned) == 0
    assert capsys.readouterr().out == "0 known vulnerabilities in 2 pinned packages\n"


def test_audit_names_vulnerable_pins(pinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    affected = {"package": {"name": "filelock", "ecosystem": "PyPI"}}
    fixed = {"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}]}
    vulnerability = {"id": "PYSEC-1", "summary": "Bad", "affected": [affected | fixed]}
    with osv({"vulns": [vulnerability]}) as database:
        assert audit(database, pinned) == VULNERABLE
    lines = capsys.readouterr().out.splitlines()
    assert "filelock 4.3.1: PYSEC-1, fixed in 99" in lines
    assert lines[-1].endswith("known vulnerabilities in 2 pinned packages")


def test_audit_without_its_database_says_so(
    pinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port
    database = f"http://127.0.0.1:{port}/v1/query"
    assert audit(database, pinned) == UNREACHABLE
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"Not checked: no answer from {database} (")
    assert len(output.err.splitlines()) == 1
