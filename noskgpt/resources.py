"""Locate the bundled weights and corpus, in a checkout and in an installed wheel.

In a checkout or an editable install the files are in the repository's own folders. A wheel
contains them in the package, in ``bundled``.
"""

import shlex
from pathlib import Path

from noskgpt import commands

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


def in_checkout() -> bool:
    """Return whether this is a checkout or an editable install of one, not an installed wheel."""
    return not _IN_WHEEL.is_dir()


def weights_advice(path: Path) -> str:
    """Return what the user can do about a weights file that is missing or damaged."""
    train = commands.noskgpt("train")
    bundled = weights_path()
    if path.absolute() != bundled:
        return f"Choose another file, or train new weights with `{train}`."
    if not in_checkout():
        return f"Install {commands.DISTRIBUTION} again, or choose another file."
    if not (_IN_CHECKOUT / ".git").exists():
        return "Copy it again from the archive that this folder came from, or choose another file."
    folder = () if Path.cwd() == _IN_CHECKOUT else ("-C", str(_IN_CHECKOUT))
    git = shlex.join(["git", *folder, "checkout", bundled.name])
    return f"Restore it with `{git}`, or choose another file."
