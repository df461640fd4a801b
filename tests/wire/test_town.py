"""Random actions of members, faults and kills: what is stored is what is shown.

The short form of `make soak`; `tests/bot/core/test_interleavings.py` has more interleavings, of the
services alone.
"""

import pytest

from tests.wire.process import BotProcess
from tests.wire.server import Discord
from tests.wire.town import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_what_is_stored_is_what_members_see(
    shared_bot: tuple[Discord, BotProcess],
) -> None:
    discord, bot = shared_bot
    if not bot.running:  # the test before has ended it
        await bot.start()
    logged = len(bot.lines)
    town = Town(discord, bot, seed=16, people=4, active=4, quiet_seconds=1.5)
    await town.build(channels=2)
    await town.play(12)
    await town.let_requests_fail()
    await town.kill_the_bot()
    assert town.report.broken == []
    assert town.report.checked >= 20
    assert [line for line in bot.lines[logged:] if "Traceback" in line] == []
