"""Suggestions for the prompt of `/bard`."""

import logging
from pathlib import Path

import pytest
from discord import app_commands

from bot import Settings, create_bot
from tests.bot.conftest import Stage

SPEAKERS = {"ROMEO:": "ROMEO: (300 speeches)", "First Citizen:": "First Citizen: (150 speeches)"}


async def suggestions(stage: Stage, typed: str) -> dict[str, str]:
    """Return the names of the choices that Ann gets in the garden, by value."""
    choices = await stage.ann.autocomplete(stage.garden, "bard", "prompt", typed)
    return {choice["value"]: choice["name"] for choice in choices}


async def test_speakers_of_the_training_part_by_frequency(stage: Stage) -> None:
    assert list((await suggestions(stage, "")).items()) == list(SPEAKERS.items())


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
async def test_speakers_that_match_the_typed_text(
    stage: Stage, typed: str, found: list[str]
) -> None:
    assert list(await suggestions(stage, typed)) == found


async def test_recent_prompts_come_first_within_discords_limit(stage: Stage) -> None:
    await stage.ann.slash(stage.tavern, "bard", prompt="In the tavern", max_chars=1)
    await stage.ann.slash(stage.garden, "bard", prompt="@everyone is\tgone", max_chars=1)
    await stage.ben.slash(stage.garden, "bard", prompt="Is it " + "long " * 40, max_chars=1)
    await stage.ben.slash(stage.garden, "bard", prompt=" ", max_chars=1)
    await stage.restart()

    shortened = ("Is it " + "long " * 40)[:100]
    choices = await suggestions(stage, "")
    assert list(choices) == [shortened, "@everyone is\tgone", *SPEAKERS]
    assert choices["@everyone is\tgone"] == "@everyone is gone"
    assert choices[shortened].endswith("…")
    assert all(1 <= len(text) <= 100 for pair in choices.items() for text in pair)
    assert list(await suggestions(stage, "is ")) == [shortened, "@everyone is\tgone"]


async def test_prompt_equal_to_a_speaker_is_suggested_once(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=1)
    assert list(await suggestions(stage, "")) == list(SPEAKERS)


async def test_deleted_prompts_are_not_suggested(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="My secret", max_chars=1)
    await stage.forget(stage.ann.id)
    assert list(await suggestions(stage, "")) == list(SPEAKERS)


async def test_at_most_25_suggestions(stage: Stage) -> None:
    romeo, *_ = stage.bard.suggestions._speakers
    stage.bard.suggestions._speakers = [
        type(romeo)(f"LORD {chr(ord('A') + i)}:", 1) for i in range(26)
    ]
    choices = await suggestions(stage, "lord")
    assert len(choices) == 25
    assert choices["LORD A:"] == "LORD A: (1 speech)"


async def test_no_suggestions_during_shutdown(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.bard.closing = True
    assert await suggestions(stage, "") == {}
    assert not caplog.records


async def test_missing_corpus_disables_only_the_speakers(
    stage: Stage, settings: Settings, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.WARNING, "bot")
    files = {"database": tmp_path / "other.sqlite3", "runs_dir": tmp_path / "other"}
    bot = create_bot(settings.model_copy(update={"corpus": Path("none.txt"), **files}))
    await stage.env.restart_bot(bot)
    await stage.bot.close()
    stage.bot = bot
    assert "none.txt" in caplog.text
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=1)
    assert await suggestions(stage, "") == {"ROMEO:": "ROMEO:"}


@pytest.mark.parametrize("kind", ["too late", "outdated"])
async def test_suggestions_that_nobody_gets_are_no_error(
    stage: Stage, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level(logging.INFO)
    if kind == "too late":
        stage.env.inject_error("POST", "/interactions/*/callback", status=404, code=10062)
    else:  # Discord still has an option with suggestions
        command = stage.bot.tree.get_command("bard")
        assert isinstance(command, app_commands.Command)
        command._params["prompt"].autocomplete = None
    assert await suggestions(stage, "rom") == {}
    assert not caplog.records
    assert not stage.env.errors
