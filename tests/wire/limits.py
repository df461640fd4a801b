"""Limits of rate: buckets with Discord's headers, and the answers of those that are full."""

import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

GLOBAL = (50, 1.0)
"""Requests of a bot in so many seconds, those of interactions excepted."""
BUCKETS = {
    "webhook": (5, 5.0),
    "post": (5, 5.0),
    "edit": (5, 5.0),
    "delete": (5, 5.0),
    "typing": (5, 5.0),
}
"""Requests and seconds: of an interaction's token, and in a channel."""
OLD_EDITS = (3, 20.0)
"""Edits of messages of a channel that are older than an hour. Discord documents no figure."""
TOO_MANY_OLD_EDITS = 30046
VIA = {"Via": "1.1 google"}
"""Without this header a 429 is the proxy's, and discord.py gives up."""


@dataclass
class Bucket:
    """Requests of one kind in a window of time, which starts with its first request."""

    limit: int
    seconds: float
    used: int = 0
    ends_at: float = 0.0

    def take(self, now: float) -> bool:
        """Count a request; return whether there is room for it."""
        if now >= self.ends_at:
            self.used, self.ends_at = 0, now + self.seconds
        if self.used >= self.limit:
            return False
        self.used += 1
        return True


class TooManyError(Exception):
    """A request that came too early.

    Attributes:
        body: The JSON of the answer.
        headers: Its headers.
    """

    def __init__(self, body: dict[str, Any], headers: dict[str, str]) -> None:
        super().__init__(body["message"])
        self.body = body
        self.headers = headers


class Limits:
    """Count requests.

    Args:
        now: The clock. A client waits in real time, so this is not the clock of the tests.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def take(self, name: str | None, key: str, *, counts_globally: bool) -> dict[str, str]:
        """Count a request; return the headers of its answer, or that of one too many.

        Args:
            name: A key of `BUCKETS`; None for a route with the global limit alone.
            key: The channel or token that has a bucket of its own.
            counts_globally: Whether the bot's global limit counts it.

        Raises:
            TooManyError: There were too many.
        """
        if counts_globally and not self._bucket("global", "", GLOBAL).take(self._now()):
            raise self._full(self._bucket("global", "", GLOBAL), {"X-RateLimit-Global": "true"})
        if name is None:
            return {}
        bucket = self._bucket(name, key, BUCKETS[name])
        taken = bucket.take(self._now())
        headers = self._headers(bucket, name)
        if not taken:
            raise self._full(bucket, headers)
        return headers

    def take_old_edit(self, channel: str) -> None:
        """Count the edit of an old message.

        Raises:
            TooManyError: There were too many in its channel.
        """
        bucket = self._bucket("old edits", channel, OLD_EDITS)
        if not bucket.take(self._now()):
            error = self._full(bucket, {})
            message = "Maximum number of edits to messages older than 1 hour reached."
            raise TooManyError(
                {**error.body, "message": message, "code": TOO_MANY_OLD_EDITS}, error.headers
            )

    def exhaust_old_edits(self, channel: str) -> None:
        """Use up the edits of old messages of a channel for as long as a client waits."""
        self._buckets["old edits", channel] = Bucket(1, 60.0, used=1, ends_at=self._now() + 60.0)

    def _bucket(self, name: str, key: str, size: tuple[int, float]) -> Bucket:
        return self._buckets.setdefault((name, key), Bucket(*size))

    def _headers(self, bucket: Bucket, name: str) -> dict[str, str]:
        left = max(0.0, bucket.ends_at - self._now())
        return {
            "X-RateLimit-Limit": str(bucket.limit),
            "X-RateLimit-Remaining": str(bucket.limit - bucket.used),
            "X-RateLimit-Reset": f"{time.time() + left:.3f}",
            "X-RateLimit-Reset-After": f"{left:.3f}",
            "X-RateLimit-Bucket": f"{zlib.crc32(name.encode()):08x}",
        }

    def _full(self, bucket: Bucket, headers: dict[str, str]) -> TooManyError:
        left = max(0.001, bucket.ends_at - self._now())
        is_global = "X-RateLimit-Global" in headers
        body = {
            "message": "You are being rate limited.",
            "retry_after": round(left, 3),
            "global": is_global,
        }
        scope = "global" if is_global else "user"
        retry = {"Retry-After": str(math.ceil(left)), "X-RateLimit-Scope": scope}
        return TooManyError(body, {**headers, **retry, **VIA})
