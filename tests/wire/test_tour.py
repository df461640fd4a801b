"""A tour through every command and button: nothing that the bot sends breaks a rule.

The fixture `scene` checks that at the end of each test.
"""

from collections.abc import Awaitable, Callable

import pytest

from tests.wire.changes import LONG_PATIENCE_SECONDS
from tests.wire.conftest import Scene, speech
from tests.wire.limits import TOO_MANY_OLD_EDITS
from tests.wire.state import (
    MANAGER,
    MEMBER,
    OLD_MESSAGE_SECONDS,
    Kind,
    Message,
    Permission,
    Place,
)
from tests.wire.town import speeches

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_commands_are_registered_in_one_request(scene: Scene) -> None:
    names = {(command["name"], command["type"]) for command in scene.discord.world.commands[None]}
    assert names == {
        ("bard", 1),
        ("bard-about", 1),
        ("bard-admin", 1),
        ("bard-settings", 1),
        ("scene", 1),
        ("schedule", 1),
        ("train", 1),
        ("Continue as Shakespeare", 3),
    }
    assert len(scene.discord.sent("PUT commands")) == 1


async def test_reply_and_its_buttons(scene: Scene) -> None:
    asked = await scene.ask("ROMEO:")
    assert await asked.acknowledged() == 5
    reply = await speech(asked)
    assert reply.labels == ["Continue", "Reroll", "Edit prompt", "Delete"]
    first = speeches(reply)

    continued = await speech(await scene.press(reply, "Continue", by=scene.ann))
    assert continued is not reply
    rerolled = await scene.press(reply, "Reroll")
    assert await rerolled.acknowledged() == 6
    assert await speech(rerolled) is reply
    assert reply.labels == [
        *("Continue", "Reroll", "Edit prompt", "Delete"),
        *("◀ Earlier take", "Later take ▶"),
    ]
    assert await speech(await scene.press(reply, "◀ Earlier take")) is reply
    assert speeches(reply) == first
    assert await speech(await scene.press(reply, "Later take ▶")) is reply

    await scene.press(reply, "Delete")
    await scene.discord.until(lambda: reply.deleted, "the message is deleted")
    assert scene.seen() == [continued]
    assert await scene.read() == speeches(continued)


async def test_words_are_changed_in_a_form_also_after_a_restart(scene: Scene) -> None:
    reply = await speech(await scene.ask("ROMEO:"))
    await (await scene.press(reply, "Edit prompt", by=scene.ann)).private("Only whoever asked")
    opened = await scene.press(reply, "Edit prompt")
    assert await opened.acknowledged() == 9
    await scene.bot.stop()
    await scene.bot.start()
    sent = await scene.discord.submit(opened, {"Prompt": "JULIET:"})
    assert await sent.acknowledged() == 6
    assert await speech(sent) is reply
    assert [embed.get("title") for embed in reply.embeds] == ["JULIET:"]
    assert "Take 2 of 2" in reply.text
    await speech(await scene.press(reply, "◀ Earlier take"))
    assert [embed.get("title") for embed in reply.embeds] == ["ROMEO:"]


async def test_private_reply_and_its_buttons(scene: Scene) -> None:
    public = await speech(await scene.ask("HAMLET:"))
    asked = await scene.discord.slash(
        "bard", by=scene.ben, at=scene.garden, prompt="ROMEO:", max_chars=60, private=True
    )
    reply = await speech(asked)
    opened = await scene.press(reply, "Edit prompt")
    assert await speech(await scene.discord.submit(opened, {"Prompt": "JULIET:"})) is reply
    continued = await speech(await scene.press(reply, "Continue"))
    assert reply.only_for is continued.only_for is scene.ben
    assert scene.seen() == [public]
    assert await scene.read() == speeches(reply) + speeches(continued)
    assert await scene.read(by=scene.ann) == speeches(public)
    for message in (reply, continued):
        await scene.press(message, "Delete")
    await scene.discord.until(lambda: reply.deleted and continued.deleted, "deletions")
    assert await scene.read() == speeches(public)


async def test_scene_goes_on_in_a_thread(scene: Scene) -> None:
    discord = scene.discord
    reply = await speech(await scene.ask("ROMEO:"))
    opened = await discord.slash("scene thread", by=scene.ben, at=scene.garden, name="Balcony")
    await opened.private("Follow me")
    thread = next(p for p in discord.world.places.values() if p.parent is scene.garden)
    assert thread.name == "Balcony"
    (opening,) = scene.seen(thread)
    assert f"/{scene.garden.id}/{reply.id}" in opening.content
    continued = await speech(await discord.slash("scene continue", by=scene.ann, at=thread))
    assert await scene.read(thread) == speeches(reply) + speeches(continued)
    assert await scene.read() == speeches(reply)

    await discord.delete_message(reply)
    await scene.ask("JULIET:", at=thread)
    assert speeches(reply)[0] not in await scene.read(thread)

    await (await discord.slash("scene thread", at=thread)).private("I cannot open a thread here")
    direct = discord.direct(scene.ben)
    await (await discord.slash("scene thread", by=scene.ben, at=direct)).private("I cannot open")
    voice = await discord.channel(scene.guild, "gallery", Kind.VOICE)
    await (await discord.slash("scene thread", at=voice)).private("I cannot open a thread here")
    missing = Permission.CREATE_PUBLIC_THREADS
    barred = await discord.channel(scene.guild, "yard", allowed=MEMBER & ~missing)
    refused = await discord.slash("scene thread", by=scene.ben, at=barred)
    await refused.private("I lack these permissions: Create Public Threads")
    scene.garden.permissions[scene.ben.id] = MEMBER & ~missing
    refused = await discord.slash("scene thread", by=scene.ben, at=scene.garden)
    await refused.private("you lack these permissions: Create Public Threads")


async def test_foreign_buttons_are_refused_in_private(scene: Scene) -> None:
    reply = await speech(await scene.ask("ROMEO:", by=scene.ann))
    for label in ("Reroll", "Delete"):
        await (await scene.press(reply, label)).private("for whoever asked")
    assert scene.seen() == [reply]


async def test_suggestions_and_menu(scene: Scene) -> None:
    typed = await scene.discord.typed("bard", "prompt", "ro", by=scene.ben, at=scene.garden)
    assert "ROMEO:" in [choice["value"] for choice in await typed.suggestions()]
    said = scene.discord.post(scene.ann, scene.garden, "But soft, what light?")
    asked = await scene.discord.menu("Continue as Shakespeare", said, by=scene.ben)
    reply = await speech(asked)
    assert "But soft" in reply.text
    again = await scene.discord.menu("Continue as Shakespeare", reply, by=scene.ben)
    await speech(again)
    silent = scene.discord.post(scene.ann, scene.garden, "")
    asked = await scene.discord.menu("Continue as Shakespeare", silent, by=scene.ben)
    await asked.private("no words in that message")


async def test_scene_from_its_beginning_to_its_end(scene: Scene) -> None:
    discord = scene.discord
    replies = [await speech(await scene.ask(prompt)) for prompt in ("ROMEO:", "JULIET:")]
    asked = await discord.slash("scene continue", by=scene.ann, at=scene.garden)
    replies.append(await speech(asked))
    assert await scene.read() == [text for reply in replies for text in speeches(reply)]

    for what, name in (
        ("the scene, as a script", "scene.txt"),
        ("all about me, as JSON", "about-me.json"),
    ):
        exported = await discord.slash("scene export", by=scene.ben, at=scene.garden, what=what)
        message = await exported.private()
        assert [file.name for file in message.attachments] == [name]

    asked = await discord.slash("scene fresh", by=scene.ben, at=scene.garden)
    assert not (await asked.says("The curtain falls")).private
    assert await scene.read() == []


async def test_pages_of_a_long_scene(scene: Scene) -> None:
    for number in range(6):
        await speech(await scene.ask(f"SPEAKER {number}:"))
    shown = await scene.discord.slash("scene show", by=scene.ben, at=scene.garden)
    page = await shown.private("SPEAKER 5")
    assert "SPEAKER 0" not in page.text
    earlier = await scene.press(page, "◀ Previous page")
    assert "SPEAKER 0" in (await earlier.reply()).text


async def test_forgetting(scene: Scene) -> None:
    discord = scene.discord
    await speech(await scene.ask("ROMEO:"))
    refused = await discord.slash(
        "scene forget", by=scene.ben, at=scene.garden, what="all of this channel"
    )
    await refused.private("for its moderators")
    for who, what, label in (
        (scene.ben, "my words, everywhere", "Keep everything"),
        (scene.ben, "my words, everywhere", "Forget my words"),
        (scene.ann, "all of this channel", "Forget this channel"),
    ):
        asked = await discord.slash("scene forget", by=who, at=scene.garden, what=what)
        question = await asked.private()
        answered = await (await scene.press(question, label, by=who)).reply()
        assert answered.labels == []
    assert await scene.read() == []


async def test_about(scene: Scene) -> None:
    asked = await scene.discord.slash("bard-about", by=scene.ben, at=scene.garden)
    assert "parameters" in (await asked.private()).text


async def test_settings(scene: Scene) -> None:
    discord = scene.discord
    refused = await discord.slash("bard-settings", by=scene.ben, at=scene.garden)
    await refused.private("Manage Server")
    scene.guild.permissions[scene.ann.id] = MANAGER
    shown = await discord.slash("bard-settings", by=scene.ann, at=scene.garden)
    form = await shown.private()
    assert not violations_of(scene)
    tavern = await discord.channel(scene.guild, "tavern")
    select = "bard:settings:channels"
    chosen = await discord.choose(form, select, [scene.garden, tavern], by=scene.ann)
    assert f"<#{tavern.id}>" in (await chosen.reply()).text
    chosen = await discord.choose(form, "bard:settings:buttons", ["asker"], by=scene.ann)
    assert "*Continue* is for the person" in (await chosen.reply()).text
    opened = await discord.press(form, "Length, cooldown, temperature", by=scene.ann)
    sent = await discord.submit(opened, {"Longest reply": "50"})
    assert "Longest reply: 50" in (await sent.reply()).text
    roles = await (await discord.press(form, "Roles", by=scene.ann)).reply()
    denied = await discord.choose(roles, "bard:settings:denied", [scene.guild], by=scene.ann)
    assert f"may not ask: <@&{scene.guild.id}>" in (await denied.reply()).text
    await (await scene.ask("ROMEO:")).private("one of your roles")
    lifted = await discord.choose(roles, "bard:settings:denied", [], by=scene.ann)
    assert "may not ask: none" in (await lifted.reply()).text
    assert (
        "Longest reply" in (await (await discord.press(roles, "Back", by=scene.ann)).reply()).text
    )
    attic = await discord.channel(scene.guild, "attic")
    await (await scene.ask("ROMEO:", at=attic)).private("no stage of mine")


async def test_administration(scene: Scene) -> None:
    discord, owner = scene.discord, scene.discord.owner
    for name in ("block", "unblock"):
        refused = await discord.slash(f"bard-admin {name}", by=scene.ben, user=owner)
        await refused.private("only for the owner")
        await (await discord.slash(f"bard-admin {name}", user=scene.ben)).private("locked: Ben")
    rose = await discord.guild("The Rose")
    shown = await (await discord.slash("bard-admin servers")).private("Servers of the bot")
    while "The Rose" not in shown.text:
        shown = await (await discord.press(shown, "Later", by=owner)).reply()
    chosen = await discord.choose(shown, "bard:servers:choose", [rose.id], by=owner)
    question = await chosen.reply()
    left = await (await discord.press(question, "Leave", by=owner)).reply()
    assert "has left The Rose" in left.text
    assert not rose.installed


async def test_training(scene: Scene) -> None:
    discord, owner = scene.discord, scene.discord.owner
    old = scene.garden
    for name in ("status", "history", "rollback", "cancel"):
        await (await discord.slash(f"train {name}", at=old)).private()
    await (await discord.slash("train promote", at=old, run=1_000)).private("no training run")
    refused = await discord.slash("train status", by=scene.ben, at=old)
    await refused.private("only for the owner")

    started = await discord.slash("train start", at=old, minutes=1.0, preset="quick")
    shown = await started.reply(lambda message: "finished" in message.text, LONG_PATIENCE_SECONDS)
    assert [file.name for file in shown.attachments] == ["losses.png"]
    promoted = await discord.press(shown, "Promote", by=owner)
    assert "Promoted" in (await promoted.reply()).text
    await (await discord.slash("train history", at=old)).private("**active**")
    await (await discord.slash("train rollback", at=old)).private("Rolled back")


async def test_end_of_a_run_whose_old_message_takes_no_more_edits(scene: Scene) -> None:
    discord = scene.discord
    started = await discord.slash("train start", at=scene.garden, minutes=1.0, preset="quick")
    message = await started.reply()
    discord.clock.advance(OLD_MESSAGE_SECONDS + 1)
    discord.exhaust_old_edits(scene.garden)

    def ended() -> Message | None:
        return next((m for m in scene.seen() if "finished" in m.text), None)

    end = await discord.changes.until(ended, "the end of the run", LONG_PATIENCE_SECONDS)
    assert end is not message
    assert "Promote" in end.labels
    assert TOO_MANY_OLD_EDITS in {request.code for request in discord.sent("PATCH message")}


async def thread(scene: Scene) -> Place:
    return await scene.discord.channel(scene.guild, "thread", parent=scene.garden)


async def forum_post(scene: Scene) -> Place:
    forum = await scene.discord.channel(scene.guild, "forum", Kind.FORUM)
    return await scene.discord.channel(scene.guild, "post", parent=forum)


async def voice_chat(scene: Scene) -> Place:
    return await scene.discord.channel(scene.guild, "voice", Kind.VOICE)


async def direct_message(scene: Scene) -> Place:
    return scene.discord.direct(scene.ben)


async def two_people(scene: Scene) -> Place:
    scene.ben.installed = True
    return scene.discord.between(scene.ben, scene.ann)


async def group(scene: Scene) -> Place:
    scene.ben.installed = True
    return scene.discord.between(scene.ben, scene.ann, scene.discord.owner)


async def foreign_server(scene: Scene) -> Place:
    scene.ben.installed = True
    foreign = await scene.discord.guild("Elsewhere", installed=False)
    return await scene.discord.channel(foreign, "attic")


@pytest.mark.parametrize(
    "place",
    [thread, forum_post, voice_chat, direct_message, two_people, group, foreign_server],
)
async def test_place(scene: Scene, place: Callable[[Scene], Awaitable[Place]]) -> None:
    at = await place(scene)
    reply = await speech(await scene.ask("ROMEO:", at=at))
    again = await speech(await scene.press(reply, "Continue"))
    assert scene.seen(at) == [reply, again]
    assert await scene.read(at) == speeches(reply) + speeches(again)


@pytest.mark.parametrize("place", [two_people, group])
async def test_anyone_in_a_conversation_may_forget_it(
    scene: Scene, place: Callable[[Scene], Awaitable[Place]]
) -> None:
    at = await place(scene)
    scene.ann.installed = True
    await speech(await scene.ask("ROMEO:", at=at))
    asked = await scene.discord.slash(
        "scene forget", by=scene.ann, at=at, what="all of this channel"
    )
    question = await asked.private()
    await (await scene.press(question, "Forget this channel", by=scene.ann)).says("1 speech")
    assert await scene.read(at) == []


async def test_channels_of_an_unknown_type_share_no_scene(scene: Scene) -> None:
    first = await scene.discord.channel(scene.guild, "first", Kind.UNKNOWN)
    second = await scene.discord.channel(scene.guild, "second", Kind.UNKNOWN)
    await speech(await scene.ask("ROMEO:", at=first))
    assert await scene.read(second) == []


def violations_of(scene: Scene) -> list[str]:
    """Return what was violated so far, so that the test fails and not its fixture."""
    violations = list(scene.discord.violations)
    scene.discord.violations.clear()
    return violations
