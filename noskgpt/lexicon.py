"""Extract the words of a text and store them in a compact trie, for generating only real words.

A word is a sequence of letters, with apostrophes between them (`king's`, `o'er`). Case is ignored.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


class Lexicon(NamedTuple):
    """Store words as a trie in breadth-first order: edge e leads to node e + 1, node 0 is the root.

    A trie of N nodes for a vocabulary of V symbols takes about 7 bytes per node.
    """

    letters: Any  # (V,) int64: letter id of each symbol, the same for both cases; -1 if no letter
    first: Any  # (N + 1,) int32: index of the first edge of each node
    edges: Any  # (N - 1,) int16: letter id of each edge
    ends: Any  # (N,) bool: whether a word may end at the node
    apostrophe: int
    """Letter id of the apostrophe: part of a word, or a quotation mark after one."""


def words(text: str) -> set[str]:
    """Return the words of a text, in lower case."""
    return set(words_in_order(text))


def words_in_order(text: str) -> list[str]:
    """Return the words of a text in order, with repetitions, in lower case."""
    return ["".join(map(_lower, word)) for word in _WORD.findall(text)]


def _lower(symbol: str) -> str:
    """Return a symbol in lower case, or unchanged if that would be several characters."""
    lower = symbol.lower()
    return lower if len(lower) == 1 else symbol


def last_partial_word(text: str) -> str:
    """Return the word at the very end of a text, which may continue; empty if there is none."""
    match = re.search(rf"{_WORD.pattern}'?\Z", text)
    return match[0] if match else ""


def build(vocabulary: str, words: Iterable[str]) -> Lexicon:
    """Build the trie of lower-case `words` for a vocabulary.

    Words with a letter outside the vocabulary are left out.
    """
    alphabet = sorted({_lower(symbol) for symbol in vocabulary if symbol.isalpha()})
    letter_ids = {letter: i for i, letter in enumerate(["'", *alphabet])}
    letters = [letter_ids.get(_lower(symbol), -1) for symbol in vocabulary]
    usable = {word for word in words if word and set(word) <= letter_ids.keys()}
    first, edges, ends = [0], [], []
    # The prefixes of one length in order, each with the words that start with it.
    level: list[tuple[str, list[str]]] = [("", sorted(usable))]
    while level:
        next_level: list[tuple[str, list[str]]] = []
        for prefix, members in level:
            # A quotation mark may follow any word.
            ends.append(prefix in usable or prefix.removesuffix("'") in usable)
            children: dict[str, list[str]] = {}
            for word in members:
                if len(word) > len(prefix):
                    children.setdefault(word[len(prefix)], []).append(word)
            edges += [letter_ids[letter] for letter in children]
            next_level += [(prefix + letter, group) for letter, group in children.items()]
            first.append(len(edges))
        level = next_level
    return Lexicon(
        letters=np.array(letters, np.int64),
        first=np.array(first, np.int32),
        edges=np.array(edges, np.int16),
        ends=np.array(ends, np.bool_),
        apostrophe=letter_ids["'"],
    )


def spell(lexicon: Lexicon, vocabulary: str) -> frozenset[str]:
    """Return the words of a lexicon that was built for a vocabulary.

    A word before which another continues with an apostrophe comes a second time, with a quotation
    mark at its end; `build` makes the same lexicon of the result.
    """
    alphabet = sorted({_lower(symbol) for symbol in vocabulary if symbol.isalpha()})
    letters = ["'", *alphabet]
    prefixes = [""] * len(lexicon.ends)
    for node, prefix in enumerate(prefixes):  # breadth first: a node comes after its parent
        for edge in range(lexicon.first[node], lexicon.first[node + 1]):
            prefixes[edge + 1] = prefix + letters[lexicon.edges[edge]]
    return frozenset(prefix for prefix, end in zip(prefixes, lexicon.ends, strict=True) if end)


def contains(lexicon: Lexicon, symbols: Iterable[int]) -> bool:
    """Return whether symbol ids spell a word of the lexicon."""
    node = 0
    for letter in lexicon.letters[list(symbols)]:
        begin, end = lexicon.first[node : node + 2]
        matches = np.flatnonzero(lexicon.edges[begin:end] == letter)
        if not len(matches):
            return False
        node = begin + int(matches[0]) + 1
    return bool(lexicon.ends[node])


def check(lexicon: Lexicon) -> None:
    """Raise `ValueError` unless the trie is consistent: compiled loops do not check indices."""
    first, edges, ends = lexicon.first, lexicon.edges, lexicon.ends
    dtypes = (first.dtype, edges.dtype, ends.dtype)
    if dtypes != (np.int32, np.int16, np.bool_) or {first.ndim, edges.ndim, ends.ndim} != {1}:
        msg = "the lexicon has arrays of a wrong type or shape"
        raise ValueError(msg)
    nodes = len(ends)
    lengths_match = len(edges) == nodes - 1 and len(first) == nodes + 1
    if (
        not lengths_match
        or first[0] != 0
        or first[-1] != len(edges)
        or (first[1:] < first[:-1]).any()
    ):
        msg = "the arrays of the lexicon do not fit each other"
        raise ValueError(msg)
    if not ends[1:][first[1:-1] == first[2:]].all():
        msg = "the lexicon has a leaf where no word ends"
        raise ValueError(msg)
