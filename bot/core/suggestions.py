"""Suggest prompts: the channel's recent ones, and the speakers of the corpus."""

import logging
import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from noskgpt.corpus import load_corpus
from noskgpt.errors import CorpusError

from ..concurrency import Threads
from ..storage.records import Place
from ..storage.turns import TurnStore
from . import transcript

log = logging.getLogger(__name__)

SCENE_CHARS = 4000
"""Characters of a scene whose speakers are suggested."""
_RECENT = 5
_COLON_LINE = re.compile(r"^.*:$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A prompt and the number of its speaker's speeches; 0 for a recent prompt."""

    prompt: str
    speeches: int = 0


class Suggestions:
    """Find prompts that match a typed text. Speakers are kept in memory, most frequent first.

    Args:
        turns: The stored turns.
        threads: Runs the count of the speakers.
    """

    def __init__(self, turns: TurnStore, threads: Threads) -> None:
        self._turns = turns
        self._threads = threads
        self._speakers: list[Suggestion] = []

    async def load(self, corpus: Path | None) -> None:
        """Count the speakers of a corpus; log a warning if it cannot be read.

        Args:
            corpus: The path of a text; None selects the bundled plays.
        """
        try:
            self._speakers = await self._threads.run(_speakers, corpus)
        except CorpusError as error:
            log.warning("No speakers to suggest: %s", error)

    async def find(self, place: Place, typed: str, limit: int) -> list[Suggestion]:
        """Return up to `limit` prompts that match a typed text, in this order.

        The place's recent prompts that contain it, speakers whose name starts with it, speakers
        with a later word that starts with it.
        """
        wanted = typed.strip().casefold()
        recent = [p for p in await self._turns.prompts(place) if wanted in p.casefold()]
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

    async def speakers(self, place: Place, typed: str, limit: int) -> list[str]:
        """Return up to `limit` names of speakers that match a typed text.

        First those of the place's scene, newest first, then those of the corpus, as in `find`.
        """
        wanted = typed.strip().casefold()
        turns = await self._turns.tail(place, await self._turns.scene(place), chars=SCENE_CHARS)
        names: dict[str, None] = {}
        for turn in reversed(turns):
            text = f"{transcript.lead(turn.prompt or '')}{turn.reply}"
            for before, line in reversed([*pairwise(["", *text.split("\n")])]):
                name = transcript.speaker_of(line, before)
                if name is not None and wanted in name.casefold():
                    names[name] = None
        for speaker in await self.find(place, typed, limit):
            if speaker.speeches:
                names[speaker.prompt.removesuffix(":")] = None
        return list(names)[:limit]


def _speakers(path: Path | None) -> list[Suggestion]:
    text = load_corpus(path).train
    # Not a list of all lines, which takes as much memory as the model.
    counts = Counter(
        match[0]
        for match in _COLON_LINE.finditer(text)
        if transcript.is_speaker(match[0], _line_before(text, match.start()))
    )
    return [Suggestion(name, speeches) for name, speeches in counts.most_common()]


def _line_before(text: str, start: int) -> str:
    """Return the line before the one that starts there; empty before the first."""
    end = max(0, start - 1)
    return text[text.rfind("\n", 0, end) + 1 : end]
