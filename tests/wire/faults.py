"""Faults that a test scripts: what happens to the next requests of a route."""

import asyncio
from dataclasses import dataclass, field
from enum import Enum, auto

from tests.wire.limits import VIA

HTML = (
    "<!DOCTYPE html><html><head><title>discord.com | 502: Bad gateway</title></head>"
    f"<body>{'<p>The web server reported a bad gateway error.</p>' * 40}</body></html>"
)
"""A page of the proxy in front of Discord."""


class When(Enum):
    """Whether a request takes effect before its fault."""

    BEFORE = auto()
    AFTER = auto()


@dataclass(eq=False)
class Fault:
    """What happens to a request instead of its answer.

    Attributes:
        status: The status of the answer; None drops the connection.
        body: Its body: JSON as a dictionary, or HTML.
        when: Whether the request takes effect first.
        times: How many requests it still happens to.
        headers: Of the answer.
        token: Only to requests of this interaction, if given.
        held: Whether the request waits for `release` and is then treated as usual.
        struck: How often it has happened.
    """

    status: int | None
    body: dict[str, object] | str
    when: When
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    held: bool = False
    struck: int = 0
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Let the held requests go on."""
        self._released.set()

    async def passed(self) -> None:
        """Wait until the held requests may go on."""
        await self._released.wait()


class Faults:
    """The faults that are still to happen, by route.

    A route is a key of `tests.wire.server.ROUTES`, such as `PATCH @original`.
    """

    def __init__(self) -> None:
        self._planned: dict[str, list[Fault]] = {}

    def fails(
        self, route: str, status: int = 502, *, times: int = 1, token: str | None = None
    ) -> Fault:
        """Answer with a page of HTML and without an effect."""
        return self._plan(route, Fault(status, HTML, When.BEFORE, times, token=token))

    def loses(
        self, route: str, status: int | None = None, *, times: int = 1, token: str | None = None
    ) -> Fault:
        """Carry the request out and lose its answer: an error instead, or no answer at all."""
        return self._plan(route, Fault(status, HTML, When.AFTER, times, token=token))

    def drops(self, route: str, *, times: int = 1, token: str | None = None) -> Fault:
        """Drop the connection before an effect."""
        return self._plan(route, Fault(None, "", When.BEFORE, times, token=token))

    def refuses(
        self, route: str, status: int, code: int, *, times: int = 1, token: str | None = None
    ) -> Fault:
        """Answer with one of Discord's codes and without an effect."""
        body: dict[str, object] = {"message": f"Error {code}", "code": code}
        return self._plan(route, Fault(status, body, When.BEFORE, times, token=token))

    def limits(self, route: str, *, times: int = 1, token: str | None = None) -> Fault:
        """Answer that there were too many requests, with a moment to wait."""
        body: dict[str, object] = {
            "message": "You are being rate limited.",
            "retry_after": 0.05,
            "global": False,
        }
        headers = {"Retry-After": "1", **VIA}
        return self._plan(route, Fault(429, body, When.BEFORE, times, headers, token))

    def bans(self, route: str, *, times: int = 1) -> Fault:
        """Answer 429 as the proxy does, with HTML and without the header `Via`."""
        headers = {"Retry-After": "3600"}
        return self._plan(route, Fault(429, HTML, When.BEFORE, times, headers))

    def holds(
        self, route: str, when: When = When.AFTER, *, times: int = 1, token: str | None = None
    ) -> Fault:
        """Let the request or, after its effect, its answer wait for `Fault.release`."""
        return self._plan(route, Fault(None, "", when, times, token=token, held=True))

    def _plan(self, route: str, fault: Fault) -> Fault:
        self._planned.setdefault(route, []).append(fault)
        return fault

    def take(self, route: str, token: str | None) -> Fault | None:
        """Return the fault of a request that has arrived."""
        for fault in self._planned.get(route, ()):
            if fault.times and fault.token in {None, token}:
                fault.times -= 1
                return fault
        return None

    def pending(self) -> list[str]:
        """Return the routes with faults that have not happened as often as planned."""
        return [route for route, faults in self._planned.items() if any(f.times for f in faults)]

    def clear(self) -> None:
        """Let requests go on, and forget what was planned."""
        for faults in self._planned.values():
            for fault in faults:
                fault.release()
        self._planned.clear()
