"""Commands are synced when they differ from what Discord holds, and only then."""

import pytest
import simcord

from bot import Settings, create_bot
from tests.bot.conftest import Stage


def syncs(env: simcord.Env) -> list[str]:
    return [request.path for request in env.http_requests if request.method == "PUT"]


async def test_two_starts_sync_once(stage: Stage) -> None:
    assert len(syncs(stage.env)) == 1
    await stage.restart()
    assert len(syncs(stage.env)) == 1


async def test_changed_command_syncs_again(stage: Stage, settings: Settings) -> None:
    changed = create_bot(settings.model_copy(update={"max_chars": 500}))
    await stage.env.restart_bot(changed)
    assert len(syncs(stage.env)) == 2
    await stage.env.restart_bot(create_bot(settings))
    assert len(syncs(stage.env)) == 3
    again = stage.env.bot
    await changed.close()
    await again.close()


async def test_forgotten_by_discord_syncs_again(stage: Stage) -> None:
    stage.env.backend.commands[None].popitem()
    await stage.restart()
    assert len(syncs(stage.env)) == 2


async def test_empty_description_of_a_menu_is_none(stage: Stage) -> None:
    (menu,) = (c for c in stage.env.backend.commands[None].values() if c["type"] == 3)
    menu["description"] = ""  # as Discord has it
    await stage.restart()
    assert len(syncs(stage.env)) == 1


async def test_commands_are_for_servers_and_users_everywhere(stage: Stage) -> None:
    for command in stage.env.backend.commands[None].values():
        of_servers = command["name"] == "bard-settings"
        assert command["contexts"] == ([0] if of_servers else [0, 1, 2])
        assert command["integration_types"] == ([0] if of_servers else [0, 1])


@pytest.mark.settings(dev_guild_id=80351110224678912)
async def test_development_server_gets_the_commands(stage: Stage) -> None:
    (path,) = syncs(stage.env)
    assert path.endswith("/guilds/80351110224678912/commands")
    await stage.restart()
    assert len(syncs(stage.env)) == 1
