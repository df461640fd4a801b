"""Test the lexicon, and generation with real words only."""

from pathlib import Path

import numpy as np
import pytest

import noskgpt
from noskgpt import lexicon
from noskgpt.inference.sampling import child
from noskgpt.limits import MAX_WORD
from noskgpt.tokenizer import VOCABULARY, Tokenizer

TEXT = "O'er the king's gate, love-sick; 'tis HE. 'Tis he!"


def has_path(words: lexicon.Lexicon, word: str) -> bool:
    """Follow the compiled `child` from the root; return whether `word` ends at a word's end."""
    node = 0
    for character in word:
        node = child(words, node, VOCABULARY.index(character))
    return node > 0 and bool(words.ends[node])


def test_words_are_letters_with_apostrophes_inside() -> None:
    assert lexicon.words(TEXT) == {
        *("o'er", "the", "king's", "gate", "love", "sick", "tis", "he"),
    }


@pytest.mark.parametrize(
    ("text", "word"),
    [
        *(("O gentle nig", "nig"), ("the king'", "king'"), ("the king's", "king's"), ("Ay, ", "")),
        *(("o'er", "o'er"), ("'tis", "tis"), ("king''", ""), ("'", ""), ("", "")),
    ],
)
def test_finds_the_partial_word_at_the_end_of_a_text(text: str, word: str) -> None:
    assert lexicon.last_partial_word(text) == word


def test_the_trie_has_its_words_and_no_others() -> None:
    words = lexicon.build(VOCABULARY, lexicon.words(TEXT))
    for word in ("o'er", "The", "KING's", "king's", "he", "tis"):
        assert has_path(words, word)
    for word in ("k", "kin", "kings", "sicker", "e", "king'", "zz", "'"):
        assert not has_path(words, word), word
    lexicon.check(words)


def test_words_outside_the_vocabulary_are_left_out() -> None:
    words = lexicon.build("abc", {"cab", "dab", ""})
    assert words.ends.sum() == 1


@pytest.mark.parametrize("part", ["first", "edges", "ends"])
def test_rejects_arrays_of_a_wrong_length_type_or_shape(part: str) -> None:
    words = lexicon.build(VOCABULARY, {"king"})
    array = getattr(words, part)
    for wrong in (array[:-1], array.astype(np.float32), array[None]):
        with pytest.raises(ValueError, match="lexicon"):
            lexicon.check(words._replace(**{part: wrong}))


def test_rejects_indices_that_would_lead_outside_the_trie() -> None:
    words = lexicon.build(VOCABULARY, {"kings", "a"})
    # Increases modulo 2**32.
    first = np.array([0, 2**31 - 1, -(2**31), -1, 6, 6, 6, 6], np.int32)
    with pytest.raises(ValueError, match="fit each other"):
        lexicon.check(words._replace(first=first))
    with pytest.raises(ValueError, match="no word ends"):
        lexicon.check(words._replace(ends=np.zeros_like(words.ends)))


def chain(length: int) -> lexicon.Lexicon:
    """Return a trie whose only word has this length."""
    first = np.append(np.arange(length + 1), length).astype(np.int32)
    ends = np.arange(length + 1) == length
    edges = np.ones(length, np.int16)
    return lexicon.build("ab", ())._replace(first=first, edges=edges, ends=ends)


def test_rejects_words_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    lexicon.check(chain(MAX_WORD))
    with pytest.raises(ValueError, match="too long"):
        lexicon.check(chain(MAX_WORD + 1))
    monkeypatch.setattr(lexicon, "MAX_LETTERS", 10)
    words = lexicon.build("ab", {"aaaa", "bbbb", "ab"})
    lexicon.check(words)
    monkeypatch.setattr(lexicon, "MAX_LETTERS", 9)
    with pytest.raises(ValueError, match="too long"):
        lexicon.check(words)


def test_rejects_letters_of_another_vocabulary_and_nodes_that_lead_to_themselves() -> None:
    words = chain(2)
    for edge in (-1, 3, 2**15 - 1):
        with pytest.raises(ValueError, match="letter that its vocabulary"):
            lexicon.check(words._replace(edges=np.array([1, edge], np.int16)))
    loop = np.array([0, 0, 1, 2], np.int32)  # the root has no letter, and each node leads to itself
    with pytest.raises(ValueError, match="no letter leads"):
        lexicon.check(words._replace(first=loop))


def test_leaves_out_words_without_end_and_the_longest_of_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = "a" * MAX_WORD
    assert lexicon.words(f"{long}, {long}b") == {long}
    trie = lexicon.build("ab", {long, f"{long}b", "b"})
    assert lexicon.spell(trie, "ab") == {long, "b"}
    monkeypatch.setattr(lexicon, "MAX_LETTERS", 6)
    trie = lexicon.build("ab", {"ab", "aaa", "bbb", "a"})
    assert lexicon.spell(trie, "ab") == {"a", "ab", "aaa"}
    lexicon.check(trie)


def test_ignores_case_of_letters_whose_lower_case_has_another_length() -> None:
    assert lexicon.words("AL\u0130 \u039f\u0394\u039f\u03a3") == {
        "al\u0130",
        "\u03bf\u03b4\u03bf\u03c3",
    }
    for word in ("al\u0130", "\u03bf\u03b4\u03bf\u03c3"):
        assert lexicon.build(word, {word}).ends.any()


@pytest.mark.parametrize("fast", [True, False])
def test_generates_real_words_only(weights_file: Path, fast: bool) -> None:  # noqa: FBT001
    bard = noskgpt.load(weights_file, fast=fast)  # untrained weights
    prompt = "Zorkmid:\nThe Frobnitz and the night"
    text = bard.generate(prompt, 800, seed=3, real_words=True)
    assert len(text) == 800
    known = lexicon.words(noskgpt.corpus.load_corpus().train) | {"zorkmid", "frobnitz"}
    generated = lexicon.words(text.removesuffix(lexicon.last_partial_word(text)))
    assert len(generated) > 50
    assert generated <= known
    assert not lexicon.words(bard.generate(prompt, 800, seed=3)) <= known


@pytest.mark.parametrize("prompt", ["I love pizza", "Xyzzyq", "the nig"])
@pytest.mark.parametrize("seed", range(5))
def test_the_last_word_of_a_prompt_is_complete(weights_file: Path, prompt: str, seed: int) -> None:
    text = noskgpt.load(weights_file).generate(prompt, 50, seed=seed, real_words=True)
    assert len(text) == 50
    assert not text[0].isalpha()
    assert text[0] not in "'-"


def test_an_apostrophe_or_a_hyphen_leaves_the_last_word_open(weights_file: Path) -> None:
    bard = noskgpt.load(weights_file)
    for prompt in ("the king'", "love-"):
        texts = [bard.generate(prompt, 2, seed=seed, real_words=True) for seed in range(40)]
        assert any(text[0].isalpha() for text in texts)
    after_quote = {bard.generate("the king'", 1, seed=s, real_words=True) for s in range(40)}
    assert {text for text in after_quote if text.isalpha()} <= set("dDsS")


def test_contains_its_words_and_no_others() -> None:
    text = "King's crown, o'er the kings"
    trie = lexicon.build(VOCABULARY, lexicon.words(text))
    tokenizer = Tokenizer(VOCABULARY)
    assert lexicon.words_in_order(text) == ["king's", "crown", "o'er", "the", "kings"]
    for word in ("king's", "KING'S", "crown", "o'er", "the", "kings"):
        assert lexicon.contains(trie, tokenizer.encode(word))
    for word in ("king", "kingss", "o", "crow", "x", "", "the,"):
        assert not lexicon.contains(trie, tokenizer.encode(word))
