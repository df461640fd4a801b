"""Owners of the bot, known without a request, in the applications and hosts that there are."""

from typing import Any
from unittest.mock import AsyncMock, Mock

import discord
import pytest
from discord.ext import commands

from bot.errors import Reason
from bot.ui.owners import known_owners, require_owner
from tests.bot.conftest import rejected

OWNER, ADMIN, READER, INVITED, STRANGER = 1, 2, 3, 4, 5
TEAM = {
    "id": "100",
    "name": "The Globe",
    "icon": None,
    "owner_user_id": str(OWNER),
    "members": [
        {
            "membership_state": state,
            "role": role,
            "user": {"id": str(person), "username": "x", "discriminator": "0", "avatar": None},
        }
        for person, state, role in (
            (OWNER, 2, ""),
            (ADMIN, 2, "admin"),
            (READER, 2, "read_only"),
            (INVITED, 1, "admin"),
        )
    ],
}


def host(
    team: dict[str, Any] | None, kind: type[commands.Bot] = commands.Bot, **options: Any
) -> commands.Bot:
    """Return a host as it is after its login."""
    bot = kind("!", intents=discord.Intents(guilds=True), **options)
    state = Mock(create_user=lambda data: discord.Object(int(data["id"])))
    application = {
        "id": "1000",
        "name": "Bard",
        "icon": None,
        "description": "",
        "bot_public": True,
        "bot_require_code_grant": False,
        "verify_key": "",
        "owner": {"id": str(100 if team else OWNER)},
        "team": team,
    }
    bot._application = discord.AppInfo(state, application)  # type: ignore[arg-type]
    return bot


def interaction_of(client: commands.Bot, person: int) -> Any:
    response = Mock(defer=AsyncMock(), is_done=Mock(return_value=False))
    return Mock(client=client, user=discord.Object(person), response=response, extras={})


def bard_with(*owner_ids: int) -> Any:
    return Mock(settings=Mock(owner_ids=frozenset(owner_ids)))


@pytest.mark.parametrize("kind", [commands.Bot, commands.AutoShardedBot])
@pytest.mark.parametrize(
    ("team", "options", "owners"),
    [
        (None, {}, {OWNER}),
        (TEAM, {}, {OWNER, ADMIN}),
        (TEAM | {"owner_user_id": None}, {}, {ADMIN}),
        (None, {"owner_id": STRANGER}, {STRANGER}),
        (TEAM, {"owner_ids": {STRANGER, INVITED}}, {STRANGER, INVITED}),
    ],
    ids=["one person", "team", "team without owner", "owner set", "owners set"],
)
def test_owners_of_a_host_after_its_login(
    kind: type[commands.Bot],
    team: dict[str, Any] | None,
    options: dict[str, Any],
    owners: set[int],
) -> None:
    assert set(known_owners(host(team, kind, **options))) == owners


@pytest.mark.parametrize("team", [None, TEAM])
async def test_owners_that_the_library_has_kept_are_not_taken_for_the_hosts(
    team: dict[str, Any] | None,
) -> None:
    client = host(team)
    before = set(known_owners(client))
    client.application_info = AsyncMock(return_value=client.application)  # type: ignore[method-assign]
    await client.is_owner(Mock(id=STRANGER))  # by a command of the host
    assert client.owner_id or client.owner_ids
    assert set(known_owners(client)) == before


def test_nobody_owns_a_host_before_its_login() -> None:
    assert not known_owners(commands.Bot("!", intents=discord.Intents(guilds=True)))


@pytest.mark.parametrize(
    ("owner_ids", "person", "allowed"),
    [
        ((), OWNER, True),
        ((), INVITED, False),
        ((), READER, False),
        ((), STRANGER, False),
        ((STRANGER,), STRANGER, True),
        ((STRANGER,), OWNER, False),
    ],
)
async def test_decision_takes_neither_a_request_nor_an_acknowledgement(
    owner_ids: tuple[int, ...], person: int, *, allowed: bool
) -> None:
    client = host(TEAM)
    client.application_info = AsyncMock()  # type: ignore[method-assign]
    interaction = interaction_of(client, person)
    if allowed:
        await require_owner(interaction, bard_with(*owner_ids))
    else:
        with rejected(Reason.NOT_OWNER):
            await require_owner(interaction, bard_with(*owner_ids))
    client.application_info.assert_not_called()
    interaction.response.defer.assert_not_called()


class RuledBot(commands.Bot):
    """A host with a rule of its own."""

    async def is_owner(self, user: discord.abc.User, /) -> bool:
        return user.id == ADMIN


async def test_rule_of_the_host_is_asked_after_a_private_acknowledgement() -> None:
    client = host(TEAM, RuledBot)
    for person in (ADMIN, OWNER):
        interaction = interaction_of(client, person)
        if person == ADMIN:
            await require_owner(interaction, bard_with())
        else:
            with rejected(Reason.NOT_OWNER):
                await require_owner(interaction, bard_with())
        interaction.response.defer.assert_awaited_once_with(ephemeral=True, thinking=True)
    interaction = interaction_of(client, STRANGER)
    await require_owner(interaction, bard_with(STRANGER))
    interaction.response.defer.assert_not_called()
