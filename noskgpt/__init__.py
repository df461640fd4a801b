"""Load noskGPT, a character-level transformer of 1,170,625 parameters, and generate text."""

from noskgpt.errors import CheckpointError, CorpusError, NoskGPTError, TrainingError
from noskgpt.inference.decoder import Cancellation
from noskgpt.inference.generator import Generator, load

__all__ = [
    "Cancellation",
    "CheckpointError",
    "CorpusError",
    "Generator",
    "NoskGPTError",
    "TrainingError",
    "load",
]
