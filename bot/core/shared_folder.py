"""The folder through which the processes of one bot share weights, deletions and blocks.

active.json            the last decision about the active weights
weights/NAME.pth       the weights of the last decisions
deletions/REQUEST      an empty file for each person whose words all processes delete
blocks/DECISION        an empty file for each person who is blocked, or was until lately
"""

import json
import math
import re
import secrets
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from noskgpt.files import read_regular, replacing

from ..errors import StartupError

KEPT_WEIGHTS = 3
"""Number of weights files that stay, the active one among them."""
DELETION_DAYS = 30
"""Age at which a request for deletion ends; a process that did not run meanwhile misses it."""
LIFT_DAYS = 30
"""Age at which the lift of a block is forgotten; a process that did not run meanwhile misses it."""
_DAY_SECONDS = 86_400
_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_REQUEST = re.compile(r"(?P<time>[0-9]{1,12})-(?P<user>[0-9]{1,20})-(?P<id>[0-9a-f]{16})")
_BLOCK = re.compile(
    r"(?P<time>[1-9][0-9]{0,11})-(?P<user>[1-9][0-9]{0,18})-(?P<what>blocked|lifted)"
)
_MAX_ID = 2**63 - 1
_MAX_DECISION_BYTES = 512  # less than what lets a nested array exhaust the stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The choice of the weights that all processes use."""

    weights: str | None
    """Their short name; None for the weights that each process is configured with."""
    id: str
    """Differs for each decision, also if the weights are the same."""


@dataclass(frozen=True, slots=True, order=True)
class BlockDecision:
    """The choice whether a person is blocked. The greatest one about a person holds."""

    time: int
    """In seconds since 1970 UTC, and later than the decision that it replaces."""
    blocked: bool
    user_id: int


class SharedFolder:
    """Read and write the shared folder. Every method blocks.

    Other processes read at any time: a file appears complete or not at all.

    Args:
        folder: Its path.

    Raises:
        StartupError: It cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._weights, self._deletions = folder / "weights", folder / "deletions"
        self._blocks = folder / "blocks"
        try:
            for part in (folder, self._weights, self._deletions, self._blocks):
                part.mkdir(mode=0o700, parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise StartupError(
                f"BARD_SHARED_DIR is {folder}, which cannot be used: {error.strerror}"
            ) from error

    def decide(self, weights: str | None, source: Path | None) -> Decision:
        """Let all processes use weights; return the decision.

        Args:
            weights: Their short name; None selects the configured ones.
            source: The file that has them, if they have a name.

        Raises:
            OSError: A file cannot be read or written.
        """
        if source is not None:
            assert weights is not None  # noqa: S101 - see above
            with source.open("rb") as data, replacing(self.path(weights)) as file:
                shutil.copyfileobj(data, file)
        decision = Decision(weights=weights, id=secrets.token_hex(8))
        text = json.dumps(asdict(decision)).encode()
        with replacing(self._folder / "active.json") as file:
            file.write(text)
        self._prune()
        return decision

    def decision(self) -> Decision | None:
        """Return the last decision; None if there was none.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is damaged.
        """
        try:
            data = read_regular(self._folder / "active.json", _MAX_DECISION_BYTES)
        except FileNotFoundError:
            return None
        match json.loads(data):
            case {"weights": str(name), "id": str(number)} if _NAME.fullmatch(name):
                return Decision(weights=name, id=number)
            case {"weights": None, "id": str(number)}:
                return Decision(weights=None, id=number)
        raise ValueError("active.json has no decision")

    def path(self, weights: str) -> Path:
        """Return the path of shared weights, given their short name."""
        return self._weights / f"{weights}.pth"

    def request_deletion(self, request_id: str, user_id: int) -> None:
        """Let all processes delete the words of a person.

        Args:
            request_id: From `new_request_id`.
            user_id: The person.

        Raises:
            OSError: The file cannot be written.
        """
        name = f"{time.time():.0f}-{user_id}-{request_id}"
        with replacing(self._deletions / name):
            pass  # an empty file

    def deletions(self) -> dict[str, int]:
        """Return the persons whose words are to be deleted, by the ids of the requests.

        Requests that are over are removed.

        Raises:
            OSError: The folder cannot be read.
        """
        requests = {}
        for path in self._deletions.iterdir():
            if match := _REQUEST.fullmatch(path.name):
                if int(match["time"]) < time.time() - DELETION_DAYS * _DAY_SECONDS:
                    path.unlink(missing_ok=True)
                else:
                    requests[match["id"]] = int(match["user"])
        return requests

    def decide_block(self, user_id: int, *, blocked: bool) -> BlockDecision:
        """Let all processes block a person or lift the block; return the decision that holds.

        Raises:
            OSError: The folder cannot be read or written to.
        """
        last, now = self.block_decisions().get(user_id), math.ceil(time.time())
        if last is not None:
            if last.blocked and blocked:
                return last
            now = max(now, last.time + 1)  # the clocks of the machines may differ
        decision = BlockDecision(now, blocked, user_id)
        with replacing(self._path_of(decision)):
            pass  # an empty file
        return decision

    def block_decisions(self) -> dict[int, BlockDecision]:
        """Return the last decision about each person, by the person's id.

        Decisions that another one has replaced, and old lifts, are removed.

        Raises:
            OSError: The folder cannot be read.
        """
        last: dict[int, BlockDecision] = {}
        over: list[BlockDecision] = []
        for path in self._blocks.iterdir():
            if (decision := _block_decision(path.name)) is None:
                continue
            other = last.get(decision.user_id, decision)
            last[decision.user_id] = max(decision, other)
            if decision != other:
                over.append(min(decision, other))
        oldest = time.time() - LIFT_DAYS * _DAY_SECONDS
        over += [one for one in last.values() if not one.blocked and one.time < oldest]
        for decision in over:
            with suppress(OSError):  # another process does the same
                self._path_of(decision).unlink()
        return {user: one for user, one in last.items() if one.blocked or one.time >= oldest}

    def _path_of(self, decision: BlockDecision) -> Path:
        what = "blocked" if decision.blocked else "lifted"
        return self._blocks / f"{decision.time}-{decision.user_id}-{what}"

    def _prune(self) -> None:
        """Remove all but the newest weights."""
        with suppress(OSError):  # another process does the same
            newest = sorted(self._weights.glob("*.pth"), key=lambda path: -path.stat().st_mtime)
            for path in newest[KEPT_WEIGHTS:]:
                path.unlink(missing_ok=True)


def _block_decision(name: str) -> BlockDecision | None:
    """Return the decision that a file has as its name; None if it has none."""
    match = _BLOCK.fullmatch(name)
    if match is None or int(match["user"]) > _MAX_ID:
        return None
    return BlockDecision(int(match["time"]), match["what"] == "blocked", int(match["user"]))


def new_request_id() -> str:
    """Return an id that no other request has, and that does not contain whose request it is."""
    return secrets.token_hex(8)
