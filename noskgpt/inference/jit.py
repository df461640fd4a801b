"""Compile functions with numba and cache the machine code; leave them as Python without numba.

The cache folder is named after a hash of all compiled modules: numba itself invalidates a cached
function only if its own file changes, not if a function that it calls changes in another file.
The folder is beside the sources or, if that is read-only, in the user's cache, which starts with
a copy of it: a container or a service has the code that was compiled when it was installed. If
neither is writable, every process compiles again.
"""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

try:
    import numba
except (ImportError, OSError) as error:  # no wheel for this platform, or one that fails to load
    AVAILABLE = False
    log.warning("numba cannot be loaded (%s): decoding with PyTorch, several times slower", error)
else:
    AVAILABLE = True

_PACKAGE = Path(__file__).resolve().parent
_SOURCES = ("jit.py", "intrinsics.py", "kernels.py", "sampling.py", "constraints.py")


def compiled(function: F) -> F:
    """Compile a function on its first call with each combination of argument types.

    The compiled function releases the GIL. For vectorisation the compiler may reorder and fuse
    sums, and assumes that no value is NaN.
    """
    if not AVAILABLE:
        return function
    decorate = numba.njit(
        nogil=True,
        cache=_CACHE is not None,
        fastmath={"reassoc", "contract", "nsz", "arcp", "nnan"},
        error_model="numpy",
    )
    # numba reads this setting when it decorates. Type checkers do not see it in the module.
    settings = vars(numba.config)
    previous = settings["CACHE_DIR"]
    settings["CACHE_DIR"] = str(_CACHE or previous)
    try:
        return cast("F", decorate(function))
    finally:
        settings["CACHE_DIR"] = previous


@lru_cache(maxsize=1)
def announce() -> None:
    """Log, once in a process, that the decoder has to be compiled, unless its code is cached."""
    if _CACHE is None or not any(_CACHE.rglob("*.nbc")):
        log.info("Compiling the decoder, which takes 20 s or more; the first text waits for it")


def _cache_folder() -> Path | None:
    """Return a writable folder for the machine code of these sources, or None."""
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((_PACKAGE / name).read_bytes())
    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    name = f"numba-{digest.hexdigest()[:16]}"
    installed = _PACKAGE / "__pycache__" / name
    for folder in (installed.parent, user / "noskgpt"):
        try:
            cache = folder.expanduser() / name
            if folder != installed.parent and installed.is_dir() and not cache.exists():
                _copy(installed, cache)
            cache.mkdir(parents=True, exist_ok=True)
            probe = cache / f"probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except (OSError, RuntimeError):  # RuntimeError: there is no home folder
            continue
        return cache
    return None


def _copy(installed: Path, cache: Path) -> None:
    """Copy a folder of machine code; another process may do the same at once."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as temporary:
        copy = shutil.copytree(installed, Path(temporary) / cache.name)
        for folder in (copy, *filter(Path.is_dir, copy.rglob("*"))):
            folder.chmod(0o700)  # that of the original may be read-only
        with suppress(OSError):  # the other one was first
            copy.rename(cache)


_CACHE = _cache_folder() if AVAILABLE else None
