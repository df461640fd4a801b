"""Extract the words of a text and store them in a compact trie, for generating only real words.

A word is a sequence of letters, with apostrophes between them (`king's`, `o'er`). Case is ignored.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from noskgpt.limits import MAX_LETTERS, MAX_WORD

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_APOSTROPHE = 0
"""Letter id of the apostrophe, which comes before all letters in code-point order."""


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
    """Return the words of a text, in lower case; without those longer than `MAX_WORD`."""
    return set(map(lower_word, count_spellings(text)))


def words_in_order(text: str) -> list[str]:
    """Return the words of a text in order, with repetitions, in lower case."""
    return [lower_word(word) for word in _WORD.findall(text)]


def count_spellings(text: str) -> Counter[str]:
    """Count the words of a text as they are spelt; without those longer than `MAX_WORD`."""
    spelt = Counter(match[0] for match in _WORD.finditer(text))
    return Counter({word: count for word, count in spelt.items() if len(word) <= MAX_WORD})


def lower_word(word: str) -> str:
    """Return a word in lower case, with as many letters."""
    return "".join(map(_lower, word))


def _lower(symbol: str) -> str:
    """Return a symbol in lower case, or unchanged if that would be several characters."""
    lower = symbol.lower()
    return lower if len(lower) == 1 else symbol


def last_partial_word(text: str) -> str:
    """Return the word at the very end of a text, which may continue; empty if there is none."""
    # From the end: a search from the start would read the rest of each word at each of its letters.
    match = re.match(rf"'?{_WORD.pattern}", text[::-1])
    return match[0][::-1] if match else ""


def build(vocabulary: str, words: Iterable[str]) -> Lexicon:
    """Build the trie of lower-case `words` for a vocabulary.

    Words with a letter outside the vocabulary or with more than `MAX_WORD` letters are left out,
    and of more than `MAX_LETTERS` letters in all the longest words.
    """
    alphabet = _alphabet(vocabulary)
    letters = [alphabet.find(_lower(symbol)) for symbol in vocabulary]
    usable = _select(words, alphabet)
    spelt = _letter_ids("".join(usable), alphabet)
    lengths = np.fromiter(map(len, usable), np.int64, len(usable))
    starts = lengths.cumsum() - lengths
    # From one length of prefixes to the next: the node of each word's prefix, in order.
    nodes = np.zeros(len(usable), np.int64)
    longer = np.arange(len(usable))
    edges, parents, count = [spelt[:0]], [nodes[:0]], 1
    for length in range(int(lengths.max(initial=0))):
        longer = longer[lengths[longer] > length]
        edge, parent = spelt[starts[longer] + length], nodes[longer]
        differs = np.ones(len(longer), np.bool_)
        differs[1:] = (edge[1:] != edge[:-1]) | (parent[1:] != parent[:-1])
        nodes[longer] = count - 1 + differs.cumsum()
        edges.append(edge[differs])
        parents.append(parent[differs])
        count += len(edges[-1])
    all_edges, all_parents = np.concatenate(edges), np.concatenate(parents)
    ends = np.zeros(count, np.bool_)
    ends[nodes] = True
    # A quotation mark may follow any word.
    ends[1:] |= (all_edges == _APOSTROPHE) & ends[all_parents]
    first = np.append(0, np.bincount(all_parents, minlength=count).cumsum())
    return Lexicon(
        letters=np.array(letters, np.int64),
        first=first.astype(np.int32),
        edges=all_edges.astype(np.int16),
        ends=ends,
        apostrophe=_APOSTROPHE,
    )


def _alphabet(vocabulary: str) -> str:
    """Return the letters of a vocabulary in code-point order, which the apostrophe begins."""
    return "'" + "".join(sorted({_lower(symbol) for symbol in vocabulary if symbol.isalpha()}))


def _letter_ids(text: str, alphabet: str) -> NDArray[np.int64]:
    """Return the index in an alphabet, in code-point order, of each letter of a text."""
    codes, known = (np.frombuffer(part.encode("utf-32-le"), "<u4") for part in (text, alphabet))
    return known.searchsorted(codes)


def _select(words: Iterable[str], alphabet: str) -> list[str]:
    """Return the words for a lexicon in order."""
    letters = set(alphabet)
    usable = {word for word in words if 0 < len(word) <= MAX_WORD and letters.issuperset(word)}
    if sum(map(len, usable)) > MAX_LETTERS:
        by_length = sorted(usable, key=lambda word: (len(word), word))
        usable = set(by_length[: bisect_right([*accumulate(map(len, by_length))], MAX_LETTERS)])
    return sorted(usable)


def spell(lexicon: Lexicon, vocabulary: str) -> frozenset[str]:
    """Return the words of a lexicon that was built for a vocabulary."""
    first, edges = lexicon.first.astype(np.int64), lexicon.edges
    codes = np.frombuffer(_alphabet(vocabulary).encode("utf-32-le"), "<u4")
    parents = np.append(0, np.repeat(np.arange(len(lexicon.ends)), np.diff(first)))
    is_word = _is_word(lexicon)
    words: set[str] = set()
    for length, (begin, end) in enumerate(_levels(first)):
        nodes = begin + np.flatnonzero(is_word[begin:end])
        if not len(nodes):
            continue
        spelt = np.empty((len(nodes), length), "<u4")
        for at in range(length - 1, -1, -1):
            spelt[:, at] = codes[edges[nodes - 1]]
            nodes = parents[nodes]
        words.update(spelt.view(f"<U{length}").ravel().tolist())
    return frozenset(words)


def _is_word(lexicon: Lexicon) -> NDArray[np.bool_]:
    """Return whether a word ends at each node without a quotation mark."""
    is_word: NDArray[np.bool_] = lexicon.ends.copy()
    is_word[1:] &= lexicon.edges != lexicon.apostrophe
    return is_word


def _levels(first: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Yield the range of the nodes of each depth, from the root on."""
    begin, end = 0, 1
    while begin < end:
        yield begin, end
        begin, end = end, int(first[end]) + 1


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
    if nodes > 1 and not 0 <= edges.min() <= edges.max() <= lexicon.letters.max(initial=0):
        msg = "the lexicon has a letter that its vocabulary does not have"
        raise ValueError(msg)
    is_word, end, letters = _is_word(lexicon), 0, 0
    for length, (begin, end) in enumerate(_levels(first)):
        letters += length * int(is_word[begin:end].sum())
        if length > MAX_WORD or letters > MAX_LETTERS:
            msg = "the words of the lexicon are too long"
            raise ValueError(msg)
    if end != nodes:
        msg = "the lexicon has nodes to which no letter leads"
        raise ValueError(msg)
