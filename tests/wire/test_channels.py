"""The double's channels, commands, limits of rate and faults."""

import itertools
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.wire.api import NONCE_SECONDS
from tests.wire.app import COMMANDS, Answer, App, button, message
from tests.wire.faults import When
from tests.wire.limits import Limits
from tests.wire.server import Discord
from tests.wire.state import Guild, Json, Message, Permission, Place


class Now:
    """The clock of the limits of rate."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
async def app(now: Now) -> AsyncIterator[App]:
    """A client with a session and commands."""
    async with Discord(limits=Limits(now)).running() as discord, aiohttp.ClientSession() as session:
        app = App(discord, session)
        await app.start()
        yield app


@pytest.fixture
async def guild(app: App) -> Guild:
    return await app.discord.guild("The Globe")


@pytest.fixture
async def garden(app: App, guild: Guild) -> Place:
    return await app.discord.channel(guild, "garden")


async def post(app: App, place: Place) -> Message:
    """Post a message."""
    answer = await app.call("POST message", message(), channel=place.id)
    return app.discord.world.messages[answer.body["id"]]


async def edit(app: App, shown: Message, content: str = "New.") -> Answer:
    place = {"channel": shown.place.id, "message": shown.id}
    return await app.call("PATCH message", message(content), **place)


async def test_message_from_its_post_to_its_deletion(app: App, garden: Place) -> None:
    shown = await post(app, garden)
    assert (await edit(app, shown)).body["content"] == "New."
    place = {"channel": garden.id, "message": shown.id}
    assert (await app.call("GET message", **place)).body["edited_timestamp"]
    assert [m["id"] for m in (await app.call("GET messages", channel=garden.id)).body] == [shown.id]
    assert (await app.call("DELETE message", **place)).status == 204
    for route in ("GET message", "DELETE message"):
        assert (await app.call(route, **place)).code == 10008
    assert (await edit(app, shown)).code == 10008


async def test_nonce_of_the_last_minutes_creates_no_second_message(app: App, garden: Place) -> None:
    body = message(nonce="1", enforce_nonce=True)
    first = await app.call("POST message", body, channel=garden.id)
    again = await app.call("POST message", body, channel=garden.id)
    assert again.body["id"] == first.body["id"]
    app.discord.clock.advance(NONCE_SECONDS)
    for later in (body, message(nonce="1")):
        answer = await app.call("POST message", later, channel=garden.id)
        assert answer.body["id"] != first.body["id"]


async def test_reply_to_a_message_that_is_gone(app: App, garden: Place) -> None:
    shown = await post(app, garden)
    reference: Json = {"message_id": shown.id}
    answer = await app.call("POST message", message(message_reference=reference), channel=garden.id)
    assert answer.body["referenced_message"]["id"] == shown.id
    assert answer.body["type"] == 19
    await app.discord.delete_message(shown)
    refused = await app.call(
        "POST message", message(message_reference=reference), channel=garden.id
    )
    assert refused.code == 50035
    reference = {"message_id": shown.id, "fail_if_not_exists": False}
    answer = await app.call("POST message", message(message_reference=reference), channel=garden.id)
    assert "referenced_message" not in answer.body


async def test_typing_needs_the_permission_to_write(app: App, guild: Guild, garden: Place) -> None:
    attic = await app.discord.channel(guild, "attic", allowed=Permission.VIEW_CHANNEL)
    assert (await app.call("POST typing", channel=garden.id)).status == 204
    assert (await app.call("POST typing", channel=attic.id)).code == 50013


@pytest.mark.parametrize(
    ("allowed", "code"),
    [
        (None, 50001),
        (Permission.SEND_MESSAGES, 50001),
        (Permission.VIEW_CHANNEL, 50013),
        (Permission.VIEW_CHANNEL | Permission.SEND_MESSAGES, None),
    ],
)
async def test_permissions(
    app: App, guild: Guild, allowed: Permission | None, code: int | None
) -> None:
    place = await app.discord.channel(guild, "attic", allowed=allowed)
    assert (await app.call("POST message", message(), channel=place.id)).code == code
    upload = await app.upload("POST message", message(), {"a": b"x"}, channel=place.id)
    assert upload.code == (code or 50013)


async def test_thread_has_a_permission_of_its_own(app: App, garden: Place) -> None:
    assert garden.guild is not None
    allowed = Permission.VIEW_CHANNEL | Permission.SEND_MESSAGES
    thread = await app.discord.channel(garden.guild, "thread", parent=garden, allowed=allowed)
    assert (await app.call("POST message", message(), channel=thread.id)).code == 50013


async def test_places_without_the_bot(app: App, garden: Place) -> None:
    ann, ben = app.discord.person("Ann"), app.discord.person("Ben")
    private = app.discord.between(ann, ben)
    assert (await app.call("POST message", message(), channel=private.id)).code == 50001
    assert (await app.call("POST message", message(), channel="1")).code == 10003
    shown = await post(app, garden)
    await app.discord.delete_channel(garden)
    assert (await edit(app, shown)).code == 10003


async def test_messages_of_others(app: App, garden: Place) -> None:
    said = app.discord.post(app.discord.owner, garden, "Hey.")
    assert (await edit(app, said)).code == 50005
    place = {"channel": garden.id, "message": said.id}
    assert (await app.call("DELETE message", **place)).code == 50013
    assert garden.allowed is not None
    garden.allowed |= Permission.MANAGE_MESSAGES
    assert (await app.call("DELETE message", **place)).status == 204


async def test_archived_thread(app: App, garden: Place) -> None:
    assert garden.guild is not None
    thread = await app.discord.channel(garden.guild, "thread", parent=garden)
    shown = await post(app, thread)
    thread.archived = True
    assert (await edit(app, shown)).code == 50083
    assert (await app.call("POST message", message(), channel=thread.id)).status == 200
    assert not thread.archived
    thread.archived = thread.locked = True
    assert (await app.call("POST message", message(), channel=thread.id)).code == 50083
    asked = await app.discord.slash("say", at=thread)
    assert (await app.respond(asked, 5)).code == 50083


async def test_edits_of_an_old_message(app: App, garden: Place, now: Now) -> None:
    shown = await post(app, garden)
    app.discord.clock.advance(3601)
    assert [(await edit(app, shown)).status for _ in range(3)] == [200] * 3
    answer = await edit(app, shown)
    assert (answer.status, answer.code) == (429, 30046)
    assert answer.headers["Via"]
    now.seconds += answer.body["retry_after"]
    assert (await edit(app, shown)).status == 200


async def test_direct_messages(app: App) -> None:
    ann = app.discord.person("Ann")
    opened = await app.call("POST dm", {"recipient_id": ann.id})
    assert opened.body["type"] == 1
    place = opened.body["id"]
    assert (await app.call("POST message", message(), channel=place)).status == 200
    ann.closed = True
    assert (await app.call("POST message", message(), channel=place)).code == 50007
    assert (await app.call("POST dm", {"recipient_id": "1"})).code == 10013
    assert (await app.call("POST dm", {"recipient_id": ann.id})).body["id"] == place


async def test_message_with_nothing_in_it(app: App, garden: Place) -> None:
    for body in (message(" "), message(None), message("", components=[button("go")])):
        assert (await app.call("POST message", body, channel=garden.id)).code == 50006


@pytest.mark.parametrize(
    "route", ["POST message", "PATCH message", "PATCH @original", "POST followup", "PATCH followup"]
)
async def test_every_message_is_checked(app: App, garden: Place, route: str) -> None:
    shown = await post(app, garden)
    asked = await app.discord.slash("say", at=garden)
    refused = await app.respond(asked, 4, message("x" * 2001))
    assert (refused.status, refused.code) == (400, 50035)
    await app.respond(asked, 4, message())
    response = asked.interaction.response
    assert response is not None
    variables = {
        "channel": garden.id,
        "token": asked.token,
        "message": response.id if "followup" in route else shown.id,
    }
    answer = await app.call(route, message("x" * 2001), **variables)
    assert (answer.status, answer.code) == (400, 50035)
    answer = await app.call(route, {"content": "Without."}, **variables)
    assert answer.status == 200
    first, second, third = app.discord.violations
    assert first.startswith("POST callback: data.content")
    assert second.startswith(f"{route}: content")
    assert third.startswith(f"{route}: allowed_mentions")


async def test_requests_that_discord_does_not_know(app: App) -> None:
    answer = await app.send("GET me", "/users/@me/guilds", {}, None, {})
    assert answer.status == 404
    json = {"Content-Type": "application/json"}
    await app.send("POST dm", "/users/@me/channels", {}, "{", json)
    await app.send("POST dm", "/users/@me/channels", {}, "{}", {"Content-Type": "text/plain"})
    assert len(app.discord.violations) == 5  # both bodies lack a field as well


async def test_bot_token(app: App) -> None:
    for headers, status in (({}, 200), ({"Authorization": "Bot wrong"}, 401)):
        answer = await app.send("GET me", "/users/@me", {}, None, headers)
        assert answer.status == status


async def test_people(app: App, guild: Guild) -> None:
    ann = app.discord.person("Ann")
    assert (await app.call("GET user", user=ann.id)).body["global_name"] == "Ann"
    assert (await app.call("GET user", user="1000")).body["bot"]
    assert (await app.call("GET user", user="1")).code == 10013
    member = await app.call("GET member", guild=guild.id, user=ann.id)
    assert member.body["user"]["id"] == ann.id
    assert (await app.call("GET member", guild=guild.id, user="1")).code == 10007
    assert (await app.call("GET member", guild="1", user=ann.id)).code == 10004


async def test_commands_keep_their_ids(app: App) -> None:
    before = (await app.call("GET commands")).body
    assert [command["name"] for command in before] == ["say", "Quote"]
    assert before[1]["description"] == ""
    assert before[0]["options"][1]["min_value"] == 0
    changed = [{**COMMANDS[0], "description": "Speak."}]
    after = (await app.call("PUT commands", changed)).body
    assert after[0]["id"] == before[0]["id"]
    assert after[0]["version"] != before[0]["version"]
    assert len((await app.call("GET commands")).body) == 1


async def test_commands_are_checked(app: App) -> None:
    answer = await app.call("PUT commands", [{"name": "Say", "description": "D"}])
    assert (answer.status, answer.code) == (400, 50035)
    assert len(app.discord.violations) == 1


async def test_entry_point_is_kept(app: App) -> None:
    entry = {"name": "launch", "type": 4, "handler": 2}
    assert (await app.call("PUT commands", [*COMMANDS, entry])).status == 200
    assert (await app.call("PUT commands", COMMANDS)).code == 50240


async def test_commands_created_in_a_day(app: App) -> None:
    def batch(number: int) -> list[dict[str, str]]:
        return [{"name": f"c{number}-{n}", "description": "D"} for n in range(99)]

    for number in range(2):
        assert (await app.call("PUT commands", batch(number))).status == 200
    assert (await app.call("PUT commands", batch(2))).code == 30034
    assert (await app.call("PUT commands", batch(1))).status == 200  # creates none
    app.discord.clock.advance(86_400)
    assert (await app.call("PUT commands", batch(2))).status == 200


async def test_commands_of_a_server(app: App, guild: Guild, garden: Place) -> None:
    own = [{"name": "only", "description": "D"}]
    assert (await app.call("PUT server commands", own, guild=guild.id)).status == 200
    assert (await app.call("PUT server commands", own, guild="1")).code == 50001
    await app.discord.slash("only", at=garden)
    with pytest.raises(AssertionError, match="knows no command"):
        await app.discord.slash("only")


async def test_limit_of_a_token(app: App, now: Now) -> None:
    tokens = []
    for _ in range(2):
        asked = await app.discord.slash("say")
        await app.respond(asked, 5)
        tokens.append(asked.token)
    first, second = tokens
    edits = [await app.call("PATCH @original", message(), token=first) for _ in range(6)]
    assert [answer.status for answer in edits] == [200] * 5 + [429]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in edits] == [*"43210", "0"]
    assert edits[-1].body["retry_after"] == 5.0
    assert edits[-1].headers["Retry-After"] == "5"
    assert edits[-1].headers["Via"]
    assert edits[-1].headers["X-RateLimit-Reset-After"] == "5.000"
    assert (await app.call("PATCH @original", message(), token=second)).status == 200
    now.seconds += 5
    assert (await app.call("POST followup", message(), token=first)).status == 200


async def test_limit_of_a_channel(app: App, garden: Place) -> None:
    statuses = [
        (await app.call("POST message", message(), channel=garden.id)).status for _ in range(6)
    ]
    assert statuses == [200] * 5 + [429]


async def test_limit_of_the_bot(app: App, now: Now) -> None:
    now.seconds += 1
    answers = [await app.call("GET me") for _ in range(51)]
    assert [answer.status for answer in answers] == [200] * 50 + [429]
    assert answers[-1].body["global"]
    assert answers[-1].headers["X-RateLimit-Global"] == "true"
    asked = await app.discord.slash("say")
    assert (await app.respond(asked, 5)).status == 200


async def test_faults_before_the_effect(app: App, garden: Place) -> None:
    faults = app.discord.faults
    faults.fails("POST message", 503)
    faults.refuses("POST message", 400, 200_000)
    faults.bans("POST message")
    faults.limits("POST message")
    faults.drops("POST message")

    async def try_to_post() -> Answer:
        return await app.call("POST message", message(), channel=garden.id)

    failed, refused, banned, limited = [await try_to_post() for _ in range(4)]
    assert failed.status == 503
    assert isinstance(failed.body, str)
    assert failed.body.startswith("<!DOCTYPE html>")
    assert refused.code == 200_000
    assert (banned.status, "Via" in banned.headers) == (429, False)
    assert (limited.status, "Via" in limited.headers) == (429, True)
    assert faults.pending() == ["POST message"]
    with pytest.raises(aiohttp.ClientError):
        await try_to_post()
    assert faults.pending() == []
    assert app.discord.world.messages_in(garden) == []
    assert (await try_to_post()).status == 200


@pytest.mark.parametrize("status", [502, None])
async def test_answer_that_is_lost(app: App, garden: Place, status: int | None) -> None:
    app.discord.faults.loses("POST message", status)
    if status is None:
        with pytest.raises(aiohttp.ClientError):
            await app.call("POST message", message(), channel=garden.id)
    else:
        answer = await app.call("POST message", message(), channel=garden.id)
        assert answer.status == status
    assert len(app.discord.world.messages_in(garden)) == 1


async def test_fault_of_one_interaction(app: App) -> None:
    first, second = [await app.discord.slash("say") for _ in range(2)]
    app.discord.faults.fails("POST callback", token=second.token)
    assert (await app.respond(first, 5)).status == 200
    assert (await app.respond(second, 5)).status == 502


@pytest.mark.parametrize("when", When)
async def test_held_request(app: App, garden: Place, when: When) -> None:
    held = app.discord.faults.holds("POST message", when)
    posting = app.in_background("POST message", message(), channel=garden.id)
    await app.discord.struck(held)
    assert len(app.discord.world.messages_in(garden)) == (when is When.AFTER)
    assert not posting.done()
    held.release()
    assert (await posting).status == 200
    assert len(app.discord.world.messages_in(garden)) == 1


async def test_held_request_of_a_client_that_has_left(app: App, garden: Place) -> None:
    held = app.discord.faults.holds("POST message", When.BEFORE)
    posting = app.in_background("POST message", message(), channel=garden.id)
    await app.discord.struck(held)
    posting.cancel()
    await app.call("GET me")  # by now the server knows
    held.release()
    (request,) = app.discord.sent("POST message")
    await app.discord.until(lambda: request.status is not None, "the end of the request")
    assert request.status == 0
    assert app.discord.world.messages_in(garden) == []


def test_limits_have_a_clock_of_their_own() -> None:
    limits = Limits(itertools.count(step=100).__next__)
    for _ in range(20):
        assert limits.take("webhook", "token", counts_globally=True)
