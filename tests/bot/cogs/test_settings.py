"""`/bard-settings`: its permissions, its controls, and the effect of each setting."""

from typing import Any

import discord
import pytest
import simcord
from simcord.results import InteractionResult, ResponseMessage

from bot.cogs.settings_form import NOTHING_CHANGED, parse_limits
from bot.errors import Reason
from bot.languages import ENGLISH
from bot.ui.responses import REJECTIONS
from tests.bot.conftest import Stage, content_of, reply_length

CHANNELS, BUTTONS, LIMITS = (f"bard:settings:{name}" for name in ("channels", "buttons", "limits"))


async def open_settings(stage: Stage) -> ResponseMessage:
    """Send the command as Ann; return the message with the controls."""
    result = await stage.ann.slash(stage.garden, "bard-settings")
    assert result.ephemeral
    assert result.response is not None
    return result.response


async def submit(stage: Stage, message: ResponseMessage, **values: str) -> InteractionResult:
    """Open the form as Ann and submit values by label."""
    form = await stage.ann.click(message, custom_id=LIMITS)
    typed = {key.replace("_", " "): value for key, value in values.items()}
    return await stage.ann.submit_modal(form, typed)


async def request(stage: Stage, **options: Any) -> InteractionResult:
    """Send `/bard` as Ben in the garden."""
    return await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", **options)


async def test_shows_the_settings_in_force(stage: Stage) -> None:
    message = await open_settings(stage)
    for line in (
        "Channels: all",
        "Longest reply: 4,000 characters",
        "Cooldown: 0 s",
        "Temperature of requests without one: 0.8",
        "for everyone",
    ):
        assert line in message.content


async def test_only_managers_see_the_command_and_only_in_servers(stage: Stage) -> None:
    with pytest.raises(simcord.SetupError, match="default-member-permissions"):
        await stage.ben.slash(stage.garden, "bard-settings")
    with pytest.raises(simcord.SetupError, match="context"):
        await stage.ann.user.slash("bard-settings")


async def test_handler_checks_the_permission_itself(stage: Stage) -> None:
    (command,) = (
        command
        for command in await stage.bot.tree.fetch_commands()
        if command.name == "bard-settings"
    )
    stage.guild.set_command_permissions(command, {stage.ben: True})
    rejected = await stage.ben.slash(stage.garden, "bard-settings")
    assert rejected.ephemeral
    assert REJECTIONS[Reason.NOT_MANAGER] in content_of(rejected)
    assert not stage.env.errors


async def test_controls_check_the_permission_again(stage: Stage) -> None:
    message = await open_settings(stage)
    form = await stage.ann.click(message, custom_id=LIMITS)
    member = stage.env.backend.get_member(stage.guild.id, stage.ann.id)
    member.role_ids.clear()
    for rejected in (
        await stage.ann.select(message, [stage.garden], custom_id=CHANNELS),
        await stage.ann.click(message, custom_id=LIMITS),
        await stage.ann.submit_modal(form, {"Cooldown": "5"}),
    ):
        assert rejected.modal is None
        assert rejected.ephemeral
        assert REJECTIONS[Reason.NOT_MANAGER] in content_of(rejected)
    assert not stage.env.errors
    assert stage.bard.guild_settings.rules(stage.guild.id) == stage.bard.guild_settings.rules(None)


async def test_channels_take_effect_immediately_with_their_threads(stage: Stage) -> None:
    message = await open_settings(stage)
    await stage.ann.select(message, [stage.tavern], custom_id=CHANNELS)
    assert f"Channels: <#{stage.tavern.id}>" in message.content
    (row, *_) = message.components
    assert row["components"][0]["default_values"] == [{"id": stage.tavern.id, "type": "channel"}]

    for command in ("bard", "scene continue", "scene fresh"):
        options = {"prompt": "ROMEO:"} if command == "bard" else {}
        rejected = await stage.ben.slash(stage.garden, command, **options)
        assert rejected.ephemeral
        assert not rejected.deferred
        assert f"<#{stage.tavern.id}>" in content_of(rejected)
    assert not stage.env.errors
    tavern = stage.env.bot.get_channel(stage.tavern.id)
    assert isinstance(tavern, discord.TextChannel)
    await tavern.create_thread(name="corner", type=discord.ChannelType.public_thread)
    (corner,) = stage.tavern.threads
    for channel in (stage.tavern, corner):
        reply = await stage.ben.slash(channel, "bard", prompt="FALSTAFF:", max_chars=9)
        assert reply_length(reply) <= 9
    assert reply_length(await stage.ann.user.slash("bard", prompt="I", max_chars=9)) <= 9

    await stage.ann.select(message, [], custom_id=CHANNELS)
    assert "Channels: all" in message.content
    assert reply_length(await request(stage, max_chars=9)) <= 9


async def test_limited_reply_has_an_ephemeral_followup(stage: Stage) -> None:
    message = await open_settings(stage)
    await submit(stage, message, Longest_reply="50")
    assert "Longest reply: 50 characters" in message.content

    default = await request(stage)
    assert reply_length(default) <= 50
    assert not default.followups
    limited = await request(stage, max_chars=51)
    assert reply_length(limited) <= 50
    (notice,) = limited.followups
    assert notice.ephemeral
    assert "50 characters" in notice.content


async def test_temperature_applies_to_requests_without_one(stage: Stage) -> None:
    await submit(stage, await open_settings(stage), Temperature="0,5")
    for options in ({}, {"temperature": 1.5}):
        await request(stage, max_chars=9, **options)
    await stage.ben.slash(stage.garden, "scene continue")
    turns = await stage.turns(stage.garden.id, 1)
    assert [turn.temperature for turn in turns] == [0.5, 1.5, 0.5]


async def test_cooldown_of_a_server(stage: Stage) -> None:
    await stage.env.advance_time(1)
    message = await open_settings(stage)
    await submit(stage, message, Cooldown="60")
    await request(stage, max_chars=9)
    rejected = await request(stage)
    assert rejected.ephemeral
    assert "again in 60 s" in content_of(rejected)
    assert not stage.env.errors
    await submit(stage, message, Cooldown="0")
    assert reply_length(await request(stage, max_chars=9)) <= 9


async def test_buttons_can_be_restricted_to_the_requester_and_moderators(stage: Stage) -> None:
    message = await open_settings(stage)
    await stage.ann.select(message, ["asker"], custom_id=BUTTONS)
    assert "*Continue* is for the person who asked for the reply, and moderators" in message.content
    assert stage.bard.guild_settings.rules(stage.guild.id).buttons == "asker"
    assert stage.bard.guild_settings.rules(None).buttons == "everyone"

    reply = await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20)
    assert reply.response is not None
    cat = stage.guild.add_member(stage.env.create_user("cat"))
    rejected = await cat.click(reply.response, label="Continue")
    assert rejected.ephemeral
    assert content_of(rejected) == REJECTIONS[Reason.BUTTONS_RESTRICTED]
    for member in (stage.ben, stage.ann):
        assert reply_length(await member.click(reply.response, label="Continue")) <= 20
    await stage.ann.select(message, ["everyone"], custom_id=BUTTONS)
    assert reply_length(await cat.click(reply.response, label="Continue")) <= 20


async def test_settings_and_controls_survive_a_restart(stage: Stage) -> None:
    message = await open_settings(stage)
    await stage.ann.select(message, [stage.tavern], custom_id=CHANNELS)
    await stage.ann.select(message, ["asker"], custom_id=BUTTONS)
    await submit(stage, message, Longest_reply="50", Cooldown="7", Temperature="1")
    rules = stage.bard.guild_settings.rules(stage.guild.id)
    await stage.restart()
    assert stage.bard.guild_settings.rules(stage.guild.id) == rules

    form = await stage.ann.click(message, custom_id=LIMITS)
    assert form.modal is not None
    inputs = [label["component"].get("value") for label in form.modal["components"]]
    assert inputs == ["50", "7", "1"]
    await stage.ann.submit_modal(form, {"Longest reply": "", "Cooldown": "", "Temperature": ""})
    assert "Longest reply: 4,000 characters" in message.content
    assert f"Channels: <#{stage.tavern.id}>" in message.content


async def test_form_outlives_a_restart(stage: Stage) -> None:
    message = await open_settings(stage)
    form = await stage.ann.click(message, custom_id=LIMITS)
    await stage.restart()
    await stage.ann.submit_modal(form, {"Cooldown": "9"})
    assert stage.bard.guild_settings.rules(stage.guild.id).cooldown == 9


async def test_invalid_numbers_are_named_and_change_nothing(stage: Stage) -> None:
    message = await open_settings(stage)
    before = message.content
    rejected = await submit(stage, message, Longest_reply="5000", Cooldown="1.5", Temperature="hot")
    assert rejected.ephemeral
    text = content_of(rejected)
    assert text.startswith(NOTHING_CHANGED)
    assert "Longest reply: a whole number from 1 to 4000, or nothing; not '5000'." in text
    assert "Cooldown: a whole number from 0 to 3600, or nothing; not '1.5'." in text
    assert "Temperature: a number from 0.1 to 2, or nothing; not 'hot'." in text
    assert message.content == before
    assert (await open_settings(stage)).content == before


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e9", "0", "\N{ARABIC-INDIC DIGIT FIVE}"])
def test_parse_limits_rejects(text: str) -> None:
    with pytest.raises(ValueError, match="Temperature: a number"):
        parse_limits("", "", text, ENGLISH, limit=4000)


async def test_servers_do_not_share_settings(stage: Stage) -> None:
    other = stage.env.create_guild("The Rose")
    await submit(stage, await open_settings(stage), Longest_reply="50")
    assert stage.bard.guild_settings.rules(other.id).max_chars == 4000


async def test_channels_are_not_called_gone_if_the_bot_cannot_know(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.bard.guild_settings.change(stage.guild.id, channels=frozenset({stage.tavern.id}))
    monkeypatch.setattr(stage.bot, "get_guild", lambda _id: None)  # the host lacks an intent
    message = await open_settings(stage)
    assert f"Channels: <#{stage.tavern.id}> and their threads" in message.content
    assert not message.components[0]["components"][0].get("default_values")


@pytest.mark.parametrize("tag", ["en-US", "de", "fr", "es-ES", "pt-BR"])
async def test_most_channels_and_roles_fit_into_the_pages(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, locales: dict[int, str], tag: str
) -> None:
    locales[stage.ann.id] = tag
    many = [frozenset(range(10**18 * n, 10**18 * n + 25)) for n in (2, 3, 4)]
    await stage.bard.guild_settings.change(
        stage.guild.id, channels=many[0], allowed_roles=many[1], denied_roles=many[2]
    )
    monkeypatch.setattr(stage.bot, "get_guild", lambda _id: None)  # it cannot know which are gone
    message = await open_settings(stage)
    assert f"<#{2 * 10**18}>" in message.content
    await stage.ann.click(message, custom_id="bard:settings:page:roles")
    assert f"<@&{4 * 10**18}>" in message.content
    assert not stage.env.errors
