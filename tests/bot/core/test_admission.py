"""How often and where the bard is to be asked."""

import pytest

from tests.bot.conftest import Stage, counted, said


@pytest.mark.settings(cooldown=10)
async def test_cooldown_of_a_person_says_the_seconds_left_in_private(stage: Stage) -> None:
    await stage.env.advance_time(1)  # a simulation begins at 0, which the library takes for unset
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=9)
    await stage.env.advance_time(3)
    refused = await stage.ann.slash(stage.tavern, "scene continue")
    assert refused.ephemeral
    assert not refused.deferred
    assert "again in 7 s" in said(refused)
    assert not stage.env.errors

    other = await stage.ben.slash(stage.garden, "bard", prompt="JULIET:", max_chars=9)
    assert counted(other) <= 9
    # To have been refused does not make the wait longer.
    await stage.env.advance_time(7.1)
    again = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=9)
    assert counted(again) <= 9
