"""The container's files: the Dockerfile's steps are run in an empty folder, without an engine.

Only the downloads are replaced: the pinned packages are linked from the environment of the tests.
"""

import importlib.metadata
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from ruamel.yaml import YAML

from tests.test_packaging import pins
from tests.wheel import ROOT, UNPRIVILEGED, run

BIN = Path(sys.executable).parent
CPU_INDEX = "--index-url https://download.pytorch.org/whl/cpu"
DOWNLOADS = [
    "pip install --require-hashes --only-binary :all: --requirement requirements/bot.txt",
    f"pip install --no-deps --only-binary :all: --requirement requirements/torch.txt {CPU_INDEX}",
]
# Programs that need an administrator, and the base image's Python.
STAND_INS = {
    # Without pip, which is linked like the other packages: to install it takes seconds.
    "python": f"""exec {sys.executable} "$@" --without-pip""",
    "pip": 'exec "$(dirname "$0")/python" -m pip "$@"',
    "groupadd": 'echo "groupadd $*" >>"$LOG"',
    "useradd": 'echo "useradd $*" >>"$LOG"',
    "install": 'echo "install $*" >>"$LOG"; for last; do :; done; mkdir -p -m 700 "$last"',
}
FOLDERS = ("/opt/bard", "/build", "/data")


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions with their arguments."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    found = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, " ".join(argument.split())) for name, argument in found]


def context() -> set[str]:
    """Return the paths that `.dockerignore` lets into a build."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    return {line[1:] for line in lines if line.startswith("!")}


@dataclass
class Image:
    """An image under construction in `root`, which is emptied at the second stage."""

    root: Path
    folder: Path = Path("/")
    stage: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])
    copied: set[str] = field(default_factory=set)
    downloads: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)

    def inside(self, text: str) -> str:
        """Return a text in which the image's folders are those under `root`."""
        for folder in FOLDERS:
            text = text.replace(folder, f"{self.root}{folder}")
        return text

    @property
    def shims(self) -> Path:
        return self.root.parent / "shims"

    @property
    def packages(self) -> Path:
        (folder,) = self.root.glob("opt/bard/lib/python*/site-packages")
        return folder

    def variables(self) -> dict[str, str]:
        path = f"{self.shims}:{os.environ['PATH']}"
        ours = {"PATH": path, "LOG": f"{self.root.parent / 'log'}", "HOME": f"{self.root}/data"}
        for name, value in self.environment.items():
            ours[name] = self.inside(value).replace("$PATH", path)
        return ours

    def carry_out(self, name: str, argument: str) -> None:
        """Carry out an instruction; one that only describes the image is kept in `settings`."""
        match name:
            case "FROM":
                self.start(argument)
            case "SHELL":
                self.shell = json.loads(argument)
            case "WORKDIR":
                self.folder = Path(self.inside(argument))
                self.folder.mkdir(parents=True, exist_ok=True)
            case "ENV":
                self.environment |= dict(word.split("=", 1) for word in shlex.split(argument))
            case "COPY":
                self.copy(*argument.split())
            case "RUN":
                self.run(argument)
            case _:
                self.settings[name] = argument

    def start(self, argument: str) -> None:
        base, _, stage = argument.partition(" AS ")
        assert base.startswith("python:3.")
        if self.stage:
            self.root.rename(self.root.parent / self.stage)
        self.root.mkdir()
        self.stage, self.folder = stage, self.root
        self.environment, self.shell = {}, ["/bin/sh", "-c"]

    def copy(self, *words: str) -> None:
        *sources, target = words
        if sources[0].startswith("--from="):
            stage, source = sources[0].removeprefix("--from="), sources[1]
            shutil.copytree(
                f"{self.root.parent / stage}{source}", self.inside(target), symlinks=True
            )
            return
        for source in sources:
            self.copied.add(source)
            if (ROOT / source).is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, self.folder / target, ignore=ignore)
            else:
                (self.folder / target).mkdir(exist_ok=True)
                shutil.copy(ROOT / source, self.folder / target)

    def run(self, command: str) -> None:
        if command in DOWNLOADS:
            self.downloads.append(command)
            self.link_packages("bot.txt" if command == DOWNLOADS[0] else "torch.txt")
            shutil.copy(self.shims / "pip", self.root / "opt/bard/bin")
            return
        done = subprocess.run(  # noqa: S603
            [*self.shell, self.inside(command)],
            cwd=self.folder,
            env=self.variables(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, command + done.stdout + done.stderr

    def link_packages(self, name: str) -> None:
        """Link the packages of a file of pins, those alone."""
        for package, requirements in (pins(name) | {"pip": [Requirement("pip")]}).items():
            if any(pin.marker is None or pin.marker.evaluate() for pin in requirements):
                found = importlib.metadata.distribution(package)
                installed = Path(str(found.locate_file("")))
                tops = {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}
                for top in sorted(tops):
                    link = self.packages / top
                    # Two packages can share a folder; an environment can come with setuptools.
                    if not link.is_symlink():
                        if link.is_dir():
                            shutil.rmtree(link)
                        link.unlink(missing_ok=True)
                        link.symlink_to(installed / top)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """What the Dockerfile makes."""
    base = tmp_path_factory.mktemp("image")
    image = Image(base / "root")
    image.shims.mkdir()
    for name, program in STAND_INS.items():
        (image.shims / name).write_text(f"#!/bin/sh\n{program}\n")
        (image.shims / name).chmod(0o755)
    for name, argument in instructions():
        image.carry_out(name, argument)
    return image


def test_dockerfile_has_no_finding_of_its_linter() -> None:
    run(str(BIN / "hadolint"), str(ROOT / "Dockerfile"), cwd=ROOT)


def test_build_gets_what_it_copies_and_nothing_else(image: Image) -> None:
    """No token, database or environment gets into an image."""
    assert image.copied == context()
    assert image.downloads == DOWNLOADS


def test_image_has_the_bot_and_neither_the_stage_nor_the_tests(image: Image) -> None:
    names = {path.name for path in image.packages.iterdir()}
    assert {"noskgpt", "noskgpt_bard", "discord", "torch"} < names
    assert not names & {"simcord", "av", "pytest", "tests", "bot"}
    assert not set(pins("bot.txt")) & {"simcord", "av"}
    assert not (image.root / "build").exists()
    said = run(
        f"{image.root}/opt/bard/bin/noskgpt-bard",
        "--version",
        cwd=image.root,
        environment=image.variables(),
    )
    assert said == f"noskgpt-bard {importlib.metadata.version('noskgpt-bard')}\n"


def test_image_runs_as_nobody_else_and_asks_the_bot_about_its_health(image: Image) -> None:
    log = (image.root.parent / "log").read_text().splitlines()
    user, group = image.settings["USER"].split(":")
    assert int(user) > 0
    assert [line.split()[:3] for line in log[:2]] == [
        ["groupadd", "--gid", group],
        ["useradd", "--uid", user],
    ]
    assert log[2].split()[1:4] == ["--directory", "--owner", "bard"]
    assert image.settings["VOLUME"] == "/data"
    assert json.loads(image.settings["ENTRYPOINT"]) == ["noskgpt-bard"]
    check = image.settings["HEALTHCHECK"].partition("CMD ")[2]
    assert json.loads(check) == ["noskgpt-bard", "check", "--alive"]


def test_read_only_image_speaks_with_the_code_that_was_compiled_into_it(image: Image) -> None:
    """What it writes is below /data, which has the compiled code of the image afterwards."""
    (compiled,) = image.packages.glob("noskgpt/inference/__pycache__/numba-*")
    before = sorted(path.name for path in compiled.rglob("*") if path.is_file())
    assert len([name for name in before if name.endswith(".nbc")]) > 5
    folders = [compiled, compiled.parent, *(p for p in compiled.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    try:
        said = run(
            *UNPRIVILEGED,
            f"{image.root}/opt/bard/bin/noskgpt",
            *("--prompt", "ROMEO:", "--max-chars", "2", "--real-words", "--cast", "--echo"),
            cwd=image.folder,
            environment=image.variables(),
        )
    finally:
        for folder in folders:
            folder.chmod(0o700)
    assert len(said) == 3
    copy = image.root / "data/cache/noskgpt" / compiled.name
    assert sorted(path.name for path in copy.rglob("*") if path.is_file()) == before


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(ROOT / "compose.yaml")
    return loaded


def test_compose_file_keeps_the_schema_of_compose() -> None:
    checker = (str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec")
    run(*checker, str(ROOT / "compose.yaml"), cwd=ROOT)


def test_compose_file_that_breaks_the_schema_is_found(tmp_path: Path) -> None:
    broken = compose()
    broken["services"]["bard"]["restarts"] = "always"
    YAML(typ="safe").dump(broken, tmp_path / "compose.yaml")
    checker = (str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec")
    with pytest.raises(AssertionError, match="restarts"):
        run(*checker, str(tmp_path / "compose.yaml"), cwd=tmp_path)


def test_compose_file_limits_the_container() -> None:
    (bard,) = compose()["services"].values()
    assert bard["read_only"] is True
    assert bard["cap_drop"] == ["ALL"]
    assert bard["security_opt"] == ["no-new-privileges:true"]
    assert bard["restart"] == "unless-stopped"
    assert int(bard["stop_grace_period"].removesuffix("s")) > 10
    assert set(bard["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    # All that it writes: the volume, and /tmp.
    image = dict(instructions())
    assert [volume.split(":")[1] for volume in bard["volumes"]] == [image["VOLUME"]]
    assert [mount.split(":")[0] for mount in bard["tmpfs"]] == ["/tmp"]  # noqa: S108
    assert "ports" not in bard
    # A path of the host's in .env does not take the database out of the volume.
    assert all(path.startswith("/data/") for path in bard["environment"].values())
    assert "privileged" not in bard
