"""`/settings`: what a server's managers decide, who may, and that it is so at once."""

import asyncio
from typing import Any

import discord
import pytest
import simcord
from simcord.results import InteractionResult, ResponseMessage

from bot.cogs.settings import NOTHING_CHANGED, parse_limits
from bot.errors import Reason
from bot.storage.guild_settings import GuildSettings
from bot.ui.responses import REJECTIONS
from tests.bot.conftest import Stage, counted, said

CHANNELS, BUTTONS, LIMITS = (f"bard:settings:{name}" for name in ("channels", "buttons", "limits"))


async def opened(stage: Stage) -> ResponseMessage:
    """Return Ann's settings message."""
    result = await stage.ann.slash(stage.garden, "bard-settings")
    assert result.ephemeral
    assert result.response is not None
    return result.response


async def submitted(stage: Stage, message: ResponseMessage, **values: str) -> InteractionResult:
    shown = await stage.ann.click(message, custom_id=LIMITS)
    typed = {key.replace("_", " "): value for key, value in values.items()}
    return await stage.ann.submit_modal(shown, typed)


async def bard(stage: Stage, **options: Any) -> InteractionResult:
    return await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", **options)


async def test_shows_what_holds(stage: Stage) -> None:
    message = await opened(stage)
    for line in (
        "Channels: all",
        "Longest reply: 4,000 characters",
        "Cooldown: 0 s",
        "Temperature of requests without one: 0.8",
        "for everyone",
    ):
        assert line in message.content


async def test_is_not_for_others_nor_for_direct_messages(stage: Stage) -> None:
    with pytest.raises(simcord.SetupError, match="default-member-permissions"):
        await stage.ben.slash(stage.garden, "bard-settings")
    with pytest.raises(simcord.SetupError, match="context"):
        await stage.ann.user.slash("bard-settings")


async def test_is_refused_in_the_handler_where_the_server_shows_it_to_all(stage: Stage) -> None:
    (command,) = (
        command
        for command in await stage.bot.tree.fetch_commands()
        if command.name == "bard-settings"
    )
    stage.guild.set_command_permissions(command, {stage.ben: True})
    refused = await stage.ben.slash(stage.garden, "bard-settings")
    assert refused.ephemeral
    assert REJECTIONS[Reason.NOT_MANAGER] in said(refused)
    assert not stage.env.errors


async def test_controls_ask_again_who_may(stage: Stage) -> None:
    message = await opened(stage)
    shown = await stage.ann.click(message, custom_id=LIMITS)
    member = stage.env.backend.get_member(stage.guild.id, stage.ann.id)
    member.role_ids.clear()
    for refused in (
        await stage.ann.select(message, [stage.garden], custom_id=CHANNELS),
        await stage.ann.click(message, custom_id=LIMITS),
        await stage.ann.submit_modal(shown, {"Cooldown": "5"}),
    ):
        assert refused.modal is None
        assert refused.ephemeral
        assert REJECTIONS[Reason.NOT_MANAGER] in said(refused)
    assert stage.env.errors
    assert stage.bard.guild_settings.rules(stage.guild.id) == stage.bard.guild_settings.rules(None)


async def test_channels_are_in_force_at_once_with_their_threads(stage: Stage) -> None:
    message = await opened(stage)
    await stage.ann.select(message, [stage.tavern], custom_id=CHANNELS)
    assert f"Channels: <#{stage.tavern.id}>" in message.content
    (row, *_) = message.components
    assert row["components"][0]["default_values"] == [{"id": stage.tavern.id, "type": "channel"}]

    for command in ("bard", "scene continue"):
        options = {"prompt": "ROMEO:"} if command == "bard" else {}
        refused = await stage.ben.slash(stage.garden, command, **options)
        assert refused.ephemeral
        assert not refused.deferred
        assert f"<#{stage.tavern.id}>" in said(refused)
    assert not stage.env.errors
    tavern = stage.env.bot.get_channel(stage.tavern.id)
    assert isinstance(tavern, discord.TextChannel)
    await tavern.create_thread(name="corner", type=discord.ChannelType.public_thread)
    (corner,) = stage.tavern.threads
    for place in (stage.tavern, corner):
        assert counted(await stage.ben.slash(place, "bard", prompt="FALSTAFF:", max_chars=9)) <= 9
    assert counted(await stage.ann.user.slash("bard", prompt="I", max_chars=9)) <= 9

    await stage.ann.select(message, [], custom_id=CHANNELS)
    assert "Channels: all" in message.content
    assert counted(await bard(stage, max_chars=9)) <= 9


async def test_longest_reply_cuts_with_a_private_word(stage: Stage) -> None:
    message = await opened(stage)
    await submitted(stage, message, Longest_reply="50")
    assert "Longest reply: 50 characters" in message.content

    usual = await bard(stage)
    assert counted(usual) <= 50
    assert not usual.followups
    cut = await bard(stage, max_chars=51)
    assert counted(cut) <= 50
    (word,) = cut.followups
    assert word.ephemeral
    assert "50 characters" in word.content


async def test_temperature_holds_for_those_who_give_none(stage: Stage) -> None:
    await submitted(stage, await opened(stage), Temperature="0,5")
    for options in ({}, {"temperature": 1.5}):
        await bard(stage, max_chars=9, **options)
    await stage.ben.slash(stage.garden, "scene continue")
    turns = await stage.bard.turns.tail(stage.garden.id, 1, chars=10_000)
    assert [turn.temperature for turn in turns] == [0.5, 1.5, 0.5]


async def test_cooldown_of_the_server(stage: Stage) -> None:
    await stage.env.advance_time(1)
    message = await opened(stage)
    await submitted(stage, message, Cooldown="60")
    await bard(stage, max_chars=9)
    refused = await bard(stage)
    assert refused.ephemeral
    assert "again in 60 s" in said(refused)
    assert not stage.env.errors
    await submitted(stage, message, Cooldown="0")
    assert counted(await bard(stage, max_chars=9)) <= 9


async def test_who_may_use_the_buttons(stage: Stage) -> None:
    message = await opened(stage)
    await stage.ann.select(message, ["asker"], custom_id=BUTTONS)
    assert "*Continue* is for the person who asked for the reply, and moderators" in message.content
    assert stage.bard.guild_settings.rules(stage.guild.id).buttons == "asker"
    assert stage.bard.guild_settings.rules(None).buttons == "everyone"

    asked = await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    assert asked.response is not None
    cat = stage.guild.add_member(stage.env.create_user("cat"))
    refused = await cat.click(asked.response, label="Continue")
    assert refused.ephemeral
    assert said(refused) == REJECTIONS[Reason.BUTTONS_RESTRICTED]
    for member in (stage.ben, stage.ann):
        assert counted(await member.click(asked.response, label="Continue")) <= 20
    await stage.ann.select(message, ["everyone"], custom_id=BUTTONS)
    assert counted(await cat.click(asked.response, label="Continue")) <= 20


async def test_all_of_it_survives_a_restart_and_the_message_still_works(stage: Stage) -> None:
    message = await opened(stage)
    await stage.ann.select(message, [stage.tavern], custom_id=CHANNELS)
    await stage.ann.select(message, ["asker"], custom_id=BUTTONS)
    await submitted(stage, message, Longest_reply="50", Cooldown="7", Temperature="1")
    rules = stage.bard.guild_settings.rules(stage.guild.id)
    await stage.restart()
    assert stage.bard.guild_settings.rules(stage.guild.id) == rules

    shown = await stage.ann.click(message, custom_id=LIMITS)
    assert shown.modal is not None
    inputs = [label["component"].get("value") for label in shown.modal["components"]]
    assert inputs == ["50", "7", "1"]
    await stage.ann.submit_modal(shown, {"Longest reply": "", "Cooldown": "", "Temperature": ""})
    assert "Longest reply: 4,000 characters" in message.content
    assert f"Channels: <#{stage.tavern.id}>" in message.content


async def test_numbers_out_of_range_are_named_and_change_nothing(stage: Stage) -> None:
    message = await opened(stage)
    before = message.content
    refused = await submitted(
        stage, message, Longest_reply="5000", Cooldown="1.5", Temperature="hot"
    )
    assert refused.ephemeral
    answer = said(refused)
    assert answer.startswith(NOTHING_CHANGED)
    assert "Longest reply: a whole number from 1 to 4000, or nothing; not '5000'." in answer
    assert "Cooldown: a whole number from 0 to 3600, or nothing; not '1.5'." in answer
    assert "Temperature: a number from 0.1 to 2, or nothing; not 'hot'." in answer
    assert message.content == before
    assert (await opened(stage)).content == before


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e9", "0", "\N{ARABIC-INDIC DIGIT FIVE}"])
def test_odd_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="Temperature: a number"):
        parse_limits("", "", text, limit=4000)


@pytest.mark.settings(max_chars=100)
async def test_the_owners_limit_holds_above_the_servers(stage: Stage) -> None:
    await stage.bard.guild_settings.change(stage.guild.id, max_chars=4000)
    assert stage.bard.guild_settings.rules(stage.guild.id).max_chars == 100


async def test_two_managers_at_the_same_time_both_succeed(stage: Stage) -> None:
    store = stage.bard.guild_settings
    await asyncio.gather(
        store.change(stage.guild.id, cooldown=5), store.change(stage.guild.id, max_chars=50)
    )
    own = GuildSettings(cooldown=5, max_chars=50)
    assert store.get(stage.guild.id) == own
    await stage.restart()
    assert stage.bard.guild_settings.get(stage.guild.id) == own


async def test_servers_do_not_share_settings(stage: Stage) -> None:
    other = stage.env.create_guild("The Rose")
    await submitted(stage, await opened(stage), Longest_reply="50")
    assert stage.bard.guild_settings.rules(other.id).max_chars == 4000
