"""`/bard-about`: the card of the model, and the statistics."""

import importlib.metadata
import statistics
from dataclasses import replace

import pytest
from simcord.results import InteractionResult

from bot.storage.records import Place, Take, TurnRequest
from noskgpt.checkpoint import TrainingRecord
from noskgpt.corpus import load_corpus
from tests.bot.conftest import Stage


def fields_of(result: InteractionResult) -> dict[str | None, str | None]:
    assert result.ephemeral
    assert result.response is not None
    (embed,) = result.response.embeds
    return {field.name: field.value for field in embed.fields}


async def test_card_of_weights_without_a_training_record(stage: Stage) -> None:
    card = fields_of(await stage.ann.slash(stage.garden, "bard-about"))
    parameters = sum(p.numel() for p in stage.bard.inference.model.model.parameters())
    name = stage.bard.inference.model.name
    assert card["Model"] == f"{parameters:,} parameters, weights {name}"
    assert card["Corpus"] == card["Held-out loss"] == card["Training"] == "not known"
    assert card["So far"] == "0 scenes, 0 characters"
    assert card["Median time per reply"] == "no reply yet"
    assert card["Version"] == importlib.metadata.version("noskgpt-bard")
    assert card["Running since"] == f"<t:{int(stage.bard.opened_at.timestamp())}:R>"


async def test_card_of_a_training_run(stage: Stage) -> None:
    model = stage.bard.inference.model
    training = TrainingRecord(
        steps=6000,
        held_out_loss=1.43094,
        corpus_sha256=load_corpus().sha256,
        command="noskgpt train --out /home/ann/runs/my_*weights*.pth --seed 1",
        seconds=6247.4,
        finished_at="2026-11-24T10:51:46+00:00",
    )
    model.checkpoint = replace(model.checkpoint, training=training)
    card = fields_of(await stage.ann.user.slash("bard-about"))
    assert card["Corpus"] == f"the bundled plays, SHA-256 {load_corpus().sha256[:16]}"
    assert card["Held-out loss"] == "1.431 nats per character"
    assert card["Training"] == (
        "6,000 steps\n1:44:07 h\nfinished on <t:1795517506:D>\n"
        "noskgpt train --out my\\_\\*weights\\*.pth --seed 1"
    )
    training = replace(training, corpus_sha256="0" * 64, command="noskgpt --out '/home/ann/an old")
    model.checkpoint = replace(model.checkpoint, training=training)
    card = fields_of(await stage.ann.slash(stage.garden, "bard-about"))
    assert card["Corpus"] == "another text than the bundled plays, SHA-256 " + "0" * 16
    assert "\nnoskgpt --out an old" in (card["Training"] or "")


async def test_totals_count_shown_turns_and_keep_deleted_ones(stage: Stage) -> None:
    for fresh in (False, False, True):
        await stage.ann.slash(stage.garden, "bard", prompt="A", max_chars=20, fresh=fresh)
    last = await stage.ben.slash(stage.tavern, "bard", prompt="B", max_chars=1500)
    stage.env.inject_error("PATCH", "/webhooks/*/@original", status=403, code=50013)
    await stage.ben.slash(stage.tavern, "bard", prompt="C", max_chars=20, fresh=True)
    assert not stage.env.errors
    turns = [
        *await stage.turns(stage.garden.id, 1),
        *await stage.turns(stage.garden.id, 2),
        *await stage.turns(stage.tavern.id, 1),
    ]
    assert last.response is not None
    await stage.ann.delete(last.response)
    await stage.restart()

    card = fields_of(await stage.ann.slash(stage.garden, "bard-about"))
    characters = sum(len(turn.reply) for turn in turns)
    assert 1250 < characters <= 1560
    assert card["So far"] == f"3 scenes, {characters:,} characters"
    median = statistics.median(turn.take.seconds for turn in turns)
    assert card["Median time per reply"] == f"{median:.2f} s over the last {len(turns)}"


async def test_median_covers_the_newest_turns(stage: Stage) -> None:
    place = Place(guild_id=1, channel_id=1)
    request = TurnRequest(place=place, user_id=1, prompt="A")
    for seconds in [9.0] * 100 + [2.0] * 51:
        turn = await stage.bard.turns.add(
            request,
            Take(reply="x", seed=1, weights="w", seconds=seconds),
            scene=1,
            max_chars=1,
            temperature=1.0,
            message_id=None,
        )
        await stage.bard.turns.show(turn, turn.id)
    card = fields_of(await stage.ann.slash(stage.garden, "bard-about"))
    assert card["Median time per reply"] == "2.00 s over the last 100"


@pytest.mark.settings(weights=None)
async def test_card_of_the_bundled_weights(stage: Stage) -> None:
    card = fields_of(await stage.ann.slash(stage.garden, "bard-about"))
    assert card["Corpus"] is not None
    assert card["Corpus"].startswith("the bundled plays, SHA-256 ")
    assert card["Held-out loss"] != "not known"
