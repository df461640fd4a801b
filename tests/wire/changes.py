"""Wait for something to become true, instead of for a time."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""After this time a test that waits for what never happens fails, instead of hanging."""
LONG_PATIENCE_SECONDS = 300.0
"""The same where a process starts or trains."""


class Changes:
    """Lets tests wait on the state of the double; whoever changes that calls `notify`.

    Attributes:
        lost: Why nothing will change any more, such as a bot that has ended.
    """

    def __init__(self) -> None:
        self.lost: str | None = None
        self._next = asyncio.Event()

    def notify(self) -> None:
        """Look at all conditions again."""
        changed, self._next = self._next, asyncio.Event()
        changed.set()

    async def until(
        self, condition: Callable[[], T | None], what: str, patience: float = PATIENCE_SECONDS
    ) -> T:
        """Wait until a condition returns something true, and return that.

        Args:
            condition: Looked at whenever something has changed.
            what: What it means, for the failure.
            patience: Seconds after which it fails.

        Raises:
            AssertionError: It never does.
        """
        try:
            async with asyncio.timeout(patience):
                while not (result := condition()):
                    assert self.lost is None, f"{what}: {self.lost}"
                    await self._next.wait()
        except TimeoutError:
            raise AssertionError(f"{what}: did not happen") from None
        return result
