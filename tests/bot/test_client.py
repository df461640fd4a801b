"""The stand-alone client syncs its commands if, and only if, they differ from Discord's."""

import pytest
import simcord

from bot import Settings, create_bot
from bot.errors import Reason
from bot.ui.responses import OUTDATED, REJECTIONS
from tests.bot.conftest import Stage, content_of


def syncs(env: simcord.Env) -> list[str]:
    """Return the paths of the requests that registered commands."""
    return [request.path for request in env.http_requests if request.method == "PUT"]


async def test_unchanged_commands_are_synced_once(stage: Stage) -> None:
    assert len(syncs(stage.env)) == 1
    await stage.restart()
    assert len(syncs(stage.env)) == 1


async def test_changed_command_is_synced(stage: Stage, settings: Settings) -> None:
    changed = create_bot(settings.model_copy(update={"max_chars": 500}))
    await stage.env.restart_bot(changed)
    assert len(syncs(stage.env)) == 2
    await stage.env.restart_bot(create_bot(settings))
    assert len(syncs(stage.env)) == 3
    last = stage.env.bot
    await changed.close()
    await last.close()


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
