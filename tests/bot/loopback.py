"""The double of `tests.wire` as tests use it that need one person and tokens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.wire.changes import LONG_PATIENCE_SECONDS
from tests.wire.server import Discord


class Ready:
    """An event that is set when a client identifies itself."""

    def __init__(self, discord: Discord) -> None:
        self._gateway = discord.gateway
        self._before = 0

    def clear(self) -> None:
        """Wait for another client from now on."""
        self._before = self._gateway.identified

    async def wait(self) -> None:
        """Wait until it is set."""
        await self._gateway.has_identified(self._before + 1)


class LoopbackDiscord:
    """Serve one client and record its responses to interactions.

    Attributes:
        discord: The double, for what is not here.
        token: The only bot token that it accepts.
        ready: Set when a client has identified itself.
    """

    def __init__(self, token: str = "right") -> None:  # noqa: S107 - of a test server
        self.discord = Discord(token)
        self.token = token
        self.ready = Ready(self.discord)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["LoopbackDiscord"]:
        """Serve on a free port while the context lasts; at its end no rule may be broken."""
        async with self.discord.running():
            yield self
        assert not self.discord.violations

    @property
    def port(self) -> int:
        """Its port while it runs."""
        return self.discord.port

    @property
    def callbacks(self) -> list[dict[str, Any]]:
        """Bodies of initial responses, in order."""
        return [request.body for request in self.discord.sent("POST callback")]

    @property
    def edits(self) -> dict[str, dict[str, Any]]:
        """Body of the last edit of each original response, by interaction token."""
        edits = self.discord.sent("PATCH @original")
        return {edit.variables["token"]: edit.body for edit in edits if edit.status}

    async def slash(self, name: str, **options: str | float) -> str:
        """Send a command in a direct message; return the interaction's token."""
        return (await self.discord.slash(name, by=None, at=None, **options)).token

    async def edited(self, token: str, text: str = "") -> dict[str, Any]:
        """Wait until an interaction's original response contains a text; return the edit's body."""
        return await self.discord.changes.until(
            lambda: next(
                (body for body in [self.edits.get(token)] if body and _contains(body, text)), None
            ),
            f"an edit with {text!r}",
            LONG_PATIENCE_SECONDS,
        )

    async def acknowledged(self, count: int) -> None:
        """Wait until `count` interactions have had their initial response."""
        await self.discord.changes.until(
            lambda: (
                sum(request.status != 0 for request in self.discord.sent("POST callback")) >= count
            ),
            f"{count} initial responses",
            LONG_PATIENCE_SECONDS,
        )


def _contains(body: dict[str, Any], text: str) -> bool:
    return text in (body.get("content") or "")
