"""Words that exist, and text that keeps to them."""

from pathlib import Path

import numpy as np
import pytest

import noskgpt
from noskgpt import lexicon
from noskgpt.inference.sampling import child
from noskgpt.tokenizer import VOCABULARY, Tokenizer

SPOKEN = "O'er the king's gate, love-sick; 'tis HE. 'Tis he!"


def holds(words: lexicon.Lexicon, word: str) -> bool:
    """Walk the trie by symbols of the alphabet."""
    node = 0
    for character in word:
        node = child(words, node, VOCABULARY.index(character))
    return node > 0 and bool(words.ends[node])


def test_words_are_letters_with_apostrophes_inside() -> None:
    assert lexicon.words(SPOKEN) == {
        *("o'er", "the", "king's", "gate", "love", "sick", "tis", "he"),
    }


@pytest.mark.parametrize(
    ("text", "word"),
    [("O gentle nig", "nig"), ("the king'", "king'"), ("the king's", "king's"), ("Ay, ", "")],
)
def test_the_word_that_a_text_breaks_off_in(text: str, word: str) -> None:
    assert lexicon.unfinished(text) == word


def test_the_trie_holds_its_words_and_no_others() -> None:
    words = lexicon.build(VOCABULARY, lexicon.words(SPOKEN))
    for word in ("o'er", "The", "KING's", "king's", "he", "tis"):
        assert holds(words, word)
    for word in ("k", "kin", "kings", "sicker", "e", "king'", "zz", "'"):
        assert not holds(words, word), word
    lexicon.check(words)


def test_words_outside_the_alphabet_are_left_out() -> None:
    words = lexicon.build("abc", {"cab", "dab", ""})
    assert words.ends.sum() == 1


@pytest.mark.parametrize("part", ["first", "edges", "ends"])
def test_a_damaged_trie_is_refused(part: str) -> None:
    words = lexicon.build(VOCABULARY, {"king"})
    array = getattr(words, part)
    for wrong in (array[:-1], array.astype(np.float32), array[None]):
        with pytest.raises(ValueError, match="lexicon"):
            lexicon.check(words._replace(**{part: wrong}))


def test_a_trie_that_would_lead_astray_is_refused() -> None:
    words = lexicon.build(VOCABULARY, {"kings", "a"})
    first = np.array([0, 2**31 - 1, -(2**31), -1, 6, 6, 6, 6], np.int32)  # rises, modulo 2**32
    with pytest.raises(ValueError, match="fit each other"):
        lexicon.check(words._replace(first=first))
    with pytest.raises(ValueError, match="without an end"):
        lexicon.check(words._replace(ends=np.zeros_like(words.ends)))


def test_case_counts_neither_where_it_changes_the_number_of_letters() -> None:
    assert lexicon.words("AL\u0130 \u039f\u0394\u039f\u03a3") == {
        "al\u0130",
        "\u03bf\u03b4\u03bf\u03c3",
    }
    for word in ("al\u0130", "\u03bf\u03b4\u03bf\u03c3"):
        assert lexicon.build(word, {word}).ends.any()


@pytest.mark.parametrize("fast", [True, False])
def test_real_words_only(weights_file: Path, fast: bool) -> None:  # noqa: FBT001
    bard = noskgpt.load(weights_file, fast=fast)  # untrained weights, which know no word
    prompt = "Zorkmid:\nThe Frobnitz and the nig"
    text = bard.generate(prompt, 800, seed=3, real_words=True)
    assert len(text) == 800
    known = lexicon.words(noskgpt.corpus.load_corpus().train) | {"zorkmid", "frobnitz"}
    whole = prompt + text
    written = lexicon.words(whole.removesuffix(lexicon.unfinished(whole)))
    assert len(written) > 50
    assert written <= known
    assert not lexicon.words(bard.generate(prompt, 800, seed=3)) <= known


def test_real_words_leaves_a_word_alone_that_nobody_knows(weights_file: Path) -> None:
    bard = noskgpt.load(weights_file)
    assert len(bard.generate("Xyzzyq", 50, seed=1, real_words=True)) == 50


def test_knows_its_words_and_no_others() -> None:
    text = "King's crown, o'er the kings"
    trie = lexicon.build(VOCABULARY, lexicon.words(text))
    tokenizer = Tokenizer(VOCABULARY)
    assert lexicon.words_in_order(text) == ["king's", "crown", "o'er", "the", "kings"]
    for word in ("king's", "KING'S", "crown", "o'er", "the", "kings"):
        assert lexicon.knows(trie, tokenizer.encode(word))
    for word in ("king", "kingss", "o", "crow", "x", "", "the,"):
        assert not lexicon.knows(trie, tokenizer.encode(word))
