"""The errors of the library that a person can do something about."""


class NoskGPTError(Exception):
    """Base of the library's errors; the message says what is wrong and what to do."""


class CheckpointError(NoskGPTError):
    """A weights file is missing, damaged or not one of ours; names the file and the remedy."""


class CorpusError(NoskGPTError):
    """A corpus is missing, too short or not text; names the file and the remedy."""


class TrainingError(NoskGPTError):
    """A training run cannot start or cannot go on."""
