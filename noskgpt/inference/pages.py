"""Return memory to the system that only loading the decoder needed."""

import ctypes
import mmap
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+ *(.*)")
_COMPILER = "libllvmlite"
"""The shared library of LLVM, of which loading machine code uses 70 MB, and running it nothing."""


def release() -> None:
    """Unmap the compiler's pages, and return what the allocator holds in reserve.

    The pages are unchanged parts of a file, which the system reads again if something is compiled
    later. Linux only; elsewhere without effect.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    with suppress(OSError, AttributeError, ValueError):  # no /proc; a C library without a function
        for start, size in _clean_code(Path("/proc/self/smaps").read_text(encoding="utf-8")):
            library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_DONTNEED)
        library.malloc_trim(0)


def _clean_code(smaps: str) -> Iterator[tuple[int, int]]:
    """Yield the start and the size of each mapping of the compiler's code that has no own pages.

    Args:
        smaps: See `man 5 proc_pid_smaps`.
    """
    mapping: re.Match[str] | None = None
    for line in smaps.splitlines():
        if found := _MAPPING.fullmatch(line):
            mapping = found
        elif mapping is not None and line.startswith("Anonymous:"):
            start, end, rights, path = mapping.groups()
            is_code = rights == "r-xp" and Path(path).name.startswith(_COMPILER)
            if is_code and line.split()[1] == "0":  # else a debugger has changed the code
                yield int(start, 16), int(end, 16) - int(start, 16)
