"""The loop that carries out what other processes have decided."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from bot.cogs.sharing import SharingCog


async def test_folder_that_cannot_be_used_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    full, gone = OSError(28, "No space left on device"), OSError(116, "Stale file handle")
    follow = AsyncMock(side_effect=[full, full, gone, None, gone])
    bard: Any = SimpleNamespace(
        promotions=SimpleNamespace(follow=follow),
        shared_blocks=SimpleNamespace(follow=AsyncMock()),
        shared_deletions=None,
    )
    client: Any = None
    cog = SharingCog(client, bard)
    for _ in range(5):
        await cog.look()
    logged = [record.message.rpartition("] ")[2] for record in caplog.records]
    assert logged == ["No space left on device", "Stale file handle", "Stale file handle"]
