"""One bot at a time on a database and on a folder of runs."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from bot.errors import StartupError
from bot.storage.lock import exclusive
from tests.bot.process import bot_process

KILLED_WHILE_ITS_CHILD_LIVES = """
import os, signal, sys
from subprocess import DEVNULL, Popen
from pathlib import Path
from bot.storage.lock import exclusive
with exclusive(Path("a.sqlite3"), Path("runs")):
    # Without `close_fds`, the child has every file that a child inherits.
    child = Popen(
        [sys.executable, "-c", "input()"],
        stdin=0, stdout=DEVNULL, stderr=DEVNULL, close_fds=False,
    )
    print(child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def refuse(database: Path, runs: Path, line: str) -> None:
    """Check that the files are refused, with one line."""
    with pytest.raises(StartupError, match=line) as caught, exclusive(database, runs):
        raise AssertionError
    assert "\n" not in str(caught.value)


def test_second_bot_is_refused_until_the_first_ends() -> None:
    database, runs = Path("a.sqlite3"), Path("runs")
    with exclusive(database, runs):
        refuse(database, Path("other runs"), r"/a\.sqlite3 is in use .* BARD_DATABASE")
        refuse(Path("b.sqlite3"), runs, r"/runs is in use .* BARD_RUNS_DIR")
        # What was refused keeps no lock.
        with exclusive(Path("b.sqlite3"), Path("other runs")):
            pass
    with exclusive(database, runs):
        pass


@pytest.mark.parametrize("path", ["folder/../a.sqlite3", "link.sqlite3", "linked/a.sqlite3"])
def test_other_paths_of_the_same_file_have_the_same_lock(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.sqlite3").symlink_to("a.sqlite3")
    (tmp_path / "linked").symlink_to(tmp_path)
    with exclusive(tmp_path / "a.sqlite3", tmp_path / "runs"):
        refuse(Path(path), Path("others"), "in use")
        refuse(Path("b.sqlite3"), Path("linked/runs"), "in use")


def test_locks_create_folders_and_nothing_in_place_of_the_database() -> None:
    with exclusive(Path("new/a.sqlite3"), Path("new/runs")):
        assert [path.name for path in sorted(Path("new").rglob("*"))] == [
            "a.sqlite3.lock",
            "runs",
            ".lock",
        ]


@pytest.mark.parametrize(
    ("database", "runs", "variable"),
    [("file/a.sqlite3", "runs", "BARD_DATABASE"), ("a.sqlite3", "file/runs", "BARD_RUNS_DIR")],
)
def test_folder_that_cannot_be_written(database: str, runs: str, variable: str) -> None:
    Path("file").touch()  # even root cannot write below a file
    refuse(Path(database), Path(runs), f"Cannot use .*/file.* {variable}")
    with exclusive(Path("a.sqlite3"), Path("runs")):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_used_with_a_warning(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_file: int, operation: int) -> None:
        if operation != fcntl.LOCK_UN:
            raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", fail)
    with exclusive(Path("a.sqlite3"), Path("runs")):
        assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
        assert "no locks" in caplog.text


async def test_lock_ends_with_a_killed_process_though_its_child_lives(weights: Path) -> None:
    async with bot_process("-c", KILLED_WHILE_ITS_CHILD_LIVES, weights=weights) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        child = int(await process.stdout.readline())
        assert await process.wait() < 0
        os.kill(child, 0)  # it is alive
        with exclusive(Path("a.sqlite3"), Path("runs")):
            pass
        process.stdin.close()  # the child's too, which ends it
