"""Test that memory which only loading needed is returned, and that all goes on without it."""

import re
import sys
from pathlib import Path

import numba
import pytest

import noskgpt
from noskgpt.inference import pages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def resident_code() -> int:
    """Return how much of the compiler's code is in memory, in kilobytes."""
    smaps = Path("/proc/self/smaps").read_text(encoding="utf-8")
    found = re.search(r" r-xp [^\n]*libllvmlite[^\n]*\n(?:.*\n)*?Rss: +(\d+)", smaps)
    assert found is not None
    return int(found[1])


def test_text_stays_the_same_and_functions_can_still_be_compiled() -> None:
    bard = noskgpt.load()
    before = bard.generate("ROMEO:", 100, seed=1, real_words=True, cast=True, echo=True)
    loaded = resident_code()
    pages.release()
    assert resident_code() < loaded / 4
    assert bard.generate("ROMEO:", 100, seed=1, real_words=True, cast=True, echo=True) == before
    assert numba.njit(lambda x: x + 1)(1) == 2


CHANGED = """7f0000000000-7f0000002000 r-xp 00000000 08:01 12 /lib/libllvmlite.so
Rss:                   8 kB
Anonymous:             4 kB
7f0000002000-7f0000003000 rw-p 00002000 08:01 12 /lib/libllvmlite.so
Anonymous:             0 kB
7f0000003000-7f0000005000 r-xp 00000000 08:01 13 /lib/another.so
Anonymous:             0 kB
7f0000005000-7f0000007000 r-xp 00003000 08:01 12 /with spaces/libllvmlite.so
Anonymous:             0 kB
"""


def test_only_unchanged_code_of_the_compiler_is_returned() -> None:
    assert list(pages._clean_code(CHANGED)) == [(0x7F0000005000, 0x2000)]
