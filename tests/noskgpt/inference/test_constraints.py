"""Test that generated text keeps to the cast, to whole words, and to the words of the prompt.

The models are tiny and untrained, so the constraints have to do all the work.
"""

# ruff: noqa: RUF001 - one of the alphabets is Greek

import re
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import noskgpt
from noskgpt import lexicon, scene
from noskgpt.checkpoint import Checkpoint
from noskgpt.config import ModelConfig
from noskgpt.model import GPT
from noskgpt.tokenizer import VOCABULARY

LOVERS = ("ROMEO", "JULIET", "Nurse", "First Citizen", "FRIAR LAURENCE", "Citizen")
DANES = ("HAMLET", "HORATIO", "Ghost", "OPHELIA", "First Citizen")
GREEK = "\n :?.ΑΒΓΔΕαβγδεζηθ"


def play(names: tuple[str, ...]) -> str:
    return "\n\n".join(f"{name}:\nthe storm and thy ship are at sea, o king" for name in names * 2)


@cache
def generator(
    vocabulary: str = VOCABULARY,
    texts: tuple[str, ...] = (play(LOVERS), play(DANES)),
    *,
    fast: bool,
    scale: float = 20,
) -> noskgpt.Generator:
    """Return a generator whose context is 24 characters, so that texts need several windows.

    It prefers some symbols, as a trained model does, unless `scale` is small.
    """
    config = ModelConfig(n_layer=1, n_head=1, n_embd=8, vocab_size=len(vocabulary), context=24)
    model = GPT(config)
    model.initialize(torch.Generator().manual_seed(3))
    model.head.weight.data.mul_(scale)
    return noskgpt.Generator(
        Checkpoint(
            config=config,
            vocabulary=vocabulary,
            weights=model.arrays(),
            lexicon=lexicon.build(vocabulary, lexicon.words(" ".join(texts))),
            casts=scene.build(texts),
        ),
        fast=fast,
    )


def speakers(text: str) -> list[str]:
    """Return the names of the speaker lines that the text completes."""
    names, blank = [], False
    for line in text.split("\n")[:-1]:
        if line.endswith(":") and (blank or line.isupper()):
            names.append(line[:-1])
        blank = not line.strip()
    return names


prompts = st.one_of(
    st.text(max_size=80),
    st.text(st.sampled_from("\n :?!'-RoméO"), max_size=40),
    st.lists(
        st.sampled_from(
            [
                "ROMEO:\n",
                "Steve:\n",
                "HAMLET: ",
                "Juliet",
                " nurse",
                "\n",
                "\n\n",
                "?",
                " pizza",
                "'",
                "-",
            ]
        ),
        max_size=12,
    ).map("".join),
)
options = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0, 0.3, 0.8, 5]),
        "seed": st.integers(0, 1000),
        "real_words": st.booleans(),
        "echo": st.booleans(),
        "top_k": st.sampled_from([0, 1, 3]),
        "top_p": st.sampled_from([0.3, 1.0]),
    }
)


@given(prompts, options)
@settings(max_examples=150, deadline=None)
def test_only_the_cast_speaks_and_nobody_twice_in_a_row(
    prompt: str, chosen: dict[str, Any]
) -> None:
    bard = generator(fast=True)
    text = bard.generate(prompt, 150, cast=True, **chosen)
    assert len(text) == 150
    folded = bard.tokenizer.fold(prompt).text
    reading = bard.casts.read(folded)
    names = speakers("\n\n" * reading.finished + text)
    casts = [set(play) for play in bard.casts.plays]
    if reading.play is not None:
        casts = [casts[reading.play]]
    assert any(set(names) <= cast | set(reading.speakers) for cast in casts)
    assert all(a != b for a, b in pairwise(names))
    if names and reading.addressed:
        assert names[0] == reading.addressed
    elif names:
        assert names[0] != reading.last
    # A blank line begins a speaker line, and nothing else looks like one.
    assert "\n\n\n" not in text[2:]
    for line in re.findall(r"\n\n([^\n]+)\n", text):
        assert line[:-1] in names


@given(prompts, options, st.booleans())
@settings(max_examples=60, deadline=None)
def test_both_decoders_give_the_same_text(prompt: str, chosen: dict[str, Any], cast: bool) -> None:  # noqa: FBT001
    texts = [
        generator(fast=fast).generate(prompt, 60, cast=cast, **chosen) for fast in (True, False)
    ]
    assert texts[0] == texts[1]


@given(prompts, options, st.booleans())
@settings(max_examples=80, deadline=None)
def test_the_last_word_of_a_prompt_is_complete(
    prompt: str,
    chosen: dict[str, Any],
    cast: bool,  # noqa: FBT001
) -> None:
    bard = generator(fast=True)
    if not (cast or chosen["real_words"] or chosen["echo"]):
        cast = True
    text = bard.generate(prompt, 1, cast=cast, **chosen)
    if bard.tokenizer.fold(prompt).text[-1:].isalpha():
        assert not text.isalpha()
        assert text not in "'-"


@pytest.mark.parametrize("prompt", ["Where art thou?", "JULIET:\nFie!' ", "Come!\n", "Ay?\n\n"])
def test_a_question_or_an_exclamation_is_answered(prompt: str) -> None:
    for seed in range(20):
        reply = generator(fast=True).generate(prompt, 40, seed=seed, cast=True)
        tail = prompt[len(prompt.rstrip()) :]
        assert re.match(r"\n\n[A-Z][A-Za-z ]+:\n[^\n]", tail.replace(" ", "") + reply)


def test_whoever_is_addressed_answers() -> None:
    for seed in range(20):
        text = generator(fast=True).generate("JULIET:\nwhere, romeo?", 9, seed=seed, cast=True)
        assert text == "\n\nROMEO:\n"
        text = generator(fast=True).generate("Steve: Nurse, why?\n", 8, seed=seed, cast=True)
        assert text == "\nNurse:\n"


def test_a_speaker_of_the_prompt_belongs_to_the_cast() -> None:
    replies = [
        generator(fast=True).generate("Steve:\nwhy?\n\nHAMLET:\nwhat?", 400, 5, seed, cast=True)
        for seed in range(40)
    ]
    names = {name for reply in replies for name in speakers(reply)}
    assert "Steve" in names
    assert names <= {"Steve", *DANES}


def test_the_first_speaker_chooses_the_play() -> None:
    for seed in range(40):
        names = set(speakers(generator(fast=True).generate("", 600, 5, seed, cast=True)))
        assert names <= set(LOVERS) or names <= set(DANES)


@given(prompts, options)
@settings(max_examples=40, deadline=None)
def test_a_text_without_speakers_loses_nothing(prompt: str, chosen: dict[str, Any]) -> None:
    bard = generator(texts=("the storm and thy ship are at sea",), fast=True)
    chosen = chosen | {"real_words": True}
    assert bard.generate(prompt, 80, cast=True, **chosen) == bard.generate(prompt, 80, **chosen)


@given(st.text(st.sampled_from(GREEK), max_size=60), options)
@settings(max_examples=60, deadline=None)
def test_works_in_another_alphabet(prompt: str, chosen: dict[str, Any]) -> None:
    names = ("ΑΑ", "ΒΒ", "Γαμ", "ΔΔ", "ΕΑ")
    texts = ("\n\n".join(f"{name}:\nαβγ δεζ. ηθα" for name in names * 2),)
    bard = generator(GREEK, texts, fast=True)
    text = bard.generate(prompt, 100, cast=True, **chosen)
    spoken = speakers("\n\n" * bard.casts.read(prompt).finished + text)
    assert set(spoken) <= {*names, *bard.casts.read(prompt).speakers}
    assert len(text) == 100


@pytest.mark.parametrize("vocabulary", ["abc", "\n:", "AB\n:", "a \n"])
def test_works_in_alphabets_that_cannot_spell_the_cast(vocabulary: str) -> None:
    bard = generator(vocabulary, fast=True)
    for prompt in ("", "ab", "a:\n\n"):
        assert len(bard.generate(prompt, 50, seed=1, cast=True, echo=True, real_words=True)) == 50


@pytest.mark.parametrize("prompt", ["ROMEO:\n" + "my ship? " * 330, "A:\n\n" * 750, "é" * 3000])
def test_reads_long_prompts(prompt: str) -> None:
    bard = generator(fast=True)
    assert len(bard.generate(prompt, 100, seed=1, cast=True, echo=True, real_words=True)) == 100


def test_echo_repeats_words_of_the_prompt_in_speeches() -> None:
    bard = generator(fast=True, scale=1)

    def count(prompt: str, words: str, **options: Any) -> int:
        texts = [bard.generate(prompt, 300, 0.1, seed, **options) for seed in range(20)]
        return sum(len(re.findall(words, text, re.IGNORECASE)) for text in texts)

    assert count("parrots like pizza", "parrots|pizza") == 0
    assert count("parrots like pizza", "parrots|pizza", echo=True) > 20
    assert count("ROMEO:\nparrots\n\npizza", "parrots", echo=True) == 0
    assert count("parrots", "parrots", echo=True, echo_of="pizza") == 0
    assert count("parrots", "pizza", echo=True, echo_of="A pizza") > 20
    # Names and the most common words are not repeated.
    assert count("Romeo, storm", "romeo|storm", echo=True) == 0


def test_echo_of_nothing_changes_nothing() -> None:
    bard = generator(fast=True)
    assert bard.generate("A king", 300, seed=1, cast=True, echo=True, echo_of="") == bard.generate(
        "A king", 300, seed=1, cast=True
    )


def test_a_word_is_not_repeated_at_once() -> None:
    bard = generator(fast=True, scale=1)
    text = " ".join(bard.generate("the pizza", 300, 0.1, s, echo=True) for s in range(20))
    assert len(re.findall("pizza", text)) > 20
    assert not re.search(r"pizza\W+pizza", text)


def first_line_of(names: tuple[str, ...], text: str) -> int:
    """Return the end of the first line that is the name of a speaker; the length without one."""
    end = 0
    for line in text.split("\n")[:-1]:
        end += len(line) + 1
        if line.endswith(":") and line[:-1].lower() in {name.lower() for name in names}:
            return end
    return len(text)


@given(
    prompts,
    options,
    st.lists(st.sampled_from([*LOVERS, "NURSE"]), min_size=1, max_size=3),
    st.sampled_from([True, False]),
)
@settings(max_examples=25, deadline=None)
def test_a_text_ends_with_the_line_of_the_first_speaker_of_until(
    prompt: str,
    chosen: dict[str, Any],
    names: list[str],
    compiled: bool,  # noqa: FBT001
) -> None:
    bard = generator(texts=(play(LOVERS),), fast=compiled)
    # They are in every cast already, so the option changes nothing but the end.
    whole = bard.generate(f"ROMEO:\nO!\n\n{prompt}", 150, cast=True, **chosen)
    text = bard.generate(f"ROMEO:\nO!\n\n{prompt}", 150, cast=True, until=names, **chosen)
    assert text == whole[: first_line_of(tuple(names), whole)]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("prompt", ["", "A", "\n", "A:\n"])
def test_until_ends_a_text_without_a_cast_too(prompt: str, *, fast: bool) -> None:
    bard = generator("A:\n", ("A",), fast=fast, scale=1)
    ended = 0
    for seed in range(4):
        whole = bard.generate(prompt, 70, seed=seed)
        end = first_line_of(("a",), "x" * (prompt == "A") + whole) - (prompt == "A")
        assert bard.generate(prompt, 70, seed=seed, until=("a",)) == whole[:end]
        ended += end < 70
    assert ended


def test_a_speaker_of_until_whom_no_play_has_speaks_and_is_called_by_name() -> None:
    bard = generator(fast=True, scale=1)
    prompt = "ROMEO:\nthe storm\n\nJULIET:\nthy ship, Steve, is at sea.\n\n"
    for seed in range(5):
        assert bard.generate(prompt, 200, seed=seed, cast=True, until=("STEVE",)) == "STEVE:\n"
    ends = [
        bard.generate("JULIET:\nO!", 200, seed=seed, cast=True, until=("STEVE", "HAMLET"))
        .rstrip("\n")
        .rpartition("\n")[2]
        for seed in range(20)
    ]
    assert {"STEVE:", "HAMLET:"} <= set(ends)


def test_a_speaker_of_until_whom_no_play_has_gets_a_turn_from_the_real_weights() -> None:
    bard = noskgpt.load()
    prompt = "ROMEO:\nGood morrow, cousin.\n\n"
    options: dict[str, Any] = {"real_words": True, "cast": True}
    texts = [
        bard.generate(prompt, 400, seed=seed, until=("STEVE",), **options) for seed in range(24)
    ]
    assert sum(text.endswith("\n\nSTEVE:\n") for text in texts) >= 3
    (name, *_) = speakers("\n\n" + bard.generate(prompt, 300, seed=1, **options))
    assert bard.generate(prompt, 300, seed=1, until=(name,), **options) == f"{name}:\n"


@pytest.mark.parametrize("until", ["ROMEO", ("",), (" ",), ("A:",), ("A\nB",), ("A" * 49,)])
def test_until_has_names_of_speakers(until: Any) -> None:
    with pytest.raises(ValueError, match="until must be"):
        generator(fast=True).stream("x", 9, until=until)
