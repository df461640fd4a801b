"""The double's interactions: their lifetimes, responses, follow-ups, forms and audiences."""

import itertools
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.wire.app import NOBODY, Answer, App, button, message
from tests.wire.limits import Limits
from tests.wire.people import Exchange
from tests.wire.server import Discord
from tests.wire.state import Message, Place


@pytest.fixture
async def app() -> AsyncIterator[App]:
    """A client with a session, commands and no limit of rate."""
    limits = Limits(itertools.count(step=100).__next__)
    async with Discord(limits=limits).running() as discord, aiohttp.ClientSession() as session:
        app = App(discord, session)
        await app.start()
        yield app


@pytest.fixture
async def asked(app: App) -> Exchange:
    """A command of the owner in a channel of a server."""
    return await app.discord.slash("say", at=await channel(app), text="Hey.")


async def channel(app: App) -> Place:
    return await app.discord.channel(await app.discord.guild("The Globe"), "garden")


async def answers(app: App, token: str) -> list[Answer]:
    """Try everything that a token allows."""
    return [
        await app.call("GET @original", token=token),
        await app.call("PATCH @original", message(), token=token),
        await app.call("POST followup", message(), token=token),
        await app.call("DELETE @original", token=token),
    ]


async def test_first_response(app: App, asked: Exchange) -> None:
    answer = await app.respond(asked, 4, message(components=[button("go")]))
    assert answer.status == 200
    shown = await asked.reply()
    assert answer.body == {
        "interaction": {
            "id": asked.interaction.id,
            "type": 2,
            "response_message_id": shown.id,
            "response_message_loading": False,
            "response_message_ephemeral": False,
        },
        "resource": {"type": 4, "message": shown.json(app.discord.base)},
    }
    assert shown.content == "Well."
    assert shown.labels == ["Go"]


async def test_first_response_without_an_answer(app: App, asked: Exchange) -> None:
    interaction = asked.interaction
    body = {"type": 5}
    answer = await app.call("POST callback", body, id=interaction.id, token=asked.token)
    assert answer == Answer(204, "", answer.headers)


async def test_deferred_response(app: App, asked: Exchange) -> None:
    answer = await app.respond(asked, 5, {"flags": 64})
    assert answer.body["interaction"]["response_message_loading"]
    assert answer.body["interaction"]["response_message_ephemeral"]
    assert "resource" not in answer.body


async def test_response_after_three_seconds(app: App, asked: Exchange) -> None:
    app.discord.clock.advance(3.1)
    answer = await app.respond(asked, 5)
    assert (answer.status, answer.code) == (404, 10062)
    assert asked.interaction.failed == [10062]


async def test_response_at_three_seconds(app: App, asked: Exchange) -> None:
    app.discord.clock.advance(2.9)
    assert (await app.respond(asked, 5)).status == 200


async def test_second_first_response(app: App, asked: Exchange) -> None:
    await app.respond(asked, 5)
    app.discord.clock.advance(60)
    answer = await app.respond(asked, 4, message())
    assert (answer.status, answer.code) == (400, 40060)


async def test_unknown_interaction(app: App, asked: Exchange) -> None:
    body = {"type": 5}
    answer = await app.call("POST callback", body, id="1", token=asked.token)
    assert (answer.status, answer.code) == (404, 10062)
    answer = await app.call("POST callback", body, id=asked.interaction.id, token="other")
    assert (answer.status, answer.code) == (404, 10062)


async def test_token_before_the_first_response(app: App, asked: Exchange) -> None:
    found = await answers(app, asked.token)
    assert {(answer.status, answer.code) for answer in found} == {(404, 10015)}


async def test_token_after_fifteen_minutes(app: App, asked: Exchange) -> None:
    await app.respond(asked, 4, message())
    shown = await asked.reply()
    app.discord.clock.advance(15 * 60 + 1)
    found = await answers(app, asked.token)
    assert {(answer.status, answer.code) for answer in found} == {(401, 50027)}
    place = shown.place.id
    answer = await app.call("PATCH message", message("Late."), channel=place, message=shown.id)
    assert answer.status == 200
    assert shown.content == "Late."


async def test_unknown_token(app: App) -> None:
    assert {answer.code for answer in await answers(app, "other")} == {50027}


async def test_original_response(app: App, asked: Exchange) -> None:
    await app.respond(asked, 5)
    answer = await app.call("PATCH @original", message("Here."), token=asked.token)
    shown = await asked.reply()
    assert answer.body["id"] == shown.id
    assert (await app.call("GET @original", token=asked.token)).body["content"] == "Here."
    assert (await app.call("DELETE @original", token=asked.token)).status == 204
    for route in ("GET @original", "DELETE @original"):
        assert (await app.call(route, token=asked.token)).code == 10008
    assert (await app.call("PATCH @original", message(), token=asked.token)).code == 10008


@pytest.mark.parametrize("private", [False, True])
async def test_first_follow_up_replaces_the_placeholder(
    app: App, asked: Exchange, *, private: bool
) -> None:
    await app.respond(asked, 5, {"flags": 64} if private else None)
    other = {"flags": 0 if private else 64}
    answer = await app.call("POST followup", message("First.", **other), token=asked.token)
    shown = await asked.reply()
    assert answer.body["id"] == shown.id
    assert shown.private == private  # as it was deferred, whatever the follow-up says
    await app.call("POST followup", message("Second.", **other), token=asked.token)
    second = await asked.says("Second.")
    assert second.private != private


async def test_deletion_of_the_placeholder(app: App, asked: Exchange) -> None:
    await app.respond(asked, 5)
    place, ben = asked.interaction.place, app.discord.person("Ben")
    assert [shown.loading for shown in app.discord.seen(place, ben)] == [True]
    await app.call("DELETE @original", token=asked.token)
    await app.call("POST followup", message("Private.", flags=64), token=asked.token)
    await asked.private("Private.")
    assert app.discord.seen(place, ben) == []


async def test_follow_up_routes(app: App, asked: Exchange) -> None:
    await app.respond(asked, 4, message())
    created = await app.call("POST followup", message("One."), token=asked.token)
    place = {"token": asked.token, "message": created.body["id"]}
    assert (await app.call("GET followup", **place)).body["content"] == "One."
    assert (await app.call("PATCH followup", message("Two."), **place)).body["content"] == "Two."
    assert (await app.call("DELETE followup", **place)).status == 204
    assert (await app.call("GET followup", **place)).code == 10008


@pytest.mark.parametrize("external", [False, True])
async def test_number_of_follow_ups(app: App, *, external: bool) -> None:
    ben = app.discord.person("Ben", installed=True)
    guild = await app.discord.guild("Elsewhere", installed=not external)
    place = await app.discord.channel(guild, "attic")
    asked = await app.discord.slash("say", by=ben, at=place)
    await app.respond(asked, 4, message())
    codes = [(await app.call("POST followup", message(), token=asked.token)).code for _ in range(6)]
    assert codes == [None] * 5 + ([40094] if external else [None])


async def test_app_that_may_answer_only_in_private(app: App) -> None:
    ann, ben = (app.discord.person(name, installed=True) for name in ("Ann", "Ben"))
    guild = await app.discord.guild("Elsewhere", installed=False, public=False)
    place = await app.discord.channel(guild, "attic")
    asked = await app.discord.slash("say", by=ann, at=place)
    answer = await app.respond(asked, 4, message())
    assert answer.body["interaction"]["response_message_ephemeral"]
    assert answer.body["resource"]["message"]["flags"] == 64
    followed = await app.call("POST followup", message("More."), token=asked.token)
    assert followed.body["flags"] == 64
    assert app.discord.seen(place, ben) == []
    assert len(app.discord.seen(place, ann)) == 2


async def test_private_message_has_no_place_in_the_channel(app: App, asked: Exchange) -> None:
    await app.respond(asked, 4, message(flags=64))
    shown = await asked.private()
    place = {"channel": shown.place.id, "message": shown.id}
    assert (await app.call("GET message", **place)).code == 10008
    assert (await app.call("PATCH message", message(), **place)).code == 10008
    assert (await app.call("DELETE message", **place)).code == 10008
    assert (await app.call("GET messages", channel=shown.place.id)).body == []


async def reply_with_button(app: App, asked: Exchange) -> Message:
    await app.respond(asked, 4, message("Before.", components=[button("go"), button("no")]))
    return await asked.reply()


async def test_button(app: App, asked: Exchange) -> None:
    shown = await reply_with_button(app, asked)
    await app.call("PATCH @original", message("Now."), token=asked.token)
    ben = app.discord.person("Ben")
    pressed = await app.discord.press(shown, "Go", by=ben)
    data = await app.socket.event("INTERACTION_CREATE")  # of the command
    data = await app.socket.event("INTERACTION_CREATE")
    assert data["data"]["custom_id"] == "go"
    assert data["message"]["content"] == "Now."
    assert data["member"]["user"]["id"] == ben.id
    assert (await app.respond(pressed, 6)).status == 200
    assert pressed.messages() == []
    edited = await app.call("PATCH @original", message("After."), token=pressed.token)
    assert edited.body["id"] == shown.id
    assert await pressed.reply() is shown
    # The placeholder of another kind of response is not there, so this one is its own message.
    await app.call("POST followup", message("Psst.", flags=64), token=pressed.token)
    assert (await pressed.private("Psst.")) is not shown


async def test_update_by_a_button(app: App, asked: Exchange) -> None:
    shown = await reply_with_button(app, asked)
    pressed = await app.discord.press(shown, "no", by=app.discord.owner)
    answer = await app.respond(pressed, 7, message("After.", components=[]))
    assert answer.body["resource"]["type"] == 7
    assert shown.labels == []
    with pytest.raises(AssertionError, match="no 'Go' below"):
        await app.discord.press(shown, "Go", by=app.discord.owner)


async def test_form(app: App, asked: Exchange) -> None:
    shown = await reply_with_button(app, asked)
    opened = await app.discord.press(shown, "Go", by=app.discord.owner)
    field = {"type": 4, "custom_id": "f", "style": 1, "max_length": 3, "required": False}
    other = {**field, "custom_id": "g", "value": "old"}
    form = {
        "custom_id": "form",
        "title": "Form",
        "components": [
            {"type": 18, "label": "New", "component": field},
            {"type": 1, "components": [{**other, "label": "Old"}]},
        ],
    }
    assert (await app.respond(opened, 9, form)).status == 200
    with pytest.raises(AssertionError, match="not that long"):
        await app.discord.submit(opened, {"New": "four"})
    sent = await app.discord.submit(opened, {"New": "yes"})
    while (data := await app.socket.event("INTERACTION_CREATE"))["type"] != 5:
        pass
    label, row = data["data"]["components"]
    assert label["component"]["value"] == "yes"
    assert row["components"][0]["value"] == "old"
    assert data["message"]["id"] == shown.id
    assert (await app.respond(sent, 7, message("Stored."))).status == 200
    assert (await sent.reply()).content == "Stored."


async def test_suggestions(app: App) -> None:
    typed = await app.discord.typed("say", "text", "he")
    choices = [{"name": "Hey", "value": "Hey"}]
    refused = await app.respond(typed, 4, message())
    assert refused.code == 50035
    assert (await app.respond(typed, 8, {"choices": choices})).status == 200
    assert await typed.suggestions() == choices
    assert {answer.code for answer in await answers(app, typed.token)} == {10015}
    assert len(app.discord.violations) == 1


async def test_menu(app: App) -> None:
    place = await channel(app)
    said = app.discord.post(app.discord.owner, place, "Hey.")
    await app.discord.menu("Quote", said, by=app.discord.owner)
    data = (await app.socket.event("INTERACTION_CREATE"))["data"]
    assert data["resolved"]["messages"][data["target_id"]]["content"] == "Hey."


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"text": 5}, "cannot be"),
        ({"times": -1}, "cannot be"),
        ({"times": True}, "cannot be"),
        ({"word": "x"}, "has no 'word'"),
        ({"text": "x" * 6001}, "text"),
    ],
)
async def test_client_sends_nothing_that_a_command_does_not_take(
    app: App, options: dict[str, str | int], problem: str
) -> None:
    with pytest.raises(AssertionError, match=problem):
        await app.discord.slash("say", by=None, at=None, **options)


async def test_where_a_command_is_open(app: App) -> None:
    ann, ben = app.discord.person("Ann"), app.discord.person("Ben", installed=True)
    with pytest.raises(AssertionError, match="no such command there"):
        await app.discord.slash("say", by=ann, at=app.discord.between(ann, ben))
    await app.discord.slash("say", by=ben, at=app.discord.between(ann, ben))
    data = await app.socket.event("INTERACTION_CREATE")
    assert data["context"] == 2
    assert data["authorizing_integration_owners"] == {"1": ben.id}
    assert "guild_id" not in data


async def test_same_interaction_twice(app: App, asked: Exchange) -> None:
    await asked.repeat()
    first = await app.socket.event("INTERACTION_CREATE")
    assert await app.socket.event("INTERACTION_CREATE") == first


async def test_attachments(app: App, asked: Exchange) -> None:
    asked.interaction.place.size_limit = 10
    await app.respond(asked, 5)
    files = {"a.txt": b"one", "b.txt": b"two"}
    body = message(None, attachments=[{"id": "0", "description": "First."}, {"id": "1"}])
    await app.upload("PATCH @original", body, files, token=asked.token)
    shown = await asked.reply()
    assert [(file.name, file.data) for file in shown.attachments] == list(files.items())
    assert shown.attachments[0].description == "First."

    kept = message("Kept.", attachments=[{"id": shown.attachments[1].id}])
    await app.call("PATCH @original", kept, token=asked.token)
    assert [file.name for file in shown.attachments] == ["b.txt"]
    lost = message(attachments=[{"id": "7"}])
    assert (await app.call("PATCH @original", lost, token=asked.token)).code == 50035
    large = await app.upload("POST followup", message(), {"c": b"x" * 11}, token=asked.token)
    assert (large.status, large.code) == (413, 40005)
    assert (
        await app.call(
            "PATCH @original", {**NOBODY, "content": "", "attachments": []}, token=asked.token
        )
    ).code == 50006
    assert len(app.discord.violations) == 1
