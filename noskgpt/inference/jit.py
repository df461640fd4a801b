"""How the loops of the decoder are compiled: by numba where it can be loaded, else not at all.

Compiled code is kept for the next process, in a folder named after the sources: numba looks at
one file alone and would go on using what another file has changed. The folder is beside the
source or, where that is read-only, in the user's cache; where no place is writable the code is
compiled anew in every process.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

try:
    import numba
except (ImportError, OSError) as error:  # no wheel for this platform, or one that cannot load
    AVAILABLE = False
    log.warning("numba cannot be loaded (%s): decoding with PyTorch, several times slower", error)
else:
    AVAILABLE = True

_PACKAGE = Path(__file__).resolve().parent
_SOURCES = ("jit.py", "intrinsics.py", "kernels.py", "sampling.py")


def compiled(function: F) -> F:
    """Compile a function on its first call for each kind of arguments; it holds no GIL.

    Sums may be reordered and fused, and no value may be NaN: a largest value is then found many
    at a time.
    """
    if not AVAILABLE:
        return function
    decorate = numba.njit(
        nogil=True,
        cache=_CACHE is not None,
        fastmath={"reassoc", "contract", "nsz", "arcp", "nnan"},
        error_model="numpy",
    )
    # numba's settings appear in the module at run time; this one is read when it decorates.
    settings = vars(numba.config)
    elsewhere = settings["CACHE_DIR"]
    settings["CACHE_DIR"] = str(_CACHE or elsewhere)
    try:
        return cast("F", decorate(function))
    finally:
        settings["CACHE_DIR"] = elsewhere


def _cache_folder() -> Path | None:
    """Return a writable folder for the code compiled from these sources, or None."""
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((_PACKAGE / name).read_bytes())
    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    for folder in (_PACKAGE / "__pycache__", user / "noskgpt"):
        try:
            place = folder.expanduser() / f"numba-{digest.hexdigest()[:16]}"
            place.mkdir(parents=True, exist_ok=True)
            probe = place / f"probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except (OSError, RuntimeError):  # RuntimeError: there is no home folder
            continue
        return place
    return None


_CACHE = _cache_folder() if AVAILABLE else None
