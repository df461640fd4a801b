"""Locate the bundled weights and corpus, in a checkout and in an installed wheel.

In a checkout or an editable install the files are in the repository's own folders. A wheel
contains them in the package, in ``bundled``.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_IN_WHEEL = _PACKAGE / "bundled"
_IN_CHECKOUT = _PACKAGE.parent


def weights_path() -> Path:
    """Return the path of the bundled ``weights.pth``; the file may be missing."""
    if _IN_WHEEL.is_dir():
        return _IN_WHEEL / "weights.pth"
    return _IN_CHECKOUT / "weights.pth"


def corpus_path() -> Path:
    """Return the path of the bundled ``shakespeare.txt``; the file may be missing."""
    if _IN_WHEEL.is_dir():
        return _IN_WHEEL / "shakespeare.txt"
    return _IN_CHECKOUT / "data" / "shakespeare.txt"
