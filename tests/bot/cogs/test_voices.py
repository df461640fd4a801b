"""Voices through the actions of members: from a promotion under a name to its removal."""

import asyncio
from typing import Any

import pytest
from simcord.results import InteractionResult, ResponseMessage

from bot.cogs.settings_voices import AS_IN_SERVER
from bot.core.promotions import weights_path
from bot.errors import Reason
from bot.storage.records import Place
from bot.storage.runs import Run
from bot.ui.embeds import VOICE, VOICE_MISSING
from bot.ui.responses import REJECTIONS
from bot.ui.voices import KEPT, NO_VOICES, NOWHERE
from noskgpt.checkpoint import save
from tests.bot.conftest import Stage, content_of, labels_of, message_of, text_of
from tests.bot.core.conftest import name_of, trained, truncate

SERVER, CHANNEL = "bard:settings:voice", "bard:settings:voice:channel"


async def finished_run(stage: Stage, seed: int) -> Run:
    """Return a run that has finished with weights of their own."""
    runs = stage.bard.runs
    run = await runs.start(
        user_id=stage.ann.id, guild_id=1, channel_id=2, preset="quick", minutes=1, corpus=None
    )
    checkpoint = trained(seed, 1.5)
    path = weights_path(stage.bard.settings.runs_path, run.id)
    await asyncio.to_thread(path.parent.mkdir, parents=True)
    await asyncio.to_thread(save, checkpoint, path)
    run = await runs.end(run.id, "finished", weights=name_of(checkpoint), loss=1.5)
    await runs.set_end_shown(run)
    return run


async def promote(stage: Stage, run: int, name: str) -> InteractionResult:
    """Promote a run under a name, as Ann."""
    return await stage.ann.slash(stage.garden, "train promote", **{"run": run, "as": name})


async def ask(stage: Stage, **options: Any) -> InteractionResult:
    """Send `/bard` as Ben in the garden."""
    options = {"prompt": "ROMEO:", "max_chars": 9, **options}
    return await stage.ben.slash(stage.garden, "bard", **options)


async def suggested(stage: Stage, typed: str) -> list[str]:
    """Return the voices that Ben is suggested in the garden."""
    choices = await stage.ben.autocomplete(stage.garden, "bard", "voice", typed)
    return [choice["value"] for choice in choices]


async def voices_page(stage: Stage) -> ResponseMessage:
    """Open the page of the settings with the voices, as Ann in the garden."""
    message = message_of(await stage.ann.slash(stage.garden, "bard-settings"))
    await stage.ann.click(message, label="Voices")
    return message


def own_bot(stage: Stage) -> None:
    """Let Ann own the bot."""
    stage.bot.owner_ids = {stage.ann.id}


async def test_without_voices_nothing_is_offered(stage: Stage) -> None:
    own_bot(stage)
    assert await suggested(stage, "") == []
    settings = message_of(await stage.ann.slash(stage.garden, "bard-settings"))
    labels = [item.get("label") for row in settings.components for item in row["components"]]
    assert "Roles" in labels
    assert "Voices" not in labels
    assert content_of(await stage.ann.slash(stage.garden, "train voices")) == NO_VOICES
    assert "Voice" not in text_of(await ask(stage))
    assert "Voice" not in text_of(await ask(stage, voice="Default"))
    unknown = await ask(stage, voice="*kit*")
    assert unknown.ephemeral
    assert not unknown.deferred
    assert content_of(unknown) == REJECTIONS[Reason.UNKNOWN_VOICE].format(
        name=r"\*kit\*", known="default"
    )
    assert not stage.env.errors


async def test_scene_goes_on_in_its_voice_also_after_a_restart(stage: Stage) -> None:
    own_bot(stage)
    kit, ben = await finished_run(stage, 2), await finished_run(stage, 3)
    configured = stage.bard.inference.model.name
    assert kit.weights is not None
    promoted = await promote(stage, kit.id, " Kit  Marlowe")
    assert promoted.ephemeral
    assert f"The voice Kit Marlowe speaks with the weights {kit.weights}" in content_of(promoted)
    assert stage.bard.inference.model.name == configured
    history = content_of(await stage.ann.slash(stage.garden, "train history"))
    assert f"**Run {kit.id}**" in history
    assert "voice Kit Marlowe" in history
    await promote(stage, ben.id, "Ben")
    assert await suggested(stage, "") == ["default", "Ben", "Kit Marlowe"]
    assert await suggested(stage, "mar") == ["Kit Marlowe"]

    asked = await ask(stage, voice="kit marlowe")
    named = VOICE.format(name="Kit Marlowe")
    assert named in text_of(asked)
    continued = await stage.ben.click(message_of(asked), label="Continue")
    assert named in text_of(continued)
    await stage.ben.click(message_of(asked), label="Reroll")
    assert named in text_of(asked)
    assert "Take 2 of 2" in text_of(asked)
    await stage.restart()
    own_bot(stage)
    assert named in text_of(await stage.ben.slash(stage.garden, "scene continue"))
    turns = await stage.turns(stage.garden.id)
    assert {turn.take.weights for turn in turns} == {kit.weights}
    assert "Voice" not in text_of(await ask(stage, voice="default"))
    assert named in text_of(await stage.ben.click(message_of(asked), label="Continue"))
    assert (await stage.turns(stage.garden.id))[-1].take.weights == kit.weights
    assert not stage.env.errors


async def test_voice_is_renamed_and_removed_and_its_replies_stay(stage: Stage) -> None:
    own_bot(stage)
    kit = await finished_run(stage, 2)
    configured = stage.bard.inference.model.name
    await promote(stage, kit.id, "Kit Marlowe")
    asked = await ask(stage, voice="kit marlowe")
    await stage.ben.click(message_of(asked), label="Reroll")
    continued = await stage.ben.click(message_of(asked), label="Continue")
    renamed = await stage.ann.slash(
        stage.garden, "train voices", rename="KIT MARLOWE", to="Christopher"
    )
    assert "has the name Christopher now" in content_of(renamed)
    await stage.ben.click(message_of(asked), label="◀ Earlier take")
    assert VOICE.format(name="Christopher") in text_of(asked)
    listed = text_of(await stage.ann.slash(stage.garden, "train voices"))
    assert f"**Christopher**: run {kit.id}, 0.1 MB, held-out loss 1.500" in listed

    question = await stage.ann.slash(stage.garden, "train voices", remove="christopher")
    assert NOWHERE in content_of(question)
    await stage.ann.click(message_of(question), label="Keep")
    assert message_of(question).content == KEPT
    question = await stage.ann.slash(stage.garden, "train voices", remove="christopher")
    await stage.ann.click(message_of(question), label="Remove")
    assert "Removed: the voice Christopher" in message_of(question).content
    assert labels_of(message_of(question)) == []
    before = (await stage.turns(stage.garden.id))[-1].reply
    missing = VOICE_MISSING.format(name="Christopher")
    after = await stage.ben.slash(stage.garden, "scene continue")
    assert missing in text_of(after)
    assert "Voice:" not in text_of(after)
    again = await stage.ben.click(message_of(continued), label="Continue")
    assert missing in text_of(again)
    (*_, kept, _, last) = await stage.turns(stage.garden.id)
    assert (kept.reply, last.take.weights) == (before, configured)
    assert await suggested(stage, "") == []
    assert not stage.env.errors


async def test_server_and_channel_have_a_voice_of_new_scenes(stage: Stage) -> None:
    own_bot(stage)
    await promote(stage, (await finished_run(stage, 2)).id, "Kit")
    await promote(stage, (await finished_run(stage, 3)).id, "Ben")
    kit, ben = (str(stage.bard.voices.named(name)) for name in ("Kit", "Ben"))
    message = await voices_page(stage)
    await stage.ann.select(message, [kit], custom_id=SERVER)
    assert "In the server: Kit" in message.content
    await stage.ann.select(message, [ben], custom_id=CHANNEL)
    assert f"<#{stage.garden.id}>: Ben" in message.content
    defaults = [
        option["label"]
        for row in message.components[:2]
        for option in row["components"][0]["options"]
        if option.get("default")
    ]
    assert defaults == ["Kit", "Ben"]
    await stage.restart()
    own_bot(stage)
    assert VOICE.format(name="Ben") in text_of(await ask(stage))
    elsewhere = await stage.ben.slash(stage.tavern, "bard", prompt="ROMEO:", max_chars=9)
    assert VOICE.format(name="Kit") in text_of(elsewhere)
    assert "Voice" not in text_of(await stage.ben.user.slash("bard", prompt="ROMEO:", max_chars=9))

    question = await stage.ann.slash(stage.garden, "train voices", remove="Kit")
    assert "New scenes begin in it here: The Globe." in content_of(question)
    await stage.ann.click(message_of(question), label="Remove")
    rejected = await stage.ann.select(message, [kit], custom_id=SERVER)
    (notice,) = rejected.followups
    assert notice.content == REJECTIONS[Reason.VOICE_REMOVED_ALREADY]
    message = await voices_page(stage)
    assert "In the server: the default voice" in message.content
    await stage.ann.select(message, ["server"], custom_id=CHANNEL)
    assert f"<#{stage.garden.id}>" not in message.content
    (chosen,) = [
        option["label"]
        for option in message.components[1]["components"][0]["options"]
        if option.get("default")
    ]
    assert chosen == AS_IN_SERVER
    assert "Voice:" not in text_of(await ask(stage, fresh=True))
    assert not stage.env.errors


async def test_lists_of_voices_check_the_permission_again(stage: Stage) -> None:
    own_bot(stage)
    await promote(stage, (await finished_run(stage, 2)).id, "Kit")
    message = await voices_page(stage)
    kit = stage.bard.voices.named("Kit")
    stage.env.backend.get_member(stage.guild.id, stage.ann.id).role_ids.clear()
    for custom_id in (SERVER, CHANNEL):
        rejected = await stage.ann.select(message, [str(kit)], custom_id=custom_id)
        assert content_of(rejected) == REJECTIONS[Reason.NOT_MANAGER]
    assert stage.bard.voice_store.places_of(kit) == []


async def test_deleted_channel_and_left_server_lose_their_voices(stage: Stage) -> None:
    own_bot(stage)
    await promote(stage, (await finished_run(stage, 2)).id, "Kit")
    store, kit = stage.bard.voice_store, stage.bard.voices.named("Kit")
    await store.set_default(stage.guild.id, kit)
    for channel in (stage.garden, stage.tavern):
        await store.set_default(stage.guild.id, kit, channel.id)
    garden = stage.env.bot.get_channel(stage.garden.id)
    await garden.delete()  # type: ignore[union-attr]
    await stage.env.settle()
    assert store.channels_of(stage.guild.id) == [(stage.tavern.id, kit)]
    guild = stage.env.bot.get_guild(stage.guild.id)
    assert guild is not None
    await guild.leave()
    await stage.env.settle()
    assert store.places_of(kit) == []


async def test_damaged_voice_is_rejected_with_what_to_do(stage: Stage) -> None:
    own_bot(stage)
    run = await finished_run(stage, 2)
    await promote(stage, run.id, "Kit")
    await truncate(weights_path(stage.bard.settings.runs_path, run.id))
    rejected = await ask(stage, voice="Kit")
    assert content_of(rejected) == REJECTIONS[Reason.VOICE_DAMAGED].format(name="Kit")
    assert not stage.env.errors
    assert "Voice" not in text_of(await ask(stage))
    listed = text_of(await stage.ann.slash(stage.garden, "train voices"))
    assert "**Kit**" in listed


@pytest.mark.parametrize(
    "options",
    [{"rename": "Kit"}, {"to": "Ben"}, {"rename": "Kit", "to": "Ben", "remove": "Kit"}],
)
async def test_options_that_do_not_go_together_are_rejected(
    stage: Stage, options: dict[str, str]
) -> None:
    own_bot(stage)
    await promote(stage, (await finished_run(stage, 2)).id, "Kit")
    rejected = await stage.ann.slash(stage.garden, "train voices", **options)
    assert content_of(rejected) == REJECTIONS[Reason.VOICE_OPTIONS]
    assert [voice.name for voice in stage.bard.voice_store.listed()] == ["Kit"]


async def test_others_cannot_change_voices(stage: Stage) -> None:
    own_bot(stage)
    run = await finished_run(stage, 2)
    await promote(stage, run.id, "Kit")
    question = await stage.ann.slash(stage.garden, "train voices", remove="Kit")
    stage.bot.owner_ids = {stage.ben.id}
    for rejected in (
        await stage.ann.click(message_of(question), label="Remove"),
        await stage.ann.slash(stage.garden, "train voices", remove="Kit"),
        await promote(stage, run.id, "Ben"),
    ):
        assert rejected.ephemeral
        assert content_of(rejected) == REJECTIONS[Reason.NOT_OWNER]
    assert [voice.name for voice in stage.bard.voice_store.listed()] == ["Kit"]
    assert not stage.env.errors


async def test_export_names_the_voice_of_each_take(stage: Stage) -> None:
    own_bot(stage)
    await promote(stage, (await finished_run(stage, 2)).id, "Kit")
    asked = await ask(stage)
    await ask(stage, voice="Kit")
    assert asked.response is not None
    exported = "".join([record async for record in stage.bard.exports.read(stage.ben.id)])
    assert exported.count('"voice":"Kit"') == exported.count('"voice":null') == 1
    assert stage.bard.voice_store.default_of(Place(guild_id=stage.guild.id, channel_id=1)) == 0
