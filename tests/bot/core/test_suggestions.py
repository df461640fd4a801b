"""What `/bard` offers while somebody types a prompt."""

import logging
from pathlib import Path

import pytest

from bot import Settings, create_bot
from tests.bot.conftest import Stage

SPEAKERS = {"ROMEO:": "ROMEO: (300 speeches)", "First Citizen:": "First Citizen: (150 speeches)"}


async def offered(stage: Stage, typed: str) -> dict[str, str]:
    """Return the choices that Ann sees in the garden: their names by their values."""
    choices = await stage.ann.autocomplete(stage.garden, "bard", "prompt", typed)
    return {choice["value"]: choice["name"] for choice in choices}


async def test_speakers_of_the_training_text_by_frequency(stage: Stage) -> None:
    assert list((await offered(stage, "")).items()) == list(SPEAKERS.items())


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("rom", ["ROMEO:"]),
        (" ROMEO:", ["ROMEO:"]),
        ("first", ["First Citizen:"]),
        ("cit", ["First Citizen:"]),
        ("izen", []),
        ("tybalt", []),
    ],
)
async def test_speakers_by_what_is_typed(stage: Stage, typed: str, found: list[str]) -> None:
    assert list(await offered(stage, typed)) == found


async def test_prompts_of_the_channel_come_first_and_fit_discords_limit(stage: Stage) -> None:
    await stage.ann.slash(stage.tavern, "bard", prompt="In the tavern", max_chars=1)
    await stage.ann.slash(stage.garden, "bard", prompt="@everyone is\tgone", max_chars=1)
    await stage.ben.slash(stage.garden, "bard", prompt="Is it " + "long " * 40, max_chars=1)
    await stage.ben.slash(stage.garden, "bard", prompt=" ", max_chars=1)
    await stage.restart()

    cut = ("Is it " + "long " * 40)[:100]
    everything = await offered(stage, "")
    assert list(everything) == [cut, "@everyone is\tgone", *SPEAKERS]
    assert everything["@everyone is\tgone"] == "@everyone is gone"
    assert everything[cut].endswith("…")
    assert all(1 <= len(text) <= 100 for pair in everything.items() for text in pair)
    assert list(await offered(stage, "is ")) == [cut, "@everyone is\tgone"]


async def test_prompt_that_is_a_speaker_is_offered_once(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=1)
    assert list(await offered(stage, "")) == list(SPEAKERS)


async def test_forgotten_prompts_are_not_offered(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="My secret", max_chars=1)
    await stage.bard.turns.delete_user(stage.ann.id)
    assert list(await offered(stage, "")) == list(SPEAKERS)


async def test_no_more_than_discord_shows(stage: Stage) -> None:
    romeo, *_ = stage.bard.suggestions._speakers
    stage.bard.suggestions._speakers = [
        type(romeo)(f"LORD {chr(ord('A') + i)}:", 1) for i in range(26)
    ]
    everything = await offered(stage, "lord")
    assert len(everything) == 25
    assert everything["LORD A:"] == "LORD A: (1 speech)"


async def test_nothing_while_it_closes(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.bard.closing = True
    assert await offered(stage, "") == {}
    assert not caplog.records


async def test_missing_corpus_costs_only_the_speakers(
    stage: Stage, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "bot")
    bare = create_bot(settings.model_copy(update={"corpus": Path("none.txt")}))
    await stage.env.restart_bot(bare)
    await stage.bot.close()
    stage.bot = bare
    assert "none.txt" in caplog.text
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=1)
    assert await offered(stage, "") == {"ROMEO:": "ROMEO:"}
