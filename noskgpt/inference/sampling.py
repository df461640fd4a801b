"""Drawing a symbol from logits: temperature, top-k, top-p, and words that exist.

Compiled where numba is and plain Python where it is not, with the same result.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from noskgpt.inference.jit import compiled
from noskgpt.lexicon import Lexicon

Array = NDArray[Any]

_CLOSED = -2


class Sampling(NamedTuple):
    """How one request draws, and room to do so."""

    temperature: float
    """0 always takes the likeliest."""
    top_k: int
    """Draw from so many of the likeliest symbols only; 0 is from all."""
    top_p: float
    """Draw from the fewest likeliest symbols whose probabilities reach this sum only."""
    probabilities: Any
    """(V,) float64, room."""
    order: Any
    """(V,) int64, room."""
    allowed: Any
    """(V,) bool, room."""
    words: Any
    """(lexicon, lexicon of the request's own words), `noskgpt.lexicon.Lexicon` each."""
    nodes: Any
    """(2,) int64: where the unfinished word stands in each; -1 where it is not in it, and
    `_CLOSED` behind a quotation mark, which no letter may follow."""
    masked: Any
    """(2,) int64: characters drawn, and those of them that would have been others unmasked."""


@compiled
def draw(logits: Array, sampling: Sampling, uniform: float) -> int:
    """Return one of the allowed symbols of (V,) `logits`, by a uniform number in [0, 1).

    The symbols are laid out on [0, 1) by their probabilities, in order of id, or of probability
    where top-k or top-p cut some off; the number falls on the one that is drawn.
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
        # The largest logit goes first, so that a tiny temperature cannot overflow.
        x = (np.float64(logits[i]) - np.float64(logits[best])) / sampling.temperature
        p[i] = np.exp(x) if allowed[i] else 0.0
        total += p[i]
        order[i] = i
    count = size
    if sampling.top_k > 0 or sampling.top_p < 1:
        count = _cut(sampling, total)
        total = 0.0
        for i in range(count):
            total += p[order[i]]
    left = uniform * total
    for i in range(count):
        left -= p[order[i]]
        if left < 0:
            return int(order[i])
    return best  # the number lies beyond the sum by a rounding error


@compiled
def _cut(sampling: Sampling, total: float) -> int:
    """Put the likeliest first in `order`; return how many of them top-k and top-p leave."""
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
    """Return the node that `symbol` leads to from `node`, or -1."""
    if node < 0:
        return -1
    letter = lexicon.letters[symbol]
    for edge in range(lexicon.first[node], lexicon.first[node + 1]):
        if lexicon.edges[edge] == letter:
            return int(edge) + 1
    return -1


@compiled
def step(sampling: Sampling, symbol: int) -> None:
    """Note that `symbol` was written: move on in the word it belongs to, or end it."""
    nodes = sampling.nodes
    kind = sampling.words[0].letters[symbol]
    inside = nodes[0] != 0 or nodes[1] != 0
    a = child(sampling.words[0], nodes[0], symbol)
    b = child(sampling.words[1], nodes[1], symbol)
    if kind < 0:
        nodes[:] = 0
    elif kind == sampling.words[0].apostrophe and a < 0 and b < 0:
        nodes[:] = _CLOSED if inside else 0
    else:
        nodes[0], nodes[1] = a, b


@compiled
def permit(sampling: Sampling) -> None:
    """Set `allowed` to the symbols after which the unfinished word may still become a word."""
    nodes, allowed = sampling.nodes, sampling.allowed
    size = allowed.shape[0]
    if nodes[0] == -1 and nodes[1] == -1:  # a word that the prompt began and no lexicon knows
        allowed[:] = True
        return
    inside = nodes[0] != 0 or nodes[1] != 0
    may_end = not inside or nodes[0] == _CLOSED
    for which in range(2):
        if nodes[which] >= 0 and sampling.words[which].ends[nodes[which]]:
            may_end = True
    apostrophe = sampling.words[0].apostrophe
    nothing = True
    for i in range(size):
        kind = sampling.words[0].letters[i]
        allowed[i] = may_end and (kind < 0 or kind == apostrophe)
        if kind >= 0 and not allowed[i]:
            a = child(sampling.words[0], nodes[0], i)
            allowed[i] = a >= 0 or child(sampling.words[1], nodes[1], i) >= 0
        nothing = nothing and not allowed[i]
    if nothing:  # an alphabet of letters alone: words run into each other
        allowed[:] = True


@compiled
def choose(logits: Array, sampling: Sampling, uniform: float, real_words: bool) -> int:  # noqa: FBT001
    """Draw a symbol and note it; with `real_words`, only one that keeps to the lexicon."""
    sampling.allowed[:] = True
    symbol = draw(logits, sampling, uniform)
    if real_words:
        permit(sampling)
        sampling.masked[0] += 1
        if not sampling.allowed[symbol]:
            sampling.masked[1] += 1
            symbol = draw(logits, sampling, uniform)
        step(sampling, symbol)
    return symbol
