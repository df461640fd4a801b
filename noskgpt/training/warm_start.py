"""Start a run from trained weights: check that their vocabulary fits the text, and convert it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from noskgpt import lexicon
from noskgpt.checkpoint import Checkpoint, check_vocabulary
from noskgpt.config import ModelConfig
from noskgpt.corpus import Corpus
from noskgpt.coverage import LeftOut, describe, left_out
from noskgpt.errors import TrainingError
from noskgpt.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWeights:
    """Describe the weights that a run starts from, without the weights themselves."""

    name: str
    """The short name of the weights."""
    command: str | None
    """The command that trained them."""
    vocabulary: str
    config: ModelConfig
    words: frozenset[str]
    """The words of the texts that they were trained on; empty if unknown."""

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "StartWeights":
        """Return the description of a checkpoint."""
        words = frozenset[str]()
        if checkpoint.lexicon is not None:
            words = lexicon.spell(checkpoint.lexicon, checkpoint.vocabulary)
        return cls(
            name=f"noskgpt-{checkpoint.fingerprint()}",
            command=checkpoint.training.command,
            vocabulary=checkpoint.vocabulary,
            config=checkpoint.config,
            words=words,
        )

    @classmethod
    def of_run(
        cls, state: Mapping[str, Any] | None, start: Checkpoint | None
    ) -> "StartWeights | None":
        """Return what describes the start weights of a run; None if it started from nothing.

        Args:
            state: The state of a resumed run, which replaces `start`; None for a new run.
            start: The start weights of a new run.
        """
        if state is None:
            return cls.of(start) if start is not None else None
        values = state.get("start")  # states of earlier versions do not have it
        return cls.from_values(values) if values is not None else None

    def to_values(self) -> dict[str, Any]:
        """Return plain values, for the state of a run."""
        # One value instead of many: the number of values in a file is bounded.
        return asdict(self) | {"words": "\n".join(sorted(self.words))}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "StartWeights":
        """Return what `to_values` described; raise an error of any class if it is damaged."""
        config, words, command = ModelConfig(**values["config"]), values["words"], values["command"]
        if isinstance(words, str):  # a list in states of earlier versions
            words = words.split("\n") if words else []
        if not all(type(text) is str for text in (values["name"], command or "", *words)):
            msg = "the description of the start weights is damaged"
            raise ValueError(msg)
        vocabulary = check_vocabulary(values["vocabulary"])
        words = frozenset(words)
        return cls(
            name=values["name"], command=command, vocabulary=vocabulary, config=config, words=words
        )


def fold(corpus: Corpus, start: StartWeights) -> tuple[Corpus, LeftOut]:
    """Return a text in the vocabulary of start weights, and what was left out of it.

    Raises:
        TrainingError: More than `MAX_LEFT_OUT` of the text would be left out.
    """
    missing = left_out(corpus.train + corpus.held_out, start.vocabulary)
    if not missing.fits:
        msg = (
            f"{corpus.name}: {missing.fraction:.1%} of the text are characters that the weights "
            f"{start.name} do not have: {describe(missing.characters)}. Start from nothing instead."
        )
        raise TrainingError(msg)
    tokenizer = Tokenizer(start.vocabulary)
    train, held_out = (tokenizer.fold(part).text for part in (corpus.train, corpus.held_out))
    return replace(corpus, train=train, held_out=held_out), missing
