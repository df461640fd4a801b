"""`BARD_GUILDS`: a private bot leaves other servers, says why, and answers nobody in them."""

from datetime import time
from zoneinfo import ZoneInfo

import discord
import pytest
from simcord.actors import MemberActor
from simcord.builders import ChannelHandle

from bot.cogs.departure import RETRY_SECONDS
from bot.cogs.schedule import ScheduleCog
from bot.errors import Reason
from bot.storage.records import Place
from bot.ui.owners import OWN_CLIENT
from bot.ui.responses import LEAVING, LEAVING_DIRECT, REJECTIONS
from bot.ui.schedule_texts import PROBLEMS
from tests.bot.conftest import Stage, content_of, reply_length

HOME = 80351110224678912
pytestmark = pytest.mark.settings(guilds=frozenset({HOME}))


def rose(stage: Stage, *writable: bool) -> tuple[MemberActor, list[ChannelHandle]]:
    """Invite the bot to a server of Dan's; return him and its channels.

    Args:
        stage: The stage.
        writable: For each channel, whether the bot may write in it.
    """
    user = stage.env.create_user("dan")
    guild = stage.env.create_guild("The *Rose*", owner=user)
    channels = []
    for number, allowed in enumerate(writable):
        overwrite = discord.PermissionOverwrite(send_messages=allowed)
        name = f"pit-{number}"
        channels.append(guild.create_text_channel(name, overwrites={guild.default_role: overwrite}))
    return MemberActor(stage.env, guild, user), channels


def said(stage: Stage) -> list[tuple[int, str]]:
    """Return the channel and the text of each message that the bot has posted."""
    found = []
    for request in stage.env.http_requests:
        if request.method == "POST" and request.path.endswith("/messages"):
            assert request.json is not None
            assert request.json["allowed_mentions"] == {"parse": []}
            found.append((int(request.path.split("/")[2]), request.json["content"]))
    return found


async def test_leaves_a_server_that_it_joins_and_says_why_where_it_may_write(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    home = stage.env.create_guild("Home", id=HOME)
    hall = home.create_text_channel("hall")
    eve = home.add_member(stage.env.create_user("eve"))
    _, (_, pit) = rose(stage, False, True)  # noqa: FBT003 - see `rose`
    await stage.env.settle()
    assert {guild.id for guild in stage.bot.guilds} == {HOME}
    assert said(stage) == [(stage.garden.id, LEAVING), (pit.id, LEAVING)]
    assert f"Left server {stage.guild.id}: BARD_GUILDS does not name it" in caplog.text
    assert reply_length(await eve.slash(hall, "bard", prompt="ROMEO:", max_chars=9)) <= 9
    assert reply_length(await eve.user.slash("bard", prompt="ROMEO:", max_chars=9)) <= 9
    assert not stage.env.errors


async def test_prefers_the_system_channel(stage: Stage) -> None:
    _, (_, system) = rose(stage, True, True)  # noqa: FBT003 - see `rose`
    channel = stage.bot.get_channel(system.id)
    assert isinstance(channel, discord.TextChannel)
    stage.env.backend.edit_guild(channel.guild.id, {"system_channel_id": system.id})
    await stage.env.settle()
    assert (system.id, LEAVING) in said(stage)


async def test_tells_the_owner_of_a_server_in_which_it_may_not_write(stage: Stage) -> None:
    dan, _ = rose(stage, False)  # noqa: FBT003 - see `rose`
    await stage.env.settle()
    text = LEAVING_DIRECT.format(name="The \\*Rose\\*")
    assert said(stage)[-1] == (dan.user.dm_channel.id, text)
    assert not stage.bot.guilds


async def test_server_that_it_cannot_leave_is_told_once_and_answered_with_the_reason(
    stage: Stage,
) -> None:
    await stage.env.settle()
    stage.env.inject_error("DELETE", "/users/@me/guilds/*", status=403, times=None)
    dan, (pit,) = rose(stage, True)  # noqa: FBT003 - see `rose`
    await stage.env.settle()
    assert said(stage)[1:] == [(pit.id, LEAVING)]
    assert await dan.autocomplete(pit, "bard", "prompt", "R") == []
    for name, options in (
        ("bard", {"prompt": "ROMEO:"}),
        ("scene show", {}),
        ("bard-settings", {}),
    ):
        rejected = await dan.slash(pit, name, **options)
        assert rejected.ephemeral
        assert content_of(rejected) == REJECTIONS[Reason.WRONG_SERVER]
    assert stage.contexts == []

    await stage.restart()
    assert len(stage.bot.guilds) == 1
    stage.env.backend.faults.clear()
    await stage.restart()
    assert not stage.bot.guilds
    assert len(said(stage)) == 2
    # Once it has left, an invitation is answered again.
    rows = await stage.bard.turns._database.fetch("SELECT * FROM departures")
    assert rows == []


async def test_server_that_it_could_not_leave_is_left_later(stage: Stage) -> None:
    await stage.env.settle()
    stage.env.inject_error("DELETE", "/users/@me/guilds/*", status=403)
    _, (pit,) = rose(stage, True)  # noqa: FBT003 - see `rose`
    await stage.env.settle()
    assert len(stage.bot.guilds) == 1
    await stage.env.advance_time(RETRY_SECONDS)
    assert not stage.bot.guilds
    assert said(stage)[1:] == [(pit.id, LEAVING)]


async def test_host_stays_and_the_bard_answers_nobody_in_other_servers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.env.settle()
    monkeypatch.setattr(stage.bot, OWN_CLIENT, False, raising=False)
    dan, (pit,) = rose(stage, True)  # noqa: FBT003 - see `rose`
    await stage.env.settle()
    rejected = await dan.slash(pit, "bard", prompt="ROMEO:")
    assert content_of(rejected) == REJECTIONS[Reason.WRONG_SERVER]
    assert [guild.name for guild in stage.bot.guilds] == ["The *Rose*"]
    assert len(said(stage)) == 1


async def test_host_has_no_daily_scene_in_another_server(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was added before BARD_GUILDS was set."""
    await stage.env.settle()
    monkeypatch.setattr(stage.bot, OWN_CLIENT, False, raising=False)
    dan, (pit,) = rose(stage, True)  # noqa: FBT003 - see `rose`
    daily, cog = stage.bard.daily_scenes, stage.bot.get_cog(ScheduleCog.__cog_name__)
    assert isinstance(cog, ScheduleCog)
    place = Place(guild_id=dan.guild.id, channel_id=pit.id)
    await daily.add(place, dan.id, time(0, 10), ZoneInfo("UTC"), "ROMEO:", stage.env.now())
    cog.player.wake()
    await stage.env.advance_time(600)
    assert pit.history() == []
    (schedule,) = await daily.store.of_guild(dan.guild.id)
    assert schedule.outcome == "not_served"
    (notice,) = dan.user.dm_channel.history()
    assert PROBLEMS["not_served"] in notice.content
