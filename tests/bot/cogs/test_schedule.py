"""`/schedule`: daily scenes from their first day to their removal, on the simulated clock."""

import logging
import re
from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import discord
import pytest
import simcord
from simcord.builders import ChannelHandle
from simcord.results import InteractionResult

from bot.cogs.retention import RetentionCog
from bot.cogs.scene import FORGOT_DAILY
from bot.concurrency import plain_wait
from bot.errors import Reason, RejectedError
from bot.languages import ENGLISH
from bot.rehearsal import DeclaredWait
from bot.storage.records import Place
from bot.storage.schedules import PAUSE_AFTER, PER_GUILD, Schedule
from bot.ui.announcements import Announcement
from bot.ui.responses import REJECTIONS
from bot.ui.schedule_texts import HEADLINE, NONE, OUTCOMES
from tests.bot.conftest import Stage, content_of, labels_of, message_of, text_of

MINUTE, HOUR = 60, 3600


async def daily(stage: Stage, at: str = "00:10", **options: Any) -> InteractionResult:
    """Add a daily scene in the tavern as Ann."""
    values = {"time": at, "channel": stage.tavern, "prompt": "FALSTAFF:"} | options
    return await stage.ann.slash(stage.garden, "schedule daily", **values)


async def listed(stage: Stage) -> str:
    """Return the answer to `/schedule list`."""
    result = await stage.ann.slash(stage.garden, "schedule list")
    assert result.ephemeral
    return text_of(result)


async def stored(stage: Stage) -> list[Schedule]:
    return await stage.bard.daily_scenes.store.of_guild(stage.guild.id)


async def pass_time(stage: Stage, seconds: float) -> None:
    """Let time pass in one leap up to its last two minutes.

    The loops of the library, which would make up for each minute of it, end before.
    """
    retention = stage.bot.get_cog(RetentionCog.__cog_name__)
    assert isinstance(retention, RetentionCog)
    await retention.cog_unload()
    stage.env.backend.advance_clock(seconds - 2 * MINUTE)
    await stage.env.advance_time(2 * MINUTE)


def headlines(channel: ChannelHandle) -> list[str | None]:
    """Return the first line of each message of a channel."""
    return [message.embeds[0].author.name for message in channel.history()]


async def test_scene_is_played_each_day_from_its_first_to_its_removal(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.ben.slash(stage.tavern, "bard", prompt="An older scene", max_chars=9)
    result = await daily(stage, prompt="FALSTAFF:\nWords for each day")
    assert result.ephemeral
    due = datetime(2026, 1, 1, 0, 10, tzinfo=UTC)
    assert f"<t:{due.timestamp():.0f}:F>" in content_of(result)
    assert f"00:10 (UTC) in <#{stage.tavern.id}>" in content_of(result)
    number = (await stored(stage))[0].id
    assert f"**{number}** · 00:10 (UTC) in <#{stage.tavern.id}>" in await listed(stage)

    await stage.env.advance_time(9 * MINUTE)
    assert len(stage.tavern.history()) == 1
    caplog.set_level(logging.INFO)
    await stage.env.advance_time(MINUTE)
    assert headlines(stage.tavern)[1:] == [HEADLINE]
    assert "Daily scene 1 of 2026-01-01: played" in caplog.text
    assert "Words for each day" not in caplog.text
    assert stage.contexts[-1].startswith("FALSTAFF:\nWords for each day")
    assert "older" not in stage.contexts[-1]  # a scene of its own
    assert OUTCOMES["played"] in await listed(stage)

    await pass_time(stage, 24 * HOUR)
    assert headlines(stage.tavern)[1:] == [HEADLINE] * 2
    assert stage.contexts[-1].startswith("FALSTAFF:\nWords for each day")
    removed = await stage.ann.slash(stage.garden, "schedule remove", number=number)
    assert removed.ephemeral
    assert f"Number {number} is removed" in content_of(removed)
    await pass_time(stage, 24 * HOUR)
    assert len(stage.tavern.history()) == 3
    assert content_of(await stage.ann.slash(stage.garden, "schedule list")) == NONE


async def test_daily_scene_has_the_usual_buttons(stage: Stage) -> None:
    await daily(stage)
    await stage.env.advance_time(10 * MINUTE)
    (message,) = stage.tavern.history()
    went_on = await stage.ben.click(message, label="Continue")
    assert labels_of(message_of(went_on))[:2] == ["Continue", "Reroll"]
    refused = await stage.ben.click(message, label="Reroll")
    assert REJECTIONS[Reason.NOT_REQUESTER] in content_of(refused)
    await stage.ann.click(message, label="Reroll")
    (again, _) = stage.tavern.history()
    assert again.embeds[0].author.name == HEADLINE
    assert "Take 2 of 2" in str(again.embeds[-1].footer.text)


async def test_restart_at_that_minute_plays_it_once(stage: Stage) -> None:
    await daily(stage)
    await stage.env.advance_time(9 * MINUTE)
    await stage.restart()
    await stage.env.advance_time(MINUTE)
    assert headlines(stage.tavern) == [HEADLINE]
    await stage.restart()
    await stage.env.advance_time(2 * MINUTE)
    assert headlines(stage.tavern) == [HEADLINE]


async def test_bot_that_was_away_for_an_hour_at_most_plays_it_at_its_return(stage: Stage) -> None:
    await daily(stage)
    stage.env.backend.advance_clock(70 * MINUTE - 1)  # without the bot
    await stage.restart(DeclaredWait(stage.env))  # as the rehearsal stage runs it
    assert headlines(stage.tavern) == [HEADLINE]
    await pass_time(stage, 24 * HOUR)
    assert headlines(stage.tavern) == [HEADLINE] * 2


async def test_bot_that_was_away_for_longer_skips_the_day_and_says_so(stage: Stage) -> None:
    await daily(stage)
    stage.env.backend.advance_clock(71 * MINUTE)
    await stage.restart()
    assert stage.tavern.history() == []
    assert OUTCOMES["away"] in await listed(stage)
    assert stage.ann.user.dm_channel.history() == []
    await pass_time(stage, 23 * HOUR)
    assert headlines(stage.tavern) == [HEADLINE]


async def test_run_that_was_claimed_before_a_kill_is_not_played_again(stage: Stage) -> None:
    await daily(stage)
    (schedule,) = await stored(stage)
    due = stage.bard.daily_scenes.due(schedule, datetime(2026, 1, 1, 0, 10, tzinfo=UTC))
    assert due is not None
    assert await stage.bard.daily_scenes.claim(schedule, due.day)
    await stage.env.advance_time(10 * MINUTE)
    await stage.restart()
    await stage.env.advance_time(2 * MINUTE)
    assert stage.tavern.history() == []
    assert OUTCOMES["started"] in await listed(stage)


async def test_scene_that_a_shutdown_rejects_is_played_by_the_next_process(stage: Stage) -> None:
    await stage.restart(DeclaredWait(stage.env))
    await daily(stage)
    for _ in range(stage.bot.bard_settings.workers):
        await stage.bard.queue._workers.acquire()
    await stage.env.advance_time(10 * MINUTE)
    assert [schedule.outcome for schedule in await stored(stage)] == ["started"]
    stage.bard.queue.cut_short()
    await stage.env.settle()
    assert [schedule.outcome for schedule in await stored(stage)] == [None]
    await stage.restart()
    assert headlines(stage.tavern) == [HEADLINE]


async def test_scene_stays_at_its_local_time_when_clocks_are_set_forward(stage: Stage) -> None:
    spring = datetime(2026, 3, 28, 12, tzinfo=UTC)  # the day before
    stage.env.backend.advance_clock((spring - stage.env.now()).total_seconds())
    await daily(stage, "02:30", timezone="Europe/Berlin")
    await pass_time(stage, 13 * HOUR - MINUTE)
    assert stage.tavern.history() == []
    await stage.env.advance_time(MINUTE)  # 02:30 does not occur: it is 03:00 now
    (message,) = stage.tavern.history()
    assert message.created_at == datetime(2026, 3, 29, 1, tzinfo=UTC)
    (schedule,) = await stored(stage)
    assert schedule.due_at == datetime(2026, 3, 30, 0, 30, tzinfo=UTC).timestamp()


async def test_only_managers_add_list_and_remove(stage: Stage) -> None:
    await daily(stage)
    with pytest.raises(simcord.SetupError, match="default-member-permissions"):
        await stage.ben.slash(stage.garden, "schedule list")
    with pytest.raises(simcord.SetupError, match="context"):
        await stage.ann.user.slash("schedule list")
    (command,) = (c for c in await stage.bot.tree.fetch_commands() if c.name == "schedule")
    stage.guild.set_command_permissions(command, {stage.ben: True})
    values: dict[str, dict[str, Any]] = {
        "daily": {"time": "08:00", "channel": stage.garden, "prompt": "ROMEO:"},
        "list": {},
        "remove": {"number": 1},
    }
    for name, options in values.items():
        rejected = await stage.ben.slash(stage.garden, f"schedule {name}", **options)
        assert rejected.ephemeral
        assert content_of(rejected) == REJECTIONS[Reason.NOT_MANAGER]
    assert await stage.ben.autocomplete(stage.garden, "schedule remove", "number", "") == []
    assert len(await stored(stage)) == 1


async def test_wrong_values_are_named(stage: Stage) -> None:
    for text, result in {
        REJECTIONS[Reason.NO_SUCH_TIME]: await daily(stage, "25:00"),
        REJECTIONS[Reason.NO_SUCH_ZONE]: await daily(stage, timezone="Elsinore"),
        "no daily scene number 7": await stage.ann.slash(stage.garden, "schedule remove", number=7),
    }.items():
        assert result.ephemeral
        assert text in content_of(result)
    await stage.bard.guild_settings.change(stage.guild.id, channels=frozenset({stage.garden.id}))
    assert f"<#{stage.garden.id}>" in content_of(await daily(stage))
    assert await stored(stage) == []
    await stage.bard.guild_settings.change(stage.guild.id, channels=frozenset())
    for _ in range(PER_GUILD):
        await daily(stage)
    assert f"{PER_GUILD} daily scenes, which is the limit" in content_of(await daily(stage))
    assert len(await stored(stage)) == PER_GUILD
    assert (await listed(stage)).count("next <t:") == PER_GUILD


async def test_time_zone_is_the_last_one_of_the_server(stage: Stage) -> None:
    assert "(UTC)" in content_of(await daily(stage))
    await daily(stage, timezone="asia/tokyo")
    assert "(Asia/Tokyo)" in content_of(await daily(stage))


async def test_suggestions(stage: Stage) -> None:
    async def suggest(command: str, option: str, typed: str, **filled: Any) -> list[Any]:
        found = await stage.ann.autocomplete(
            stage.garden, f"schedule {command}", option, typed, **filled
        )
        return [choice["value"] for choice in found]

    await daily(stage, timezone="Asia/Tokyo")
    assert (await suggest("daily", "timezone", ""))[:2] == ["Asia/Tokyo", "UTC"]
    assert await suggest("daily", "timezone", "verlin") == []
    assert await suggest("daily", "timezone", "berl") == ["Europe/Berlin"]
    assert await suggest("daily", "time", "20") == ["20:00", "20:30"]
    assert await suggest("daily", "time", "7:45") == ["07:45"]
    assert await suggest("remove", "number", "") == [1]


async def test_channel_needs_the_permissions_of_the_sender_and_of_the_bot(stage: Stage) -> None:
    bot = stage.guild.me
    assert bot is not None
    silent = discord.PermissionOverwrite(send_messages=False)
    plain = discord.PermissionOverwrite(embed_links=False)
    managers = stage.guild.create_role(
        "Schedulers", permissions=discord.Permissions(manage_guild=True)
    )
    cat = stage.guild.add_member(stage.env.create_user("cat"), roles=[managers])
    without_cat = stage.guild.create_text_channel("without-cat", overwrites={cat: silent})
    for overwrite, missing in ((silent, "Send Messages, Embed Links"), (plain, "Embed Links")):
        channel = stage.guild.create_text_channel("quiet", overwrites={bot: overwrite})
        await stage.env.settle()
        rejected = await daily(stage, channel=channel)
        assert f"The bot lacks permissions in <#{channel.id}>: {missing}." in content_of(rejected)
    rejected = await cat.slash(
        stage.garden, "schedule daily", time="08:00", channel=without_cat, prompt="ROMEO:"
    )
    assert f"You lack permissions in <#{without_cat.id}>: Send Messages." in content_of(rejected)
    assert await stored(stage) == []


async def test_thread_can_be_chosen(stage: Stage) -> None:
    tavern = stage.bot.get_channel(stage.tavern.id)
    assert isinstance(tavern, discord.TextChannel)
    await tavern.create_thread(name="corner", type=discord.ChannelType.public_thread)
    (corner,) = stage.tavern.threads
    await daily(stage, channel=corner)
    await stage.bard.guild_settings.change(stage.guild.id, channels=frozenset({stage.tavern.id}))
    await stage.env.advance_time(10 * MINUTE)
    assert HEADLINE in headlines(corner)


async def test_forbidden_channel_is_told_once_and_played_when_it_is_open_again(
    stage: Stage,
) -> None:
    await daily(stage)
    tavern, bot = stage.bot.get_channel(stage.tavern.id), stage.guild.me
    assert isinstance(tavern, discord.TextChannel)
    assert bot is not None
    await tavern.set_permissions(bot, send_messages=False)
    await stage.env.advance_time(10 * MINUTE)
    (notice,) = stage.ann.user.dm_channel.history()
    for part in ("number 1", "00:10 (UTC)", f"<#{stage.tavern.id}>", "*The Globe*"):
        assert part in notice.content
    assert OUTCOMES["forbidden"] in await listed(stage)
    await pass_time(stage, 24 * HOUR)
    assert len(stage.ann.user.dm_channel.history()) == 1
    assert [schedule.failures for schedule in await stored(stage)] == [2]
    await tavern.set_permissions(bot, overwrite=None)
    await pass_time(stage, 24 * HOUR)
    assert headlines(stage.tavern) == [HEADLINE]
    assert [schedule.failures for schedule in await stored(stage)] == [0]


async def test_channel_that_is_gone_is_told_and_pauses_the_schedule_at_last(stage: Stage) -> None:
    """A channel that was deleted while the bot was not running."""
    store = stage.bard.daily_scenes.store
    await stage.bard.daily_scenes.add(
        Place(guild_id=stage.guild.id, channel_id=1),
        stage.ann.id,
        time(0, 10),
        ZoneInfo("UTC"),
        "ROMEO:",
        stage.env.now(),
    )
    (schedule,) = await stored(stage)
    for _ in range(PAUSE_AFTER - 2):
        await store.settle(schedule, "gone")
    await daily(stage)  # wakes the loop
    await stage.env.advance_time(10 * MINUTE)
    assert OUTCOMES["gone"] in await listed(stage)
    await pass_time(stage, 24 * HOUR)
    gone, _ = await stored(stage)
    assert gone.paused
    assert f"paused after {PAUSE_AFTER} failures" in await listed(stage)
    assert len(stage.tavern.history()) == 2  # the other one goes on


async def test_scene_of_a_person_who_is_blocked_is_not_played(stage: Stage) -> None:
    await daily(stage)
    await stage.bard.shared_blocks.block(stage.ann.id)
    await stage.env.advance_time(10 * MINUTE)
    assert stage.tavern.history() == []
    assert [schedule.outcome for schedule in await stored(stage)] == ["blocked"]
    assert REJECTIONS[Reason.BLOCKED] in content_of(await daily(stage))


async def test_block_binds_a_scene_that_waits_for_a_worker(stage: Stage) -> None:
    await stage.restart(DeclaredWait(stage.env))
    await daily(stage)
    workers = stage.bard.queue._workers
    async with workers, workers:
        await stage.env.advance_time(10 * MINUTE)
        assert [schedule.outcome for schedule in await stored(stage)] == ["started"]
        await stage.bard.shared_blocks.block(stage.ann.id)
    await stage.env.settle()
    assert stage.tavern.history() == []
    assert [schedule.outcome for schedule in await stored(stage)] == ["blocked"]


async def test_outcome_is_recorded_when_the_database_can_be_used_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await daily(stage)
    settle, failures = stage.bard.daily_scenes.store.settle, [Reason.MEMORY_BUSY] * 2

    async def fail_first(*given: Any) -> Schedule | None:
        if failures:
            raise RejectedError(failures.pop())
        return await settle(*given)

    monkeypatch.setattr(stage.bard.daily_scenes.store, "settle", fail_first)
    await stage.env.advance_time(11 * MINUTE)
    assert headlines(stage.tavern) == [HEADLINE]
    assert [schedule.outcome for schedule in await stored(stage)] == ["played"]


async def test_due_scenes_are_all_played_though_one_person_made_them(stage: Stage) -> None:
    """A person may have two requests at a time."""
    for _ in range(5):
        await daily(stage)
    await stage.env.advance_time(11 * MINUTE)
    assert headlines(stage.tavern) == [HEADLINE] * 5
    assert {schedule.outcome for schedule in await stored(stage)} == {"played"}


async def test_deleted_channel_ends_its_schedules_and_tells_who_made_them(stage: Stage) -> None:
    await daily(stage)
    await daily(stage, channel=stage.garden)
    tavern = stage.bot.get_channel(stage.tavern.id)
    assert isinstance(tavern, discord.TextChannel)
    await tavern.delete()
    await stage.env.settle()
    assert [schedule.channel_id for schedule in await stored(stage)] == [stage.garden.id]
    (notice,) = stage.ann.user.dm_channel.history()
    assert "its channel was deleted" in notice.content


async def test_forgetting_my_words_ends_my_schedules(stage: Stage) -> None:
    await daily(stage)
    question = await stage.ann.slash(stage.garden, "scene forget", what="my words, everywhere")
    answer = await stage.ann.click(message_of(question), label="Forget my words")
    assert message_of(answer).content == FORGOT_DAILY
    assert await stored(stage) == []
    await pass_time(stage, HOUR)
    assert stage.tavern.history() == []


async def test_export_has_the_schedules_of_the_person(stage: Stage) -> None:
    await daily(stage)
    records = [record async for record in stage.bard.exports.read(stage.ann.id)]
    assert len(records) == 1
    assert re.search('"type":"daily_scene".*"prompt":"FALSTAFF:"', records[0])
    assert [record async for record in stage.bard.exports.read(stage.ben.id)] == []


async def test_turns_of_the_same_number_have_messages_of_their_own(stage: Stage) -> None:
    """Two processes have databases of their own, and Discord creates one message of a nonce."""
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=9)
    (turn,) = await stage.turns(stage.garden.id)
    for channel in (stage.garden, stage.tavern):
        display = Announcement(
            stage.bot,
            guild_id=stage.guild.id,
            channel_id=channel.id,
            headline=HEADLINE,
            language=ENGLISH,
            wait=plain_wait,
        )
        await display.show(turn, "")
    posts = [request for request in stage.env.http_requests if request.method == "POST"]
    first, second = [request.json for request in posts if request.path.endswith("/messages")]
    assert first is not None
    assert second is not None
    assert first["nonce"] != second["nonce"]
