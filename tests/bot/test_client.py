"""The stand-alone client syncs its commands if, and only if, they differ from Discord's."""

import discord
import pytest
import simcord

from bot.errors import Reason
from bot.ui.responses import OUTDATED, REJECTIONS
from tests.bot.conftest import Stage, content_of


def syncs(env: simcord.Env) -> list[str]:
    """Return the paths of the requests that registered commands."""
    return [request.path for request in env.http_requests if request.method == "PUT"]


async def restart_with(stage: Stage, **changed: object) -> None:
    stage.bot.bard_settings = stage.bot.bard_settings.model_copy(update=changed)
    await stage.restart()


async def test_unchanged_commands_are_synced_once(stage: Stage) -> None:
    assert len(syncs(stage.env)) == 1
    await stage.restart()
    assert len(syncs(stage.env)) == 1


async def test_changed_command_is_synced(stage: Stage) -> None:
    await restart_with(stage, max_chars=500)
    assert len(syncs(stage.env)) == 2
    await restart_with(stage, max_chars=501)
    assert len(syncs(stage.env)) == 3


async def test_command_missing_at_discord_is_synced(stage: Stage) -> None:
    stage.env.backend.commands[None].popitem()
    await stage.restart()
    assert len(syncs(stage.env)) == 2


async def test_empty_description_equals_none(stage: Stage) -> None:
    (menu,) = (c for c in stage.env.backend.commands[None].values() if c["type"] == 3)
    menu["description"] = ""  # as Discord returns it
    await stage.restart()
    assert len(syncs(stage.env)) == 1


@pytest.mark.settings(dev_guild_id=80351110224678912)
async def test_development_server_is_synced_alone(stage: Stage) -> None:
    (path,) = syncs(stage.env)
    assert path.endswith("/guilds/80351110224678912/commands")
    await stage.restart()
    assert len(syncs(stage.env)) == 1


async def test_refused_sync_keeps_the_commands_from_before(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.env.inject_error(
        "PUT", "/applications/*/commands", status=400, code=30034, message="Too many creates"
    )
    await restart_with(stage, max_chars=500)
    (record,) = (r for r in caplog.records if r.levelname == "ERROR")
    assert "400 Bad Request, 30034 Too many creates" in record.getMessage()
    assert record.exc_info is None
    await stage.ann.slash(stage.garden, "bard-about")


async def test_refused_sync_without_commands_from_before_ends_the_start(stage: Stage) -> None:
    stage.env.backend.commands[None].clear()
    stage.env.inject_error(
        "PUT", "/applications/*/commands", status=400, code=30034, message="Too many creates"
    )
    with pytest.raises(discord.HTTPException, match="Too many creates"):
        await stage.restart()


async def test_command_during_the_shutdown_is_rejected(stage: Stage) -> None:
    await stage.bot.unload_extension("bot")
    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:")
    assert content_of(result) == REJECTIONS[Reason.CLOSING]
    assert result.ephemeral
    assert stage.env.errors  # the simulation records what reaches the tree
    await stage.bot.load_extension("bot")


async def test_command_that_only_discord_still_has_is_explained(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.bot.tree.remove_command("bard-about")
    result = await stage.ann.slash(stage.garden, "bard-about")
    assert content_of(result).startswith(OUTDATED)
    assert content_of(result).split("`")[1] in caplog.text
    assert stage.env.errors
