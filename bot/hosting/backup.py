"""Save and restore the database on the command line."""

from collections.abc import Callable
from pathlib import Path

from ..storage.backup import save_backup
from ..storage.restore import restore_backup


def backup(database: Path, target: Path, *, force: bool, say: Callable[[str], object]) -> None:
    """Save the database, which a running bot may use meanwhile.

    Raises:
        StartupError: See `save_backup`.
    """
    header = save_backup(database, target, force=force)
    size = target.stat().st_size / 1e6
    say(f"Saved {database} as {target}: {size:.1f} MB, version {header.version}, checked.")
    say("Words that members delete from now on stay in that file: delete it when it is old.")


def restore(file: Path, database: Path, runs: Path, *, say: Callable[[str], object]) -> None:
    """Put a backup in the place of the database of a bot that is stopped.

    Raises:
        StartupError: See `restore_backup`.
    """
    restored = restore_backup(file, database, runs)
    say(f"Restored {file} as {database}.")
    if restored.header.version < restored.newest:
        say(
            f"It has version {restored.header.version}; the next start of the bot migrates it to "
            f"{restored.newest}."
        )
    if restored.replaced is not None:
        say(f"The database that it replaces is kept as {restored.replaced}: delete it when the bot")
        say("runs as it should.")
    if restored.runs:
        say(f"The backup does not know {restored.runs} training runs. Their folders in {runs}")
        say("were renamed; they can be deleted.")
    say("Words that members deleted after the backup was made are in the database again.")
