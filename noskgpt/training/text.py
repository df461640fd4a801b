"""Prepare a text for a run: choose the vocabulary, and convert both of its parts to ids."""

from dataclasses import dataclass

import torch
from torch import Tensor

from noskgpt import lexicon, scene
from noskgpt.corpus import Corpus
from noskgpt.lexicon import Lexicon
from noskgpt.scene import Casts
from noskgpt.tokenizer import VOCABULARY, Tokenizer
from noskgpt.training import warm_start
from noskgpt.training.warm_start import StartWeights


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingText:
    """Hold a text as a run reads it, and what its checkpoint stores about it."""

    vocabulary: str
    left_out: str
    """The characters that the vocabulary of the start weights lacks."""
    train: Tensor
    """(N,) ids of the training part."""
    held_out: Tensor
    """(N,) ids of the held-out part."""
    lexicon: Lexicon
    casts: Casts


def prepare(corpus: Corpus, start: StartWeights | None, device: torch.device) -> TrainingText:
    """Return a text in the vocabulary of the start weights, or in one that covers it.

    Without start weights, the vocabulary is the reference's 65 symbols if they cover the text,
    otherwise the characters of the text.

    Args:
        corpus: The text.
        start: The weights that the run starts from; None if it starts from nothing.
        device: Where the ids are needed.

    Raises:
        TrainingError: The text does not fit the vocabulary of the start weights.
    """
    vocabulary, left_out, words, folded = corpus.vocabulary, "", frozenset[str](), corpus
    if start is not None:
        vocabulary, words = start.vocabulary, start.words
        folded, (left_out, _) = warm_start.fold(corpus, start)
    elif set(vocabulary) <= set(VOCABULARY):
        vocabulary = VOCABULARY
    tokenizer = Tokenizer(vocabulary)
    return TrainingText(
        vocabulary=vocabulary,
        left_out=left_out,
        train=torch.tensor(tokenizer.encode(folded.train)).to(device),
        held_out=torch.tensor(tokenizer.encode(folded.held_out)).to(device),
        # Before the plan of a run with a time limit, which then contains what a text takes.
        lexicon=lexicon.build(vocabulary, lexicon.words(folded.train) | words),
        casts=scene.build(corpus.plays),
    )
