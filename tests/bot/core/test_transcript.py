"""The text of a scene, and the trimming of completions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core import transcript
from noskgpt.tokenizer import VOCABULARY


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
def test_is_speaker(line: str, before: str) -> None:
    assert transcript.is_speaker(line, before)


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
def test_is_not_speaker(line: str, before: str) -> None:
    assert not transcript.is_speaker(line, before)


@pytest.mark.parametrize(
    ("prompt", "lead"),
    [
        ("ROMEO:", "ROMEO:\n"),
        ("  ROMEO: \n", "ROMEO:\n"),
        ("Shall I compare thee", "Shall I compare thee"),
        ("ROMEO:\nO, she doth", "ROMEO:\nO, she doth"),
        (transcript.speech("ROMEO", "O, she doth"), "ROMEO:\nO, she doth\n\n"),
        ("\n\n", ""),
        ("", ""),
    ],
)
def test_lead(prompt: str, lead: str) -> None:
    assert transcript.lead(prompt) == lead


def test_compose_and_join() -> None:
    text = transcript.compose(
        [("ROMEO:\n", "O, she "), (None, "doth teach.\n"), ("Speak", " again.")]
    )
    assert text == "ROMEO:\nO, she doth teach.\n\nSpeak again."
    assert transcript.join(text, "JULIET:\n") == f"{text}\n\nJULIET:\n"
    assert transcript.join(text, None) == text
    assert transcript.join("", "JULIET:\n") == "JULIET:\n"
    assert transcript.join(text, "") == f"{text}\n\n"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        # The end of a sentence, else the end of a line.
        ("O, she doth teach the torches. To b", "O, she doth teach the torches. "),
        ("She doth teach\nthe torches to burn bright!\nIt se", None),
        ("And so to bed, good night. Come now,\nto be", "And so to bed, good night. Come now,\n"),
        (
            "Night's candles are burnt out, and jocund day is here. So\nsay",
            "Night's candles are burnt out, and jocund day is here. ",
        ),
        ("I said, and say again, 'Good night.' Th", "I said, and say again, 'Good night.' "),
        ("Every word of it is here, to the end.", "Every word of it is here, to the end."),
        # None in the last fifth: the last whole word.
        (
            "Yes. It seems she hangs upon the cheek of ni",
            "Yes. It seems she hangs upon the cheek of ",
        ),
        ("Yes. It seems she hangs upon the cheek,", "Yes. It seems she hangs upon the cheek,"),
        ("Yes. It seems she hangs upon the well-a-d", "Yes. It seems she hangs upon the "),
        ("Yes. It seems she hangs upon the o'", "Yes. It seems she hangs upon the "),
        ("Yes. It seems she hangs upon what--an", "Yes. It seems she hangs upon what--"),
        # A speaker without a speech.
        ("It was the lark, the herald of the morn.\n\nROMEO:\n", None),
        ("It was the lark, the herald.\n\nFirst Citizen:\n\nROMEO:\n", None),
        ("It was the lark, the herald of the morn.\n\nROM", None),
        ("It was the lark, the herald of the morn.\n\nROMEO:\nIt w", None),
        # No place to cut.
        ("Honorificabilitudinitatibus", "Honorificabilitudinitatibus"),
        ("ROMEO:\n", "ROMEO:\n"),
        ("a", "a"),
        ("", ""),
        ("\n\n", "\n\n"),
    ],
)
def test_finish(text: str, kept: str | None) -> None:
    if kept is None:  # without these last lines
        kept = re.split(r"It se\Z|(?:First Citizen:\s+)?ROM.*\Z", text, flags=re.DOTALL)[0]
    assert transcript.finish(text) == kept


@given(st.text(VOCABULARY, max_size=200))
def test_finish_only_shortens(text: str) -> None:
    kept = transcript.finish(text)
    assert text.endswith(transcript.begin(text))
    assert transcript.begin(text).startswith(kept)
    assert bool(kept.strip()) == bool(text.strip())


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (", when they shall turn this fall", " when they shall turn this fall"),
        (".\n\nPETER:\nAy, sir.", "\n\nPETER:\nAy, sir."),
        (":\nWe will be a father more", "\nWe will be a father more"),
        (" ;\nand so", "\nand so"),
        # Words, and marks that belong to them or stand alone.
        ("'Tis so. ", "'Tis so. "),
        ("--and so", "--and so"),
        ("!Sirs", "!Sirs"),
        (". ", ". "),
        ("?", "?"),
        ("", ""),
    ],
)
def test_begin(text: str, kept: str) -> None:
    assert transcript.begin(text) == kept


@pytest.mark.parametrize(
    ("text", "limit", "ending"),
    [
        ("To be, or not", 20, "To be, or not"),
        ("To be, or not", 13, "To be, or not"),
        ("To be, or not", 12, "be, or not"),
        ("To be,\nor not", 9, "or not"),
        ("Honorificabilitudinitatibus", 4, "ibus"),
        ("To be ", 4, "be "),
    ],
)
def test_ending(text: str, limit: int, ending: str) -> None:
    assert transcript.ending(text, limit) == ending


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("ROMEO:\nO, she doth", "\n\n"),
        ("ROMEO: O, she doth", "\n\n"),
        ("JULIET:\nAy.\n\nRomeo:\nO.\n", "\n"),
        ("ROMEO:\nO.\n\n", ""),
        ("ROMEO:\nO.\n\nJULIET:\nAy", ""),
        ("ROMEO:\n", ""),
        ("O, she doth", ""),
        ("", ""),
    ],
)
def test_close_ends_the_speech_of_some_speakers(text: str, missing: str) -> None:
    assert transcript.close(text, {"romeo"}) == missing
