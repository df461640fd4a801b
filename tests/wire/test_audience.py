"""Only those read something for whom it is meant."""

import pytest

from tests.wire.conftest import Scene, speech, speeches
from tests.wire.state import Person, Place

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


async def exported(scene: Scene, at: Place, by: Person) -> str:
    """Return the script of the scene that somebody exports."""
    asked = await scene.discord.slash("scene export", by=by, at=at, what="the scene, as a script")
    (file,) = (await asked.private()).attachments
    return file.data.decode()
