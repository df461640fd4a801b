"""How prompts and replies become a scene."""

import pytest

from bot import script


@pytest.mark.parametrize(
    ("line", "before"),
    [
        ("ROMEO:", ""),
        ("ROMEO:", "as I was saying"),
        ("DUKE OF YORK:", ""),
        ("First Citizen:", ""),
        ("Duke of York:", ""),
        ("Second Lord's Servant:", " "),
        ("KING HENRY V:", ""),
        ("OCTAVIUS CAESAR, MARK ANTONY and LEPIDUS:", ""),
    ],
)
def test_speakers(line: str, before: str) -> None:
    assert script.is_speaker(line, before)


@pytest.mark.parametrize(
    ("line", "before"),
    [
        ("And thus he said:", ""),
        ("First Citizen:", "as I was saying"),
        ("ROMEO", ""),
        ("ROMEO: O", ""),
        ("romeo:", ""),
        (":", ""),
        ("", ""),
        ("  ROMEO:", ""),
    ],
)
def test_other_lines(line: str, before: str) -> None:
    assert not script.is_speaker(line, before)


@pytest.mark.parametrize(
    ("prompt", "lead"),
    [
        ("ROMEO:", "ROMEO:\n"),
        ("  ROMEO: \n", "ROMEO:\n"),
        ("Shall I compare thee", "Shall I compare thee"),
        ("ROMEO:\nO, she doth", "ROMEO:\nO, she doth"),
        ("", ""),
    ],
)
def test_lead(prompt: str, lead: str) -> None:
    assert script.lead(prompt) == lead


def test_scene_of_several_turns() -> None:
    text = script.compose([("ROMEO:\n", "O, she "), (None, "doth teach.\n"), ("Speak", " again.")])
    assert text == "ROMEO:\nO, she doth teach.\n\nSpeak again."
    assert script.join(text, "JULIET:\n") == f"{text}\n\nJULIET:\n"
    assert script.join(text, None) == text
    assert script.join("", "JULIET:\n") == "JULIET:\n"
    assert script.join(text, "") == f"{text}\n\n"
