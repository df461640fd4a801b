"""Test the casts of a text and what a prompt says about its scene."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noskgpt import scene
from noskgpt.corpus import load_corpus
from noskgpt.scene import Casts


@pytest.fixture(scope="module")
def casts() -> Casts:
    """Return the casts of the bundled plays."""
    return scene.build(load_corpus().plays)


def play_with(casts: Casts, name: str) -> int:
    return max(range(len(casts.plays)), key=lambda play: casts.plays[play].get(name, 0))


def test_finds_the_cast_of_each_play_in_the_training_part(casts: Casts) -> None:
    assert len(casts.plays) == 33
    # 40 in data/README.md, of which 5 are people who speak together.
    assert len(casts.plays[play_with(casts, "HAMLET")]) == 40 - 5
    assert not [name for play in casts.plays for name in play if " and " in name]
    lovers = casts.plays[play_with(casts, "ROMEO")]
    assert lovers["ROMEO"] == 163
    assert {"JULIET", "Nurse", "FRIAR LAWRENCE", "First Watch"} <= lovers.keys()
    assert "PROSPERO" not in casts.names  # The Tempest is held out
    assert {"the", "and", "king"} <= casts.common
    assert "storm" not in casts.common
    assert {"nurse", "page"} & casts.nouns == {"nurse"}


def test_a_text_without_speakers_has_no_cast() -> None:
    poem = "\n\n".join(["Shall I compare thee:\nto a summer's day", "Roses:\nred"] * 50)
    assert scene.build([poem]).plays == ()
    assert scene.build([""]) == Casts()
    assert scene.build([]) == Casts()


def test_a_text_with_speaker_lines_has_one_cast() -> None:
    text = "\n\n".join(f"{name}:\nhello\nthere" for name in "ABCDEA")
    assert scene.build([text]).plays == ()  # of the five, only A has two speeches
    (cast,) = scene.build([f"{text}\n\n{text}\n"]).plays
    assert cast == {"A": 4, "B": 2, "C": 2, "D": 2, "E": 2}


@pytest.mark.parametrize(
    ("prompt", "play", "last", "addressed"),
    [
        ("JULIET:\nO Romeo, where are you?", "ROMEO", "JULIET", "ROMEO"),
        ("Juliet: o romeo, where are you?", "ROMEO", "JULIET", "ROMEO"),
        ("where are you, mercutio", "ROMEO", None, "MERCUTIO"),
        ("Come to Benvolio, Tybalt's friend, come", "ROMEO", None, "TYBALT"),
        ("ROMEO:\nI am Romeo.", "ROMEO", "ROMEO", None),
        ("ROMEO:\nAy.\n\nRomeo, speak again!", "ROMEO", "ROMEO", "ROMEO"),
        ("JULIET:\nO Macbeth!", "ROMEO", "JULIET", None),
        ("LADY MACBETH:\nO Macbeth!", "MACBETH", "LADY MACBETH", "MACBETH"),
        ("Lady Macbeth, the door!", "MACBETH", None, "LADY MACBETH"),
        ("KENT:\nLear, my king", "KENT", "KENT", "KING LEAR"),
        ("JULIET:\nNurse!", "ROMEO", "JULIET", "Nurse"),
        ("JULIET:\nI have a nurse", "ROMEO", "JULIET", None),
        ("JULIET:\nFirst, my lord and lady, the king!", "ROMEO", "JULIET", None),
        ("HAMLET:\nAy.\n\nROMEO:\nAy.\n\nJULIET:\nAy.", "ROMEO", "JULIET", None),
        ("Steve:\nHamlet, do you like pizza?", "HAMLET", "Steve", "HAMLET"),
    ],
)
def test_reads_who_speaks_and_who_is_addressed(
    casts: Casts, prompt: str, play: str, last: str | None, addressed: str | None
) -> None:
    reading = casts.read(prompt)
    assert reading.play == play_with(casts, play)
    assert (reading.last, reading.addressed) == (last, addressed)


@pytest.mark.parametrize("prompt", ["", "\n\n", "I love pizza", "Steve:\nHi.", "the nurse and I"])
def test_nobody_named_chooses_no_play(casts: Casts, prompt: str) -> None:
    assert casts.read(prompt).play is None
    assert casts.read(prompt).addressed is None


@pytest.mark.parametrize(
    ("prompt", "speakers"),
    [
        ("Steve:\n", ("Steve",)),
        ("steve:\n", ("steve",)),
        ("Steve: hello\nROMEO: hello", ("Steve", "ROMEO")),
        ("Old Steve of Rome:\nhello\n\nJuliet:", ("Old Steve of Rome", "JULIET")),
        ("I say this: hello", ()),
        ("To be, or not to be: that is it", ()),
        ("HAMLET:\nWords, words:\nAnd more", ("HAMLET",)),
    ],
)
def test_finds_the_speakers_of_a_prompt(
    casts: Casts, prompt: str, speakers: tuple[str, ...]
) -> None:
    assert casts.read(prompt).speakers == speakers


@pytest.mark.parametrize(
    ("prompt", "finished", "spoken"),
    [
        ("", True, False),
        ("Where art thou?", True, True),
        ("JULIET:\nCome! ", True, True),
        ("JULIET:\n'Come!')\n", True, True),
        ("JULIET:\nI come.", False, True),
        ("JULIET:\nI come.\n\n", True, True),
        ("JULIET:", False, False),
        ("JULIET:\n\n", False, False),
        ("What?\n\nJULIET:\n", False, False),
    ],
)
def test_a_question_an_exclamation_or_a_blank_line_finishes_a_speech(
    casts: Casts, prompt: str, *, finished: bool, spoken: bool
) -> None:
    reading = casts.read(prompt)
    assert (reading.finished, reading.spoken) == (finished, spoken)


def test_repeats_rarer_words_of_the_last_speech_that_are_no_names(casts: Casts) -> None:
    prompt = "ROMEO:\nthe parrot\n\nO Juliet, I like the pizza, the Anchovies and the PIZZA"
    assert casts.read(prompt).words == ("anchovies", "pizza")
    assert casts.read(prompt, "a storm").words == ("storm",)
    assert casts.read(prompt, "").words == ()


@given(st.text(max_size=300))
def test_reads_any_prompt(casts: Casts, prompt: str) -> None:
    reading = casts.read(prompt)
    assert reading.last is None or reading.last in reading.speakers
    assert reading.addressed is None or reading.play is not None
    assert Casts().read(prompt).addressed is None


def test_plain_values_give_the_same_casts(casts: Casts) -> None:
    assert scene.from_values(scene.to_values(casts)) == casts
    assert scene.from_values(scene.to_values(Casts())) == Casts()


@pytest.mark.parametrize(
    "change",
    [
        {"plays": {}},
        {"plays": [{}]},
        {"plays": ["ROMEO"]},
        {"plays": [{"ROMEO": 0}]},
        {"plays": [{"ROMEO": 1.5}]},
        {"plays": [{"ROMEO:\nJULIET": 1}]},
        {"plays": [{"R" * 1000: 1}]},
        {"plays": [{1: 1}]},
        {"plays": [{str(i): 1 for i in range(5000)}]},
        {"common": [1]},
        {"nouns": "nurse"},
        {"common": ["a"] * 200_000},
        {"plays": [{"ROMEO": 2**40}]},
        {"plays": [{f"A{play} B{i}": 1 for i in range(20)} for play in range(1000)]},
    ],
)
def test_rejects_damaged_values(change: dict[str, Any]) -> None:
    values = scene.to_values(Casts(({"ROMEO": 2},), frozenset({"the"})))
    with pytest.raises(ValueError, match="the casts"):
        scene.from_values(values | change)
    with pytest.raises(KeyError):
        scene.from_values({"plays": []})


def test_casts_of_many_plays_are_built_as_far_as_their_values_are_accepted() -> None:
    def play(number: int) -> str:
        return "".join(f"\n\nKING {number} OF {i} LANDS:\nAy." * 2 for i in range(1000))

    full = scene.build(map(play, range(3)))
    many = scene.build(map(play, range(40)))
    assert many.plays[:3] == full.plays
    assert 3 < len(many.plays) < 40
    assert scene.from_values(scene.to_values(many)) == many
    few = "".join(f"\n\nA {i}:\nAy." * 2 for i in range(5))
    small = scene.build([few] * 2000)
    assert 500 < len(small.plays) < 2000
    assert scene.from_values(scene.to_values(small)) == small


def test_words_without_end_are_not_common() -> None:
    assert scene.build(["thou " + "x" * 2000]).common == {"thou"}


def test_words_of_absurd_length_are_not_repeated() -> None:
    casts = scene.build([])
    assert casts.read("pizza " + "x" * 1000).words == ("pizza",)
