"""The roles that may use the bard: how managers choose them, and what they bind."""

import re

import discord
import pytest
from simcord.actors import MemberActor
from simcord.builders import RoleHandle
from simcord.results import ResponseMessage

from bot.errors import Reason, RejectedError
from bot.languages import ENGLISH
from bot.ui.responses import REJECTIONS, rejection_text
from tests.bot.conftest import Stage, content_of, message_of, reply_length, text_of

ALLOWED, DENIED = "bard:settings:allowed", "bard:settings:denied"


def missing(*roles: RoleHandle) -> str:
    """Return the rejection of somebody who has none of some roles."""
    ids = frozenset(role.id for role in roles)
    return rejection_text(RejectedError(Reason.ROLE_MISSING, roles=ids), ENGLISH)


async def open_roles(stage: Stage) -> ResponseMessage:
    """Open the page with the roles as Ann."""
    settings = message_of(await stage.ann.slash(stage.garden, "bard-settings"))
    await stage.ann.click(settings, label="Roles")
    return settings


def set_roles(stage: Stage, member: MemberActor, *roles: RoleHandle) -> None:
    """Give a member these roles alone."""
    stage.env.backend.get_member(stage.guild.id, member.id).role_ids[:] = [r.id for r in roles]


async def test_roles_bind_every_way_to_a_reply_as_soon_as_they_change(stage: Stage) -> None:
    players, banished = stage.guild.create_role("Players"), stage.guild.create_role("Banished")
    reply = message_of(await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=20))
    await stage.ben.click(reply, label="Reroll")
    said = await stage.ben.send(stage.garden, "But soft")
    page = await open_roles(stage)
    await stage.ann.select(page, [players], custom_id=ALLOWED)
    assert f"Roles that may ask: <@&{players.id}>" in page.content
    generated = len(stage.contexts)

    async def rejections() -> set[str]:
        assert await stage.ben.autocomplete(stage.garden, "bard", "prompt", "R") == []
        results = [
            await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:"),
            await stage.ben.slash(stage.garden, "scene continue"),
            await stage.ben.slash(stage.garden, "scene fresh"),
            await stage.ben.context_menu(stage.garden, "Continue as Shakespeare", said),
            await stage.ben.click(reply, label="Continue"),
            await stage.ben.click(reply, label="Reroll"),
            await stage.ben.click(reply, label="◀ Earlier take"),
        ]
        assert all(result.ephemeral for result in results)
        return set(map(content_of, results))

    assert await rejections() == {missing(players)}
    set_roles(stage, stage.ben, players)
    assert await stage.ben.autocomplete(stage.garden, "bard", "prompt", "R")
    await stage.ann.select(page, [banished], custom_id=DENIED)
    assert f"Roles that may not ask: <@&{banished.id}>" in page.content
    set_roles(stage, stage.ben, players, banished)
    assert await rejections() == {REJECTIONS[Reason.ROLE_DENIED]}
    assert len(stage.contexts) == generated
    # Direct messages have no roles, and one's own words can always be read.
    assert reply_length(await stage.ben.user.slash("bard", prompt="ROMEO:", max_chars=9)) <= 9
    shown = await stage.ben.slash(stage.garden, "scene show")
    assert "ROMEO:" in text_of(shown)

    set_roles(stage, stage.ben, players)
    assert reply_length(await stage.ben.click(reply, label="Continue")) <= 20
    assert not stage.env.errors


async def test_managers_without_an_allowed_role_change_the_settings_and_lift_them(
    stage: Stage,
) -> None:
    nobody = stage.guild.create_role("Nobody")
    page = await open_roles(stage)
    await stage.ann.select(page, [nobody], custom_id=ALLOWED)
    await stage.ann.select(page, [stage.guild.default_role], custom_id=DENIED)
    rejected = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:")
    assert content_of(rejected) == REJECTIONS[Reason.ROLE_DENIED]
    await stage.restart()
    await stage.ann.select(page, [], custom_id=DENIED)
    await stage.ann.select(page, [], custom_id=ALLOWED)
    await stage.ann.click(page, label="Back")
    assert "Roles that may ask: all\nRoles that may not ask: none" in page.content
    assert reply_length(await stage.ben.slash(stage.garden, "bard", prompt="I", max_chars=9)) <= 9


async def test_controls_of_the_roles_are_for_managers(stage: Stage) -> None:
    players = stage.guild.create_role("Players")
    page = await open_roles(stage)
    set_roles(stage, stage.ann)
    for rejected in (
        await stage.ann.select(page, [players], custom_id=ALLOWED),
        await stage.ann.select(page, [players], custom_id=DENIED),
        await stage.ann.click(page, label="Back"),
    ):
        assert rejected.ephemeral
        assert REJECTIONS[Reason.NOT_MANAGER] in content_of(rejected)
    assert stage.bard.guild_settings.rules(stage.guild.id) == stage.bard.guild_settings.rules(None)


async def test_deleted_roles_leave_the_settings_unless_everyone_might_ask_then(
    stage: Stage,
) -> None:
    first, last, denied = [stage.guild.create_role(name) for name in ("First", "Last", "Denied")]
    page = await open_roles(stage)
    await stage.ann.select(page, [first, last], custom_id=ALLOWED)
    await stage.ann.select(page, [denied], custom_id=DENIED)
    for role in (first, denied, last):
        stage.env.backend.delete_role(stage.guild.id, role.id)
        await stage.env.settle()
    settings = stage.bard.guild_settings.get(stage.guild.id)
    assert settings.allowed_roles == {last.id}
    assert settings.denied_roles == frozenset()

    page = await open_roles(stage)
    assert "Roles that may ask: none that still exists" in page.content
    assert not page.components[0]["components"][0].get("default_values")
    rejected = await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:")
    assert content_of(rejected) == missing(last)


async def test_roles_bind_where_the_host_does_not_know_them(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the intent `guilds`, the library has a server without roles."""
    banished = stage.guild.create_role("Banished")
    await stage.bard.guild_settings.change(stage.guild.id, denied_roles=frozenset({banished.id}))
    set_roles(stage, stage.ben, banished)
    monkeypatch.setattr(discord.Guild, "get_role", lambda *_: None)
    monkeypatch.setattr(stage.bot, "get_guild", lambda _id: None)
    rejected = await stage.ben.slash(stage.garden, "bard", prompt="ROMEO:")
    assert content_of(rejected) == REJECTIONS[Reason.ROLE_DENIED]
    page = await open_roles(stage)
    assert re.search(rf"may not ask: <@&{banished.id}>$", page.content, re.MULTILINE)
