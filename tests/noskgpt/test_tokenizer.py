"""Test encoding, decoding and folding of text."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noskgpt.tokenizer import VOCABULARY, Tokenizer


def test_vocabulary_is_the_65_symbols_in_code_point_order() -> None:
    assert len(VOCABULARY) == 65
    assert list(VOCABULARY) == sorted(set(VOCABULARY))
    assert VOCABULARY.startswith("\n !$&',-.3:;?ABC")


@pytest.mark.parametrize(
    ("text", "folded", "dropped"),
    [
        ("don’t", "don't", ""),
        ("“To be”", "'To be'", ""),
        ("“café”", "'cafe'", ""),
        ("cafe\u0301", "cafe", ""),
        ("now—then – so", "now-then - so", ""),
        ("wait…", "wait...", ""),
        ("one\ttwo\r\nthree\rfour", "one two\nthree\nfour", ""),
        ("a\u00a0b\u3000c", "a b c", ""),
        ("Æsop, œuvre, straße", "Aesop, oeuvre, strasse", ""),
        ("ＲＯＭＥＯ：", "ROMEO:", ""),
        ("zero\u200bwidth", "zerowidth", ""),
        ("Act 2, scene 3", "Act , scene 3", "2"),
        ("🎭 alas 🎭", " alas ", "🎭"),
        ("\ud800", "", "\ud800"),
        ("", "", ""),
    ],
)
def test_folds(text: str, folded: str, dropped: str) -> None:
    assert Tokenizer().fold(text) == (folded, dropped)


@given(st.text(alphabet=st.characters(codec=None, categories=None)))
def test_folds_any_string_to_the_vocabulary_without_an_error(text: str) -> None:
    tokenizer = Tokenizer()
    folded = tokenizer.fold(text)
    assert set(folded.text) <= set(VOCABULARY)
    assert set(folded.dropped) <= set(text)
    assert tokenizer.decode(tokenizer.encode(text)) == folded.text


@given(st.text(alphabet=VOCABULARY))
def test_text_in_the_vocabulary_is_unchanged(text: str) -> None:
    tokenizer = Tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.fold(text).dropped == ""


def test_another_vocabulary_keeps_its_symbols_and_falls_back_to_the_other_case() -> None:
    tokenizer = Tokenizer("abcé ")
    assert tokenizer.fold("Abé\n") == ("abé ", "")


@pytest.mark.parametrize("vocabulary", ["", "aa", "".join(map(chr, range(257)))])
def test_rejects_invalid_vocabularies(vocabulary: str) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        Tokenizer(vocabulary)


def test_memory_does_not_grow_with_the_number_of_different_characters() -> None:
    tokenizer = Tokenizer()
    tracemalloc.start()
    for start in range(0x3000, 0xD000, 0x100):
        tokenizer.fold("".join(map(chr, range(start, start + 0x100))))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 500_000
