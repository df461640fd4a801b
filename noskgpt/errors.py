"""Define the errors that the library raises for problems that a user can fix."""

_BRIEF = 200


class NoskGPTError(Exception):
    """Base class of the library's errors; the message states the problem and the remedy."""


class CheckpointError(NoskGPTError):
    """A weights file or another output file is missing, damaged, foreign or cannot be written."""


class CorpusError(NoskGPTError):
    """A corpus file is missing, is not text, or is too short to train on or evaluate."""


class TrainingError(NoskGPTError):
    """A training run cannot start or cannot continue."""


def brief(error: BaseException) -> str:
    """Return the message of an error in one line of at most 200 characters."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= _BRIEF else f"{line[: _BRIEF - 1]}…"
