"""Prompts to choose from: the speakers of the corpus, and what a channel asked for of late."""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from noskgpt.corpus import load_corpus
from noskgpt.errors import CorpusError

from ..storage.turns import History
from . import transcript as script

log = logging.getLogger(__name__)

_RECENT = 5


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A prompt, and how many speeches its speaker has; 0 for one that was asked for here."""

    prompt: str
    speeches: int = 0


class Suggestions:
    """Finds prompts by what is typed. The speakers are held in memory, the most frequent first."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._speakers: list[Suggestion] = []

    async def load(self, corpus: Path | None) -> None:
        """Count the speakers of the training text; without it there are none to offer.

        Args:
            corpus: A path of a text; None is the bundled plays.
        """
        try:
            self._speakers = await asyncio.to_thread(_speakers, corpus)
        except CorpusError as error:
            log.warning("No speakers to suggest: %s", error)

    async def find(self, channel_id: int, typed: str, limit: int) -> list[Suggestion]:
        """Return up to `limit` prompts that fit what is typed.

        First come those asked for here that contain it, then speakers whose name begins so, then
        those of whom a later word does.
        """
        wanted = typed.strip().casefold()
        recent = [p for p in await self._history.prompts(channel_id) if wanted in p.casefold()]
        found = {prompt: Suggestion(prompt) for prompt in recent[:_RECENT]}
        later: list[Suggestion] = []
        for speaker in self._speakers:
            name = speaker.prompt.casefold()
            if name.startswith(wanted):
                found.setdefault(speaker.prompt, speaker)
            elif f" {wanted}" in name:
                later.append(speaker)
        for speaker in later:
            found.setdefault(speaker.prompt, speaker)
        return list(found.values())[:limit]


def _speakers(path: Path | None) -> list[Suggestion]:
    lines = ["", *load_corpus(path).train.split("\n")]
    counts = Counter(
        line for before, line in pairwise(lines) if ":" in line and script.is_speaker(line, before)
    )
    return [Suggestion(name, speeches) for name, speeches in counts.most_common()]
