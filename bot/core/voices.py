"""Decide which voice speaks, and keep the models of the voices that spoke last in memory."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import noskgpt

from ..concurrency import Wait, plain_wait
from ..errors import Reason, RejectedError
from ..storage.records import DEFAULT_VOICE, Place
from ..storage.voices import DEFAULT_NAME, Voice, VoiceStore
from .inference import Inference
from .promotions import is_passing, weights_path

log = logging.getLogger(__name__)

KEPT_MODELS = 3
"""Number of models that stay in memory beside that of the default voice; each takes 8 MB."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice that is about to speak."""

    id: int
    name: str
    """Empty for the default voice."""
    model: noskgpt.Generator | None
    """None for the default voice, which has the active model."""
    instead_of: str = ""
    """Name of the voice that should have spoken and cannot."""


class Voices:
    """Lend the models of voices. The default voice has the active model.

    Args:
        store: The stored voices.
        inference: Loads weights, and owns the active model.
        folder: The folder of all runs.
        wait: See `bot.concurrency.Wait`.
    """

    def __init__(
        self, store: VoiceStore, inference: Inference, folder: Path, wait: Wait = plain_wait
    ) -> None:
        self._store = store
        self._inference = inference
        self._folder = folder
        self._wait = wait
        self._models: dict[int, noskgpt.Generator] = {}
        """By run; the one that was used last is the last."""
        self._users: Counter[int] = Counter()
        """The number of requests that use the model of a run, or wait for it."""
        self._loading = asyncio.Lock()

    def named(self, name: str) -> int:
        """Return the id of the voice with a name.

        Raises:
            RejectedError: There is none.
        """
        if name.strip().casefold() == DEFAULT_NAME:
            return DEFAULT_VOICE
        voice = self._store.find(name)
        if voice is None:
            raise RejectedError(Reason.UNKNOWN_VOICE, name=name, known=self.names())
        return voice.id

    def names(self, typed: str = "") -> list[str]:
        """Return the names that contain a typed text, that of the default voice first."""
        names = [DEFAULT_NAME, *(voice.name for voice in self._store.listed())]
        return [name for name in names if typed.strip().casefold() in name.casefold()]

    @asynccontextmanager
    async def lend(self, wanted: int | None, place: Place) -> AsyncIterator[Speaker]:
        """Keep the model of a voice in memory while the context lasts.

        Args:
            wanted: The voice; None selects that of the place's new scenes. They stand in for a
                voice that was removed as well.
            place: The place.

        Raises:
            RejectedError: The weights of the wanted voice are missing or damaged, or cannot be read
                at the moment. Those of the place's new scenes are replaced by the default ones.
        """
        instead_of = ""
        chosen = self._store.default_of(place) if wanted is None else wanted
        voice = self._store.get(chosen)
        if voice is not None and voice.removed:
            instead_of, wanted = voice.name, None
            voice = self._store.get(self._store.default_of(place))
        if voice is None:
            yield Speaker(DEFAULT_VOICE, "", None, instead_of)
            return
        self._users[voice.run_id] += 1
        try:
            yield await self._speaker(voice, instead_of, needed=wanted is not None)
        finally:
            self._users[voice.run_id] -= 1
            self._drop_unused()

    async def _speaker(self, voice: Voice, instead_of: str, *, needed: bool) -> Speaker:
        try:
            return Speaker(voice.id, voice.name, await self._model(voice), instead_of)
        except (noskgpt.NoskGPTError, OSError) as error:
            log.error("Cannot load the weights of a voice, run %d: %s", voice.run_id, error)  # noqa: TRY400
            if needed:
                reason = Reason.VOICE_UNREADABLE if is_passing(error) else Reason.VOICE_DAMAGED
                raise RejectedError(reason, name=voice.name) from error
            return Speaker(DEFAULT_VOICE, "", None, voice.name)

    async def _model(self, voice: Voice) -> noskgpt.Generator:
        """Return the model of a voice, which is loaded if it is not in memory.

        Raises:
            NoskGPTError: Its file is missing or damaged, or has other weights.
            OSError: It cannot be read.
        """
        if voice.weights == self._inference.model.name:
            return self._inference.model
        if (model := self._use(voice.run_id)) is not None:
            return model
        await self._wait(self._loading.acquire())
        try:
            if (model := self._use(voice.run_id)) is not None:  # another request has loaded it
                return model
            path = weights_path(self._folder, voice.run_id)
            model = await self._wait(self._inference.read(path))
            if model.name != voice.weights:
                raise noskgpt.NoskGPTError(f"{path} has the weights {model.name}")
            self._models[voice.run_id] = model
            self._drop_unused()
            return model
        finally:
            self._loading.release()

    def _use(self, run_id: int) -> noskgpt.Generator | None:
        """Return the model of a run and make it the one used last; None if it is not in memory."""
        model = self._models.pop(run_id, None)
        if model is not None:
            self._models[run_id] = model
        return model

    def _drop_unused(self) -> None:
        """Drop the models used least recently, as far as no request uses them."""
        for run_id in [run_id for run_id in self._models if not self._users[run_id]]:
            if len(self._models) <= KEPT_MODELS:
                break
            del self._models[run_id]
        self._users = +self._users
