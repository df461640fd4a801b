"""Word the commands that messages advise, so that they work where they are read."""

import importlib.metadata
import os
import shlex
import shutil
import sys
from pathlib import Path, PureWindowsPath

DISTRIBUTION = "noskgpt-bard"
"""Name of the distribution that installs the programs, and of its folder of a user's data."""


def command(module: str, script: str, *arguments: str) -> str:
    """Return the command that runs a program from the working directory of this process.

    It is `python -m MODULE` if this process was started like that, or if the script is not beside
    the interpreter. Both have their folder in front, unless a shell finds them by name.

    Args:
        module: The package of the program.
        script: The console script that its installation creates.
        arguments: What follows the program's name.
    """
    interpreter = Path(sys.executable)
    program = interpreter.with_name(script + (".exe" if os.name == "nt" else ""))
    words = [_shortest(program)]
    started_as_module = Path(sys.argv[0]).parts[-2:] == (module, "__main__.py")
    if started_as_module or not program.is_file():
        words = [_shortest(interpreter), "-m", module]
    return shlex.join([*words, *arguments])


def noskgpt(*arguments: str) -> str:
    """Return the command that runs the model's command line; see `command`."""
    return command("noskgpt", "noskgpt", *arguments)


def pip(*arguments: str) -> str:
    """Return the command that runs the pip of this environment."""
    return shlex.join([_shortest(Path(sys.executable)), "-m", "pip", *arguments])


def without_folders(command: str) -> str:
    """Return a command with the names of its files alone: folders belong to a machine."""
    try:
        words = shlex.split(command)
    except ValueError:  # a quotation mark that is not closed, in a file from elsewhere
        words = command.split()
    return shlex.join(map(_without_folder, words))


def _without_folder(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    if "/" in value or "\\" in value:
        value = PureWindowsPath(value).name  # it knows both kinds of slashes
    return f"{option}{equals}{value}"


def version() -> str:
    """Return the name and the version of the installed distribution in one line."""
    try:
        return f"{DISTRIBUTION} {importlib.metadata.version(DISTRIBUTION)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{DISTRIBUTION}, not installed: run from its source files"


def _shortest(program: Path) -> str:
    """Return the shortest text with which a shell in the working directory finds a program."""
    found = shutil.which(program.name)
    if found is not None and Path(found) == program:
        return program.name
    if program.is_relative_to(Path.cwd()):
        return str(program.relative_to(Path.cwd()))
    return str(program)
