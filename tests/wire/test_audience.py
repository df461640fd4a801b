"""Only those read something for whom it is meant."""

from collections.abc import Awaitable, Callable

import pytest

from bot.cogs.bard import MENU
from tests.wire.conftest import Scene, speech
from tests.wire.state import Person, Place
from tests.wire.town import speeches

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_nothing_to_continue(scene: Scene) -> None:
    asked = await scene.discord.slash("scene continue", by=scene.ben, at=scene.garden)
    await asked.private("no scene here yet")
    assert scene.seen() == []


async def test_no_run_to_resume(scene: Scene) -> None:
    asked = await scene.discord.slash("train start", at=scene.garden, resume=True)
    await asked.private("no unfinished training run")
    assert scene.seen() == []


@pytest.mark.parametrize(
    ("status", "code"), [(403, 50013), (403, 50001), (400, 50083), (400, 200_000)]
)
async def test_discord_refuses_the_reply(scene: Scene, status: int, code: int) -> None:
    scene.discord.faults.refuses("PATCH @original", status, code)
    asked = await scene.ask("ROMEO:")
    await asked.private("Error id")
    assert scene.seen() == []
    assert await scene.read() == []


async def test_wrong_channel_and_missing_right_are_private(scene: Scene) -> None:
    reply = await speech(await scene.ask("ROMEO:", by=scene.ann))
    for refused in (
        await scene.press(reply, "Delete"),
        await scene.discord.slash("bard-settings", by=scene.ben, at=scene.garden),
        await scene.discord.slash("train status", by=scene.ben, at=scene.garden),
    ):
        await refused.private()
    assert scene.seen() == [reply]


async def attic_of_private_answers(scene: Scene) -> Place:
    """Make a channel where the bot, installed by its users alone, may answer only in private."""
    foreign = await scene.discord.guild("Elsewhere", installed=False, public=False)
    scene.ann.installed = scene.ben.installed = True
    return await scene.discord.channel(foreign, "attic")


async def test_private_answers_are_seen_by_one_person(scene: Scene) -> None:
    attic = await attic_of_private_answers(scene)
    reply = await speech(await scene.ask("ROMEO:", by=scene.ann, at=attic))
    again = await speech(await scene.press(reply, "Continue", by=scene.ann))
    assert reply.only_for is again.only_for is scene.ann
    assert scene.seen(attic, by=scene.ben) == []
    assert await scene.read(attic, by=scene.ann) == speeches(reply) + speeches(again)


@pytest.mark.parametrize("first_public", [False, True])
async def test_private_answers_reach_nobody_else(scene: Scene, *, first_public: bool) -> None:
    attic = await attic_of_private_answers(scene)
    public: list[str] = []
    if first_public:
        assert attic.guild is not None
        attic.guild.public = True
        public = speeches(await speech(await scene.ask("NURSE:", at=attic)))
        attic.guild.public = False
    private = await speech(await scene.ask("ROMEO:", by=scene.ann, at=attic))
    assert private.only_for is scene.ann
    assert await scene.read(attic, by=scene.ben) == public
    reply = await speech(await scene.ask("JULIET:", by=scene.ben, at=attic))
    # It opens a scene of his own, because the others cannot see it.
    assert await scene.read(attic, by=scene.ben) == speeches(reply)
    script = await exported(scene, attic, scene.ben)
    assert "JULIET:" in script
    assert "ROMEO:" not in script


async def own_server(scene: Scene) -> Place:
    return scene.garden


async def direct_message(scene: Scene) -> Place:
    return scene.discord.direct(scene.ben)


async def group(scene: Scene) -> Place:
    scene.ben.installed = scene.ann.installed = True
    return scene.discord.between(scene.ben, scene.ann, scene.discord.owner)


@pytest.mark.parametrize("place", [own_server, attic_of_private_answers, direct_message, group])
async def test_every_way_to_go_on_has_the_audience_of_its_place(
    scene: Scene, place: Callable[[Scene], Awaitable[Place]]
) -> None:
    at = await place(scene)
    reply = await speech(await scene.ask("ROMEO:", at=at))
    shown = [
        reply,
        await speech(await scene.press(reply, "Continue")),
        await speech(await scene.press(reply, "Reroll")),
        await speech(await scene.press(reply, "◀ Earlier take")),
        await speech(await scene.discord.menu(MENU, reply, by=scene.ben)),
    ]
    assert {message.only_for for message in shown} == {scene.ben if at.private_only else None}
    stored = [text for message in (shown[0], shown[1], shown[4]) for text in speeches(message)]
    assert await scene.read(at) == stored
    if at is not scene.discord.direct(scene.ben):
        assert await scene.read(at, by=scene.ann) == ([] if at.private_only else stored)


async def test_what_goes_on_from_a_private_reply_stays_private(scene: Scene) -> None:
    attic = await attic_of_private_answers(scene)
    assert attic.guild is not None
    private = await speech(await scene.ask("ROMEO:", at=attic))
    attic.guild.public = True
    shown = [
        await speech(await scene.press(private, "Continue")),
        await speech(await scene.press(private, "Reroll")),
        await speech(await scene.press(private, "◀ Earlier take")),
        await speech(await scene.discord.menu(MENU, private, by=scene.ben)),
    ]
    assert {message.only_for for message in shown} == {scene.ben}
    assert scene.seen(attic, by=scene.ann) == []
    assert await scene.read(attic, by=scene.ann) == []


async def test_what_goes_on_in_private_from_a_public_reply_stays_private(scene: Scene) -> None:
    attic = await attic_of_private_answers(scene)
    assert attic.guild is not None
    attic.guild.public = True
    public = await speech(await scene.ask("ROMEO:", at=attic))
    attic.guild.public = False
    private = await speech(await scene.press(public, "Continue"))
    assert private.only_for is scene.ben
    rerolled = await speech(await scene.press(public, "Reroll"))
    assert rerolled is public
    assert public.only_for is None
    assert await scene.read(attic, by=scene.ann) == speeches(public)
    assert await scene.read(attic) == speeches(private)


async def exported(scene: Scene, at: Place, by: Person) -> str:
    """Return the script of the scene that somebody exports."""
    asked = await scene.discord.slash("scene export", by=by, at=at, what="the scene, as a script")
    (file,) = (await asked.private()).attachments
    return file.data.decode()
