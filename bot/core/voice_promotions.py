"""Let the bot's owner keep the weights of runs as voices, rename voices and remove them."""

import logging
from contextlib import suppress
from pathlib import Path

from ..concurrency import Threads
from ..errors import Reason, RejectedError
from ..storage.runs import RunStore
from ..storage.voices import Voice, VoiceStore, normalized
from .promotions import Promotions, require_finished, weights_path

log = logging.getLogger(__name__)


class VoicePromotions:
    """Change voices. A change takes effect with the next request.

    Args:
        store: The stored voices.
        runs: The stored runs.
        promotions: Loads the weights of runs, and has the lock for decisions about them.
        threads: Runs file operations.
        folder: The folder of all runs.
    """

    def __init__(
        self,
        store: VoiceStore,
        runs: RunStore,
        promotions: Promotions,
        threads: Threads,
        folder: Path,
    ) -> None:
        self._store = store
        self._runs = runs
        self._promotions = promotions
        self._threads = threads
        self._folder = folder

    async def promote(self, run_id: int, name: str) -> tuple[Voice, Voice | None]:
        """Let a voice speak with the weights of a finished run: a new one, or the one of a name.

        Returns:
            The voice, and the one that had the name until now.

        Raises:
            RejectedError: The name cannot be used, there are too many voices, the voice has these
                weights already, or the run has not finished or its file was changed.
        """
        plain = _require_name(name)
        async with self._promotions.lock:
            before = self._store.find(plain)
            if before is not None and before.run_id == run_id:
                raise RejectedError(Reason.VOICE_PROMOTED_ALREADY, name=before.name, run_id=run_id)
            await self._promotions.load_finished(run_id)
            if not await self._store.bind(plain, run_id):  # it has looked at the state again
                require_finished(await self._runs.get(run_id))
            voice = self.require(plain)
            log.info("The voice %s has the weights %s of run %d", voice.id, voice.weights, run_id)
            return voice, before

    async def rename(self, name: str, new_name: str) -> tuple[Voice, Voice]:
        """Give a voice another name; return it as it was and as it is.

        Raises:
            RejectedError: There is no such voice, or the new name cannot be used.
        """
        plain = _require_name(new_name)
        async with self._promotions.lock:
            voice, other = self.require(name), self._store.find(plain)
            if other is not None and other.id != voice.id:
                raise RejectedError(Reason.VOICE_NAME_TAKEN, name=other.name)
            await self._store.rename(voice.id, plain)
            return voice, self.require(plain)

    async def remove(self, voice_id: int) -> Voice:
        """Remove a voice; return it as it was. Its replies stay, and so do the files of its run.

        Raises:
            RejectedError: It was removed already.
        """
        async with self._promotions.lock:
            voice = self._store.get(voice_id)
            if voice is None or voice.removed:
                raise RejectedError(Reason.VOICE_REMOVED_ALREADY)
            await self._store.remove(voice_id)
            log.info("The voice %d was removed", voice_id)
            return voice

    def require(self, name: str) -> Voice:
        """Return the voice with a name, which is not the default one.

        Raises:
            RejectedError: There is none.
        """
        voice = self._store.find(name)
        if voice is None:
            known = [known.name for known in self._store.listed()]
            raise RejectedError(Reason.UNKNOWN_VOICE, name=name, known=known)
        return voice

    async def sizes(self) -> dict[int, int]:
        """Return the sizes of the voices' files in bytes, by voice, without missing ones."""
        return await self._threads.run(self._sizes, self._store.listed())

    def _sizes(self, voices: list[Voice]) -> dict[int, int]:
        sizes = {}
        for voice in voices:
            with suppress(OSError):
                sizes[voice.id] = weights_path(self._folder, voice.run_id).stat().st_size
        return sizes


def _require_name(name: str) -> str:
    if (plain := normalized(name)) is None:
        raise RejectedError(Reason.VOICE_NAME)
    return plain
