"""The words of a text as a compact trie, for writing only words that exist.

A word is a run of letters, with apostrophes between them (`king's`, `o'er`); case does not count.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


class Lexicon(NamedTuple):
    """A trie for one alphabet, breadth first, so that edge e leads to node e + 1. Node 0 is root.

    For letters of an alphabet with V symbols, N nodes and N - 1 edges; about 7 bytes a node.
    """

    letters: Any  # (V,) int64: the letter that a symbol is, whatever its case; -1 for none
    first: Any  # (N + 1,) int32: where the edges of a node begin
    edges: Any  # (N - 1,) int16: letters
    ends: Any  # (N,) bool: whether a word may end there
    apostrophe: int
    """Its letter: within a word it belongs to it, behind one it may be a quotation mark."""


def words(text: str) -> set[str]:
    """Return the words of a text, in lower case."""
    return set(words_in_order(text))


def words_in_order(text: str) -> list[str]:
    """Return the words of a text as they follow each other, in lower case."""
    return ["".join(map(_letter, word)) for word in _WORD.findall(text)]


def _letter(symbol: str) -> str:
    """Return a symbol in lower case; one that would become several stays as it is."""
    lower = symbol.lower()
    return lower if len(lower) == 1 else symbol


def unfinished(text: str) -> str:
    """Return the word that a text breaks off in, as it stands there, or nothing."""
    match = re.search(rf"{_WORD.pattern}'?\Z", text)
    return match[0] if match else ""


def build(vocabulary: str, known: Iterable[str]) -> Lexicon:
    """Build the trie of `known` words, in lower case, for an alphabet.

    Words with a letter outside the alphabet are left out.
    """
    alphabet = sorted({_letter(symbol) for symbol in vocabulary if symbol.isalpha()})
    number = {letter: i for i, letter in enumerate(["'", *alphabet])}
    letters = [number.get(_letter(symbol), -1) for symbol in vocabulary]
    level = sorted({word for word in known if word and set(word) <= number.keys()})
    complete = set(level)
    first, edges, ends = [0], [], []
    # A level holds the prefixes of one length in order, each with the words that it begins.
    groups: list[tuple[str, list[str]]] = [("", level)]
    while groups:
        below: list[tuple[str, list[str]]] = []
        for prefix, members in groups:
            # A quotation mark may follow any word.
            ends.append(prefix in complete or prefix.removesuffix("'") in complete)
            children: dict[str, list[str]] = {}
            for word in members:
                if len(word) > len(prefix):
                    children.setdefault(word[len(prefix)], []).append(word)
            edges += [number[letter] for letter in children]
            below += [(prefix + letter, group) for letter, group in children.items()]
            first.append(len(edges))
        groups = below
    return Lexicon(
        letters=np.array(letters, np.int64),
        first=np.array(first, np.int32),
        edges=np.array(edges, np.int16),
        ends=np.array(ends, np.bool_),
        apostrophe=number["'"],
    )


def knows(lexicon: Lexicon, symbols: Iterable[int]) -> bool:
    """Return whether symbol ids spell a word of the trie."""
    node = 0
    for letter in lexicon.letters[list(symbols)]:
        begin, end = lexicon.first[node : node + 2]
        places = np.flatnonzero(lexicon.edges[begin:end] == letter)
        if not len(places):
            return False
        node = begin + int(places[0]) + 1
    return bool(lexicon.ends[node])


def check(lexicon: Lexicon) -> None:
    """Raise `ValueError` unless the arrays of a trie fit each other, as its readers trust."""
    first, edges, ends = lexicon.first, lexicon.edges, lexicon.ends
    kinds = (first.dtype, edges.dtype, ends.dtype)
    if kinds != (np.int32, np.int16, np.bool_) or {first.ndim, edges.ndim, ends.ndim} != {1}:
        msg = "the lexicon is not one"
        raise ValueError(msg)
    nodes = len(ends)
    fits = len(edges) == nodes - 1 and len(first) == nodes + 1
    if not fits or first[0] != 0 or first[-1] != len(edges) or (first[1:] < first[:-1]).any():
        msg = "the lexicon's parts do not fit each other"
        raise ValueError(msg)
    if not ends[1:][first[1:-1] == first[2:]].all():
        msg = "the lexicon has words without an end"
        raise ValueError(msg)
