"""A built wheel carries all that the program needs; the pins hold all that it depends on."""

import importlib.metadata
import json
import re
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.wheel import ROOT, Built, build, run

PACKAGES = {"noskgpt", "noskgpt_bard"}

PROBE = """
import asyncio, pathlib, sys
import noskgpt, noskgpt.corpus, noskgpt_bard, noskgpt_bard.storage.database
for package in (noskgpt, noskgpt_bard):
    home = pathlib.Path(package.__file__).parent
    assert home.is_relative_to({target!r}), home
bard = noskgpt.load()
assert len(bard.generate("JULIET:", 50, seed=1)) == 50
corpus = noskgpt.corpus.load_corpus()
assert len(corpus.train) == {held_out_start}
assert bard.checkpoint.training.corpus_sha256 == corpus.sha256
async def main():
    async with noskgpt_bard.storage.database.open_database(pathlib.Path("var/bard.sqlite3")):
        pass
asyncio.run(main())
assert "bot" not in sys.modules
print("complete")
"""


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def path_to(built: Built) -> dict[str, str]:
    """Return an environment in which the built packages come before the editable install."""
    return {"PYTHONPATH": str(built.installed)}


def metadata_of(built: Built) -> importlib.metadata.Distribution:
    (information,) = built.installed.glob("*.dist-info")
    return importlib.metadata.Distribution.at(information)


def contents(wheel: Path) -> dict[str, int]:
    """Return the checksum of each file in a wheel, by its path there."""
    with zipfile.ZipFile(wheel) as archive:
        return {file.filename: file.CRC for file in archive.infolist()}


def test_installs_two_packages_with_their_data(built: Built) -> None:
    names = {path.name for path in built.installed.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == PACKAGES
    expected = {
        "noskgpt/bundled": [ROOT / "weights.pth", *ROOT.glob("data/shakespeare.*")],
        "noskgpt_bard/locales": sorted(ROOT.glob("locales/*.mo")),
        "noskgpt_bard/migrations": sorted(ROOT.glob("migrations/*.sql")),
    }
    for package, sources in expected.items():
        assert len(sources) >= 3
        files = {path.name: path.read_bytes() for path in (built.installed / package).iterdir()}
        assert files == {source.name: source.read_bytes() for source in sources}
    for package, folder in {"noskgpt": "noskgpt", "noskgpt_bard": "bot"}.items():
        modules = {path.relative_to(ROOT / folder) for path in ROOT.glob(f"{folder}/**/*.py")}
        assert len(modules) > 20
        target = built.installed / package
        assert {path.relative_to(target) for path in target.glob("**/*.py")} == modules
        assert (target / "py.typed").is_file(), package
    script = built.installed / "noskgpt_bard/rehearsal_page.js"
    assert script.read_bytes() == (ROOT / "bot/rehearsal_page.js").read_bytes()


def test_sdist_builds_the_same_wheel(built: Built, tmp_path: Path) -> None:
    run(sys.executable, "-m", "tarfile", "-e", str(built.sdist), cwd=tmp_path)
    (source,) = tmp_path.iterdir()
    build(source, "--wheel", into=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    assert contents(wheel) == contents(built.wheel)


def test_works_from_any_folder(built: Built, tmp_path: Path) -> None:
    manifest = json.loads((ROOT / "data/shakespeare.json").read_text(encoding="utf-8"))
    held_out_start = manifest["held_out_start"]
    probe = PROBE.format(target=str(built.installed), held_out_start=held_out_start)
    assert (
        run(sys.executable, "-c", probe, cwd=tmp_path, environment=path_to(built)) == "complete\n"
    )


def test_names_its_commands_its_licence_and_all_that_it_imports(built: Built) -> None:
    distribution = metadata_of(built)
    assert {script.name: script.value for script in distribution.entry_points} == {
        "noskgpt": "noskgpt.cli:main",
        "noskgpt-bard": "noskgpt_bard.__main__:main",
    }
    assert distribution.metadata["License-Expression"] == "MIT"
    licences = [path for path in distribution.files or [] if path.name == "LICENSE"]
    assert [path.read_text() for path in licences] == [read(ROOT / "LICENSE")]

    needed = [Requirement(line) for line in distribution.requires or []]
    required = {canonicalize_name(need.name) for need in needed if need.marker is None}
    imported: set[str] = set()
    for source in built.installed.glob("noskgpt*/**/*.py"):
        imported.update(re.findall(r"^\s*(?:from|import) (\w+)", read(source), re.MULTILINE))
    assert {"torch", "discord", "simcord"} < imported
    # The rehearsal alone imports simcord, of its extra. numba brings llvmlite, discord.py
    # aiohttp, pydantic-settings pydantic.
    known = PACKAGES | {"simcord", "llvmlite", "aiohttp", "pydantic"}
    distributions = importlib.metadata.packages_distributions()
    for module in imported - sys.stdlib_module_names - known:
        assert {canonicalize_name(name) for name in distributions[module]} & required, module


def test_speaks_on_the_command_line(built: Built, tmp_path: Path) -> None:
    options = ("--prompt", "JULIET:", "--max-chars", "300", "--seed", "1")
    said = run(sys.executable, "-m", "noskgpt", *options, cwd=tmp_path, environment=path_to(built))
    assert len(said) == 301


def test_describes_the_bot_on_the_command_line(built: Built, tmp_path: Path) -> None:
    said = run(
        sys.executable, "-m", "noskgpt_bard", "--help", cwd=tmp_path, environment=path_to(built)
    )
    assert "rehearse" in said


def pins(name: str) -> dict[str, list[Requirement]]:
    """Return the requirements of a file by package; one per platform where they differ."""
    found: dict[str, list[Requirement]] = {}
    for line in read(ROOT / "requirements" / name).replace("\\\n", " ").splitlines():
        text = line.split("#")[0].split("--hash")[0].strip()
        if text:
            requirement = Requirement(text)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def version_of(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


@pytest.mark.parametrize("name", ["bot.txt", "run.txt", "dev.txt"])
def test_pins_are_hashed_and_name_no_index(name: str) -> None:
    text = read(ROOT / "requirements" / name)
    assert "://" not in text
    assert not re.search(r"^\s*-(?!-hash=)", text, re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("#")]
    assert len(lines) > 40
    for line in lines:
        assert re.fullmatch(r"\S+==\S+ (;[^#]*?)?( +--hash=sha256:[0-9a-f]{64})+", line), line


@pytest.mark.parametrize(
    ("name", "extra"), [("bot.txt", None), ("run.txt", "rehearsal"), ("dev.txt", "dev")]
)
def test_pins_hold_all_that_an_install_needs(name: str, extra: str | None) -> None:
    """In the ranges of `pyproject.toml`, down to the dependencies of dependencies."""
    pinned = pins(name) | pins("torch.txt")
    project = tomllib.loads(read(ROOT / "pyproject.toml"))
    needs = project["build-system"]["requires"] + project["project"]["dependencies"]
    if extra is not None:
        needs += project["project"]["optional-dependencies"][extra]
    seen: set[str] = set()
    pending = [Requirement(need) for need in needs]
    while pending:
        need = pending.pop()
        package = canonicalize_name(need.name)
        if str(need) in seen:
            continue
        seen.add(str(need))
        if package == "noskgpt-bard":
            rehearsal = project["project"]["optional-dependencies"]["rehearsal"]
            pending += [Requirement(line) for line in rehearsal]
            continue
        assert package in pinned, package
        applying = [p for p in pinned[package] if p.marker is None or p.marker.evaluate()]
        assert len(applying) == 1, package
        assert need.specifier.contains(version_of(applying[0])), need
        for line in importlib.metadata.requires(package) or []:
            dependency = Requirement(line)
            if package == "torch" and "platform_" in str(dependency.marker):
                continue  # CUDA's packages, which PyTorch itself pins
            extras = ["", *need.extras]
            if not dependency.marker or any(
                dependency.marker.evaluate({"extra": name}) for name in extras
            ):
                pending.append(dependency)
    assert len(seen) > 50


def test_pins_of_the_container_are_those_of_run_without_the_stage() -> None:
    """With the same versions and hashes."""
    bot, run = (
        set(re.split(r"\n(?=[a-z])", read(ROOT / "requirements" / name))[1:])
        for name in ("bot.txt", "run.txt")
    )
    assert {pin.strip() for pin in bot} < {pin.strip() for pin in run}
    stage = {"simcord", "av", "linkify-it-py", "regex"}
    assert set(pins("run.txt")) - set(pins("bot.txt")) == stage


def test_pins_agree() -> None:
    for_running, for_developers = pins("run.txt"), pins("dev.txt")
    assert set(for_running) < set(for_developers)
    for package, requirements in for_running.items():
        versions = {version_of(pin) for pin in requirements}
        assert versions == {version_of(pin) for pin in for_developers[package]}, package
