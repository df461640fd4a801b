"""Keep the files of training runs: one folder for each run, and none of an old one."""

import logging
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

import noskgpt
from noskgpt import checkpoint as checkpoints
from noskgpt.runs import run_path

from ..storage.restore import unused_path
from ..storage.runs import Run
from .promotions import weights_path

log = logging.getLogger(__name__)

_FOLDERS = re.compile(r"(?<![\w./:~-])(?:[A-Za-z]:)?[/\\](?=[^\s/\\])(?:[^\s/\\'\"]+[/\\])*")
"""The folders of an absolute path."""


class RunFolders:
    """Make, read and delete the files of runs. The methods that use files block.

    Args:
        folder: The folder of all runs.
        corpus: The text for runs without an attached one; None selects the bundled plays.
        keep: Number of runs that keep their files, besides those in use.
    """

    def __init__(self, folder: Path, corpus: Path | None, keep: int) -> None:
        self._folder = folder.absolute()
        self._corpus = corpus and corpus.absolute()
        self._keep = keep

    def weights(self, run_id: int) -> Path:
        """Return the path of the weights that a run writes at its end."""
        return weights_path(self._folder, run_id)

    def state(self, run_id: int) -> Path:
        """Return the path of the checkpoint from which an unfinished run is resumed."""
        return run_path(self.weights(run_id))

    def start(self, run_id: int) -> Path:
        """Return the path of the weights that a run starts from, while its child needs them."""
        return self._of(run_id) / "start.pth"

    def chart(self, run_id: int) -> Path:
        """Return the path of the chart of a run's losses."""
        return self._of(run_id) / "losses.png"

    def corpus(self, run: Run) -> Path | None:
        """Return the path of the text of a run; None for the bundled plays."""
        return self._corpus if run.corpus is None else self._of(run.id) / "corpus.txt"

    def _of(self, run_id: int) -> Path:
        return self.weights(run_id).parent

    def prepare(
        self, run: Run, corpus: bytes | None, start: noskgpt.Generator | None, *, resumed: bool
    ) -> IO[bytes]:
        """Make a run's folder; return the file for the child's standard error.

        Args:
            run: The run.
            corpus: The attached text; None if there is none.
            start: The model that the run starts from; None if it starts from nothing.
            resumed: Whether it goes on from files that are there.

        Raises:
            OSError: A file cannot be written.
            CheckpointError: The weights cannot be written.
        """
        folder = self._of(run.id)
        if folder.exists() and not resumed:
            # Of a database that was moved away: its weights would pass for those of this run.
            kept = folder.rename(unused_path(folder))
            log.warning("Run %d: the folder of another run of that number is %s now", run.id, kept)
        folder.mkdir(parents=True, exist_ok=True)
        if corpus is not None:
            (folder / "corpus.txt").write_bytes(corpus)
        if start is not None:
            # Not the file of the active weights, which may have changed since it was loaded.
            checkpoints.save(start.checkpoint, self.start(run.id))
        return self._errors(run.id).open("wb")

    def _errors(self, run_id: int) -> Path:
        return self._of(run_id) / "stderr.txt"

    def log_errors(self, run_id: int, code: int) -> None:
        """Copy the end of the child's standard error to the log."""
        with suppress(OSError):
            output = self._errors(run_id).read_text(encoding="utf-8", errors="replace")
            log.error("Run %d ended with code %d: %s", run_id, code, output[-2000:])

    def hide(self, run: Run, text: str) -> str:
        """Return a text with the names of files alone: the folders are the host's."""
        folder = self._of(run.id)
        names = {f"{folder / 'corpus.txt'}": run.corpus or "corpus.txt", f"{folder}{os.sep}": ""}
        if self._corpus is not None:
            names[f"{self._corpus}"] = self._corpus.name
        for path, name in names.items():  # these may have spaces
            text = text.replace(path, name)
        return _FOLDERS.sub("", text)

    def delete(self, run_id: int) -> None:
        """Delete the files of a run."""
        shutil.rmtree(self._of(run_id), ignore_errors=True)

    def delete_start(self, run_id: int) -> None:
        """Delete the weights that a run started from.

        Raises:
            OSError: The file cannot be deleted.
        """
        self.start(run_id).unlink(missing_ok=True)

    def delete_old(self, newest: int, used: set[int]) -> None:
        """Delete the files of all but the newest runs and those in use.

        Args:
            newest: The newest run. Folders with higher numbers are those of another database.
            used: The runs in use.

        Raises:
            OSError: The folder cannot be read.
        """
        kept = 0
        folders = [path for path in self._folder.iterdir() if path.name.isdecimal()]
        for folder in sorted(folders, key=lambda path: int(path.name), reverse=True):
            run_id = int(folder.name)
            if run_id in used or run_id > newest:
                continue
            valuable = self.weights(run_id).exists() or self.state(run_id).exists()
            kept += valuable
            if kept > self._keep or not valuable:
                shutil.rmtree(folder, ignore_errors=True)
