"""`/bard-admin`: blocks of people, and the bot's servers."""

import pytest
import simcord
from simcord.results import InteractionResult, ResponseMessage

from bot.cogs import admin
from bot.errors import Reason
from bot.ui.owners import OWN_CLIENT
from bot.ui.responses import REJECTIONS
from tests.bot.conftest import Stage, content_of, message_of, reply_length, text_of

BLOCKED = REJECTIONS[Reason.BLOCKED]
LIST = "bard:servers:choose"


@pytest.fixture
def stage(stage: Stage) -> Stage:
    """A stage whose bot Ann owns."""
    stage.bot.owner_ids = {stage.ann.id}
    return stage


def messages_of(result: InteractionResult) -> list[ResponseMessage]:
    """Return the messages with files that respond to an interaction."""
    shown = [result.response, *result.followups]
    return [message for message in shown if message is not None and message.attachments]


async def test_blocked_person_gets_one_private_line_everywhere_until_the_block_is_lifted(
    stage: Stage,
) -> None:
    rose = stage.env.create_guild("The Rose")
    yard = rose.create_text_channel("yard")
    ben = rose.add_member(stage.ben.user)
    reply = message_of(await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20))
    await stage.ben.click(reply, label="Reroll")
    blocked = await stage.ann.slash(stage.garden, "bard-admin block", user=stage.ben)
    assert blocked.ephemeral
    assert content_of(blocked).startswith("Blocked: ben")
    generated = len(stage.contexts)
    await stage.restart()
    stage.bot.owner_ids = {stage.ann.id}

    assert await stage.ben.autocomplete(stage.garden, "bard", "prompt", "R") == []
    for rejected in (
        await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:"),
        await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:"),
        await ben.slash(yard, "bard", prompt="ROMEO:"),
        await stage.ben.user.slash("bard", prompt="ROMEO:"),
        await stage.ben.click(reply, label="Continue"),
        await stage.ben.click(reply, label="Reroll"),
        await stage.ben.click(reply, label="◀ Earlier take"),
        await stage.ben.slash(stage.garden, "scene fresh"),
    ):
        assert rejected.ephemeral
        assert content_of(rejected) == BLOCKED
    assert len(stage.contexts) == generated
    # Their data stays theirs, and what they may ask for has no effect on the block.
    exported = await stage.ben.slash(stage.garden, "scene export", what="all about me, as JSON")
    assert [m.attachments[0].filename for m in messages_of(exported)] == ["about-me.json"]
    asked = await stage.ben.slash(stage.garden, "scene forget", what="my words, everywhere")
    await stage.ben.click(message_of(asked), label="Forget my words")
    assert content_of(await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:")) == BLOCKED

    lifted = await stage.ann.slash(stage.garden, "bard-admin unblock", user=stage.ben)
    assert content_of(lifted).startswith("No longer blocked: ben")
    assert reply_length(await stage.ben.slash(stage.garden, "bard", prompt="I", max_chars=9)) <= 9
    again = await stage.ann.slash(stage.garden, "bard-admin unblock", user=stage.ben)
    assert "was not blocked" in content_of(again)
    assert not stage.env.errors


async def test_only_the_owner_administers_and_only_others_can_be_blocked(stage: Stage) -> None:
    with pytest.raises(simcord.SetupError, match="default-member-permissions"):
        await stage.ben.slash(stage.garden, "bard-admin servers")
    # In a direct message, Discord shows the commands to everybody.
    for command, options in (
        ("block", {"user": stage.ann.user}),
        ("unblock", {"user": stage.ann.user}),
        ("servers", {}),
    ):
        rejected = await stage.ben.user.slash(f"bard-admin {command}", **options)
        assert content_of(rejected) == REJECTIONS[Reason.NOT_OWNER]
    own = await stage.ann.user.slash("bard-admin block", user=stage.ann.user)
    assert content_of(own) == REJECTIONS[Reason.OWN_BLOCK]
    assert stage.ann.id not in stage.bard.blocks


async def test_owner_leaves_a_server_of_the_list_after_a_confirmation(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "PAGE_SERVERS", 2)
    others = [stage.env.create_guild(name) for name in ("The *Rose*", "The Swan")]
    first, second, third = sorted([stage.guild, *others], key=lambda guild: guild.id)
    shown = message_of(await stage.ann.user.slash("bard-admin servers"))
    assert "1 to 2 of 3" in shown.content
    assert "The \\*Rose\\*" in shown.content
    assert third.name not in shown.content
    for label, texts in (("Later", "3 to 3 of 3"), ("Earlier", "1 to 2 of 3")):
        await stage.ann.user.click(shown, label=label)
        assert texts in shown.content

    await stage.ann.user.select(shown, [str(second.id)], custom_id=LIST)
    assert shown.content.startswith("Leave The \\*Rose\\*")
    await stage.ann.user.click(shown, label="Stay")
    assert shown.content == admin.STAYED
    assert len(stage.bot.guilds) == 3

    shown = message_of(await stage.ann.user.slash("bard-admin servers"))
    await stage.ann.user.select(shown, [str(second.id)], custom_id=LIST)
    stage.bot.owner_ids = {stage.ben.id}
    rejected = await stage.ann.user.click(shown, label="Leave")
    assert REJECTIONS[Reason.NOT_OWNER] in content_of(rejected)
    stage.bot.owner_ids = {stage.ann.id}
    await stage.ann.user.click(shown, label="Leave")
    assert shown.content == f"The bot has left The \\*Rose\\* (`{second.id}`)."
    assert {guild.id for guild in stage.bot.guilds} == {first.id, third.id}
    listed = message_of(await stage.ann.user.slash("bard-admin servers"))
    assert len(listed.components) == 1  # all servers are on one page
    assert not stage.env.errors


async def test_host_is_never_made_to_leave(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = message_of(await stage.ann.user.slash("bard-admin servers"))
    await stage.ann.user.select(shown, [str(stage.guild.id)], custom_id=LIST)
    monkeypatch.setattr(stage.bot, OWN_CLIENT, False, raising=False)
    rejected = await stage.ann.user.click(shown, label="Leave")
    assert REJECTIONS[Reason.CANNOT_LEAVE] in content_of(rejected)
    assert len(stage.bot.guilds) == 1
    listed = await stage.ann.user.slash("bard-admin servers")
    assert "The Globe" in text_of(listed)
    assert message_of(listed).components == []
