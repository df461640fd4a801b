"""`/bard` as a member of a server uses it."""

from tests.bot.conftest import Stage, text_of


async def test_answers(stage: Stage) -> None:
    result = await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=50)

    assert result.acknowledged
    assert not result.ephemeral
    assert "ann" in text_of(result)
    assert "ROMEO:" in text_of(result)
    assert "50 characters" in text_of(result)
    assert stage.bot.generation.model.name in text_of(result)
    assert stage.contexts == ["ROMEO:\n"]


async def test_second_prompt_continues_the_first(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=40, seed=1)
    turn = (await stage.bot.history.tail(stage.garden.id, 1, chars=1))[-1]
    await stage.ben.slash(stage.garden, "bard", prompt="JULIET:", max_chars=40)
    assert stage.contexts[1] == f"ROMEO:\n{turn.reply}".rstrip() + "\n\nJULIET:\n"


async def test_restart(stage: Stage) -> None:
    await stage.ann.slash(stage.garden, "bard", prompt="ROMEO:", max_chars=40, seed=1)
    await stage.restart()
    await stage.ben.slash(stage.garden, "bard", prompt="JULIET:", max_chars=40)
    assert stage.contexts[1].startswith("ROMEO:\n")
    assert stage.contexts[1].endswith("\n\nJULIET:\n")
