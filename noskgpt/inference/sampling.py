"""Sample a symbol from logits: temperature, top-k, top-p, and a mask that allows only real words.

The functions are compiled with numba if it is available and run as plain Python if not, with the
same result.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from noskgpt.inference.jit import compiled
from noskgpt.lexicon import Lexicon

Array = NDArray[Any]

_AFTER_QUOTE = -2


class Sampling(NamedTuple):
    """Store the sampling settings of one request, its state and its scratch buffers."""

    temperature: float
    """0 always selects the most likely symbol."""
    top_k: int
    """Sample from the `top_k` most likely symbols; 0 disables the limit."""
    top_p: float
    """Sample from the smallest set of most likely symbols whose probabilities reach this sum."""
    probabilities: Any
    """(V,) float64, scratch."""
    order: Any
    """(V,) int64, scratch."""
    allowed: Any
    """(V,) bool, scratch: the symbols that `draw` may return."""
    lexicons: Any
    """(lexicon of the weights, lexicon of the prompt), each a `noskgpt.lexicon.Lexicon`.
    """
    nodes: Any
    """(2,) int64, state: the node of the current partial word in each lexicon; -1 if the lexicon
    does not have it, `_AFTER_QUOTE` after a quotation mark, which no letter may follow."""


@compiled
def draw(logits: Array, sampling: Sampling, uniform: float) -> int:
    """Return an allowed symbol, sampled from (V,) `logits` by a uniform number in [0, 1).

    The interval is divided among the symbols in proportion to their probabilities, in order of id,
    or of probability if top-k or top-p applies; the symbol whose part contains the number is
    selected.
    """
    size = logits.shape[0]
    p, order, allowed = sampling.probabilities, sampling.order, sampling.allowed
    best = -1
    for i in range(size):
        if allowed[i] and (best < 0 or logits[i] > logits[best]):
            best = i
    if sampling.temperature == 0:
        return best
    total = 0.0
    for i in range(size):
        # Subtract the largest logit first, so that a tiny temperature cannot overflow.
        x = (np.float64(logits[i]) - np.float64(logits[best])) / sampling.temperature
        p[i] = np.exp(x) if allowed[i] else 0.0
        total += p[i]
        order[i] = i
    count = size
    if sampling.top_k > 0 or sampling.top_p < 1:
        count = _truncate(sampling, total)
        total = 0.0
        for i in range(count):
            total += p[order[i]]
    remaining = uniform * total
    for i in range(count):
        remaining -= p[order[i]]
        if remaining < 0:
            return int(order[i])
    return best  # reached only by a rounding error of the sum


@compiled
def _truncate(sampling: Sampling, total: float) -> int:
    """Sort `order` by descending probability; return how many symbols top-k and top-p keep."""
    p, order = sampling.probabilities, sampling.order
    count = len(order)
    for i in range(1, count):  # insertion sort: stable, and the list is short
        j, moved = i, order[i]
        while j > 0 and p[order[j - 1]] < p[moved]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = moved
    if sampling.top_k > 0:
        count = min(count, sampling.top_k)
    kept = 0.0
    for i in range(count):
        kept += p[order[i]]
        if kept >= sampling.top_p * total:
            return i + 1
    return count


@compiled
def child(lexicon: Lexicon, node: int, symbol: int) -> int:
    """Return the child of `node` for `symbol`, or -1 if there is none."""
    if node < 0:
        return -1
    letter = lexicon.letters[symbol]
    for edge in range(lexicon.first[node], lexicon.first[node + 1]):
        if lexicon.edges[edge] == letter:
            return int(edge) + 1
    return -1


@compiled
def advance(sampling: Sampling, symbol: int) -> None:
    """Update the current partial word after `symbol`: extend it, or end it."""
    nodes = sampling.nodes
    letter = sampling.lexicons[0].letters[symbol]
    inside = nodes[0] != 0 or nodes[1] != 0
    a = child(sampling.lexicons[0], nodes[0], symbol)
    b = child(sampling.lexicons[1], nodes[1], symbol)
    if letter < 0:
        nodes[:] = 0
    elif letter == sampling.lexicons[0].apostrophe and a < 0 and b < 0:
        nodes[:] = _AFTER_QUOTE if inside else 0
    else:
        nodes[0], nodes[1] = a, b


@compiled
def allow_real_words(sampling: Sampling) -> None:
    """Set `allowed` to the symbols after which the partial word can still become a real word."""
    nodes, allowed = sampling.nodes, sampling.allowed
    size = allowed.shape[0]
    if nodes[0] == -1 and nodes[1] == -1:  # a word that no lexicon has, as a new speaker's name
        allowed[:] = True
        return
    inside = nodes[0] != 0 or nodes[1] != 0
    may_end = not inside or nodes[0] == _AFTER_QUOTE
    for i in range(2):
        if nodes[i] >= 0 and sampling.lexicons[i].ends[nodes[i]]:
            may_end = True
    apostrophe = sampling.lexicons[0].apostrophe
    none_allowed = True
    for symbol in range(size):
        letter = sampling.lexicons[0].letters[symbol]
        allowed[symbol] = may_end and (letter < 0 or letter == apostrophe)
        if letter >= 0 and not allowed[symbol]:
            a = child(sampling.lexicons[0], nodes[0], symbol)
            allowed[symbol] = a >= 0 or child(sampling.lexicons[1], nodes[1], symbol) >= 0
        none_allowed = none_allowed and not allowed[symbol]
    if none_allowed:  # the vocabulary has only letters, so nothing can separate words
        allowed[:] = True
