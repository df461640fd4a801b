"""Build the distributions of this checkout, and run commands away from it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from numba.core.caching import _CacheLocator

from noskgpt.inference import jit

ROOT = Path(__file__).parent.parent

# Not copied before a build: what git ignores, and the caches of other tools.
LITTER = (
    *(".env", ".git", ".venv", ".*_cache", ".hypothesis", "__pycache__"),
    *("*.egg-info", "build", "dist", "var"),
)


_CAPABILITIES = "-dac_override,-dac_read_search"
AS_OWNER = ("setpriv", f"--bounding-set={_CAPABILITIES}", f"--inh-caps={_CAPABILITIES}")
"""Runs a command of root's without the right to ignore the permissions of its own files."""
UNPRIVILEGED = AS_OWNER if os.name == "posix" and os.geteuid() == 0 else ()
"""What comes before a command, so that the permissions of files apply to it."""


@dataclass(frozen=True)
class Built:
    """The distributions of this checkout, and the wheel unpacked into a folder of its own."""

    wheel: Path
    sdist: Path
    installed: Path


def build_checkout(folder: Path) -> Built:
    """Build a copy of the checkout: setuptools writes into the folder that it builds.

    The copy holds a module from an earlier build, as a checkout does after a module has moved.
    """
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*LITTER))
    stale = source / "build/lib/noskgpt_bard/stale.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    build(source, "--sdist", "--wheel", into=folder)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    installed = folder / "installed"
    run(sys.executable, "-m", "zipfile", "-e", str(wheel), str(installed), cwd=folder)
    share_machine_code(installed / "noskgpt/inference")
    return Built(wheel, sdist, installed)


def share_machine_code(copy: Path) -> None:
    """Give a copy of `noskgpt/inference` the machine code of the checkout, which is the same.

    Otherwise each copy is compiled again, for half a minute. numba finds the code by the path of
    the sources and the times of their files.
    """
    cache = jit._CACHE
    if cache is None:
        return
    path: Callable[[str], str] = _CacheLocator.get_suitable_cache_subpath
    original = cache / path(str(jit._PACKAGE / "jit.py"))
    if not original.is_dir():
        return
    for name in jit._SOURCES:
        assert (copy / name).read_bytes() == (jit._PACKAGE / name).read_bytes()
        shutil.copystat(jit._PACKAGE / name, copy / name)
    shutil.copytree(original, copy / "__pycache__" / cache.name / path(str(copy / "jit.py")))


def build(source: Path, *kinds: str, into: Path) -> None:
    command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", str(into))
    run(*command, *kinds, str(source), cwd=into)


def run(*command: str, cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a command away from the checkout and return what it printed.

    Args:
        command: The program and its arguments.
        cwd: The working directory.
        environment: All of its environment but PATH; None selects that of the tests.
    """
    done = subprocess.run(  # noqa: S603  (our own commands)
        command,
        cwd=cwd,
        env=None if environment is None else {"PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
