"""The decoding loops: from symbol ids to logits over preallocated keys and values.

Compiled by numba, they hold no GIL and make no Python object. A weight matrix is read as *pairs*:
one unsigned integer holds two weights, of outputs o and o + P (or inputs to them), so that one
load feeds two multiply-adds and, where a weight has 16 bits, half of the bytes are read. Shapes
are written with C channels, T positions, L blocks, V symbols and P pairs.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from noskgpt.inference.intrinsics import first, power_of_two, prefetch, second
from noskgpt.inference.jit import compiled
from noskgpt.inference.sampling import Sampling, choose

Array = NDArray[Any]

PADDING = 16
"""Unused positions at the end of a channel's keys and values: with a power of two between them,
those of one position would all fall into the same few sets of a processor's cache."""
BLOCK = 4
"""Positions that a prefill computes together, reading each weight once for all of them."""


class Weights(NamedTuple):
    """A model's weights in the order in which the loops read them; see `decoder.pack`."""

    token_embedding: Any  # (V, C) float32
    position_embedding: Any  # (T, C)
    norm1: Any  # (L, 2, C): weight, bias
    norm2: Any
    qkv: Any  # (L, 3C / 2, C) pairs
    projection: Any  # (L, C / 2, C) pairs
    projection_bias: Any  # (L, C)
    expand: Any  # (L + 1, 4C / 2, C) pairs
    expand_bias: Any  # (L + 1, 4C)
    contract: Any  # (L, 4C, C / 2) pairs: by input, so that inputs of zero can be skipped
    contract_bias: Any  # (L, C)
    head: Any  # (4C, V) float32: the last contraction and the head in one
    head_bias: Any  # (V,)
    n_head: int


class State(NamedTuple):
    """What one request writes to: 1.3 MB at the reference's shape."""

    keys: Any  # (L, C, T + PADDING) float32: by channel, so that sums run over neighbours
    values: Any  # (L, C, T + PADDING)
    window: Any  # (T,) int64: the symbols whose keys and values are held
    counts: Any  # (2,) int64: how many are held; the symbol drawn but not yet fed, or -1
    x: Any  # (BLOCK, C) the residual stream
    normed: Any  # (BLOCK, C)
    wide: Any  # (BLOCK, 4C)
    scores: Any  # (T,)
    active: Any  # (4C,) int64: the inputs that ReLU left above zero
    amounts: Any  # (4C,) their values
    logits: Any  # (V,) of the symbol that follows


@compiled
def _exp(x: np.float32) -> np.float32:
    """Return e ** x for x <= 0 to about 1e-7; unlike a library's, a loop over it vectorises.

    e ** x is 2 ** n * e ** r with n whole and r small; the polynomial is Cephes' expf.
    """
    x = max(x, np.float32(-87.0))
    n = np.floor(x * np.float32(1.44269504088896341) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    power: np.float32 = power_of_two(np.int32(n))
    result: np.float32 = (p * r * r + r + np.float32(1)) * power
    return result


@compiled
def _foresee(address: np.uintp, size: int) -> None:
    """Begin to load `size` bytes: rows read side by side are no stream that a processor sees."""
    for line in range(0, size, 64):
        prefetch(address + np.uintp(line))


@compiled
def _multiply(out: Array, pairs: Array, x: Array) -> None:
    """Add to `out` (from 2P,) the product of pairs (P, C) with `x` (C,)."""
    half, size = pairs.shape
    following, four_rows = np.uintp(pairs.ctypes.data), 4 * size * pairs.itemsize
    for o in range(0, half, 4):
        following += np.uintp(four_rows)
        _foresee(following, four_rows)
        r0, r1, r2, r3 = pairs[o], pairs[o + 1], pairs[o + 2], pairs[o + 3]
        s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = np.float32(0)
        for j in range(size):
            v = x[j]
            p0, p1, p2, p3 = r0[j], r1[j], r2[j], r3[j]
            s0 += v * first(p0)
            t0 += v * second(p0)
            s1 += v * first(p1)
            t1 += v * second(p1)
            s2 += v * first(p2)
            t2 += v * second(p2)
            s3 += v * first(p3)
            t3 += v * second(p3)
        out[o] += s0
        out[o + 1] += s1
        out[o + 2] += s2
        out[o + 3] += s3
        out[half + o] += t0
        out[half + o + 1] += t1
        out[half + o + 2] += t2
        out[half + o + 3] += t3


@compiled
def _multiply_block(out: Array, pairs: Array, x: Array) -> None:
    """As `_multiply` for BLOCK rows: add to (4, from 2P) the product of pairs with `x` (4, C)."""
    half, size = pairs.shape
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    for o in range(half):
        row = pairs[o]
        s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = np.float32(0)
        for j in range(size):
            u, v = first(row[j]), second(row[j])
            s0 += x0[j] * u
            t0 += x0[j] * v
            s1 += x1[j] * u
            t1 += x1[j] * v
            s2 += x2[j] * u
            t2 += x2[j] * v
            s3 += x3[j] * u
            t3 += x3[j] * v
        out[0, o] += s0
        out[1, o] += s1
        out[2, o] += s2
        out[3, o] += s3
        out[0, half + o] += t0
        out[1, half + o] += t1
        out[2, half + o] += t2
        out[3, half + o] += t3


@compiled
def _add_rows(out: Array, pairs: Array, which: Array, amounts: Array, count: int) -> None:
    """Add to `out` (2P,) the rows `which[:count]` of pairs (I, P), each times its amount."""
    half = pairs.shape[1]
    upper, lower = out[:half], out[half : 2 * half]
    k = 0
    while k + 4 <= count:
        a0, a1, a2, a3 = amounts[k], amounts[k + 1], amounts[k + 2], amounts[k + 3]
        r0, r1 = pairs[which[k]], pairs[which[k + 1]]
        r2, r3 = pairs[which[k + 2]], pairs[which[k + 3]]
        for j in range(half):
            p0, p1, p2, p3 = r0[j], r1[j], r2[j], r3[j]
            u, v = upper[j], lower[j]
            u += a0 * first(p0) + a1 * first(p1) + a2 * first(p2) + a3 * first(p3)
            v += a0 * second(p0) + a1 * second(p1) + a2 * second(p2) + a3 * second(p3)
            upper[j] = u
            lower[j] = v
        k += 4
    while k < count:
        a0, r0 = amounts[k], pairs[which[k]]
        for j in range(half):
            upper[j] += a0 * first(r0[j])
            lower[j] += a0 * second(r0[j])
        k += 1


@compiled
def _add_plain_rows(out: Array, rows: Array, which: Array, amounts: Array, count: int) -> None:
    """As `_add_rows` for rows (I, V) of float32."""
    k = 0
    while k + 4 <= count:
        a0, a1, a2, a3 = amounts[k], amounts[k + 1], amounts[k + 2], amounts[k + 3]
        r0, r1, r2, r3 = rows[which[k]], rows[which[k + 1]], rows[which[k + 2]], rows[which[k + 3]]
        for j in range(out.shape[0]):
            out[j] += a0 * r0[j] + a1 * r1[j] + a2 * r2[j] + a3 * r3[j]
        k += 4
    while k < count:
        a0, r0 = amounts[k], rows[which[k]]
        for j in range(out.shape[0]):
            out[j] += a0 * r0[j]
        k += 1


@compiled
def _positive(values: Array, which: Array, amounts: Array) -> int:
    """List where `values` are above zero, and the values there; return how many there are."""
    count = 0
    for j in range(values.shape[0]):
        which[count] = j
        amounts[count] = values[j]
        count += values[j] > 0
    return count


@compiled
def _normalize(x: Array, norm: Array, out: Array) -> None:
    """Write the LayerNorm of `x` (C,) with weight and bias (2, C) to `out`."""
    size = x.shape[0]
    total = np.float32(0)
    for j in range(size):
        total += x[j]
    mean = total / np.float32(size)
    square = np.float32(0)
    for j in range(size):
        square += (x[j] - mean) * (x[j] - mean)
    scale = np.float32(1) / np.sqrt(square / np.float32(size) + np.float32(1e-5))
    for j in range(size):
        out[j] = (x[j] - mean) * scale * norm[0, j] + norm[1, j]


@compiled
def _score(out: Array, query: Array, keys: Array) -> None:
    """Set `out` (T',) to the products of a head's query (D,) with its keys (D, from T')."""
    size, length = query.shape[0], out.shape[0]
    out[:] = 0
    for d in range(0, size, 8):
        for row in range(d + 8, min(d + 16, size)):
            _foresee(np.uintp(keys[row].ctypes.data), 4 * length)
        q0, q1, q2, q3 = query[d], query[d + 1], query[d + 2], query[d + 3]
        q4, q5, q6, q7 = query[d + 4], query[d + 5], query[d + 6], query[d + 7]
        k0, k1, k2, k3 = keys[d], keys[d + 1], keys[d + 2], keys[d + 3]
        k4, k5, k6, k7 = keys[d + 4], keys[d + 5], keys[d + 6], keys[d + 7]
        for t in range(length):
            s = q0 * k0[t] + q1 * k1[t] + q2 * k2[t] + q3 * k3[t]
            s += q4 * k4[t] + q5 * k5[t] + q6 * k6[t] + q7 * k7[t]
            out[t] += s


@compiled
def _mix(out: Array, shares: Array, values: Array) -> None:
    """Set `out` (D,) to the sum of a head's values (D, from T') by their `shares` (T',)."""
    size, length = out.shape[0], shares.shape[0]
    for d in range(0, size, 8):
        for row in range(d + 8, min(d + 16, size)):
            _foresee(np.uintp(values[row].ctypes.data), 4 * length)
        v0, v1, v2, v3 = values[d], values[d + 1], values[d + 2], values[d + 3]
        v4, v5, v6, v7 = values[d + 4], values[d + 5], values[d + 6], values[d + 7]
        o0 = o1 = o2 = o3 = o4 = o5 = o6 = o7 = np.float32(0)
        for t in range(length):
            p = shares[t]
            o0 += p * v0[t]
            o1 += p * v1[t]
            o2 += p * v2[t]
            o3 += p * v3[t]
            o4 += p * v4[t]
            o5 += p * v5[t]
            o6 += p * v6[t]
            o7 += p * v7[t]
        out[d], out[d + 1], out[d + 2], out[d + 3] = o0, o1, o2, o3
        out[d + 4], out[d + 5], out[d + 6], out[d + 7] = o4, o5, o6, o7


@compiled
def _attend(
    query: Array,
    keys: Array,
    values: Array,
    length: int,
    n_head: int,
    scores: Array,
    out: Array,
) -> None:
    """Attend from a query (C,) to the first `length` positions of keys and values (C, T).

    Scores are scaled by C ** -0.5, the reference's way.
    """
    channels = query.shape[0]
    size = channels // n_head
    scale = np.float32(1) / np.sqrt(np.float32(channels))
    s = scores[:length]
    for start in range(0, channels, size):
        end = start + size
        _score(s, query[start:end], keys[start:end])
        largest = s[0]
        for t in range(length):
            largest = max(largest, s[t])
        total = np.float32(0)
        for t in range(length):
            s[t] = _exp((s[t] - largest) * scale)
            total += s[t]
        _mix(out[start:end], s, values[start:end])
        for d in range(start, end):
            out[d] /= total


@compiled
def _add(x: Array, bias: Array) -> None:
    for j in range(x.shape[0]):
        x[j] += bias[j]


@compiled
def _embed(weights: Weights, state: State, symbol: int, position: int, x: Array) -> None:
    """Write the embedding of a symbol at its position to `x` (C,), and hold the symbol."""
    state.window[position] = symbol
    for j in range(x.shape[0]):
        x[j] = weights.token_embedding[symbol, j] + weights.position_embedding[position, j]


@compiled
def _remember_and_attend(
    weights: Weights, state: State, layer: int, position: int, qkv: Array, out: Array
) -> None:
    """Keep the key and value in `qkv` (from 3C,), then attend from its query."""
    size = out.shape[0]
    keys, values = state.keys[layer], state.values[layer]
    for j in range(size):
        keys[j, position] = qkv[size + j]
        values[j, position] = qkv[2 * size + j]
    _attend(qkv[:size], keys, values, position + 1, weights.n_head, state.scores, out)


@compiled
def _contract(weights: Weights, state: State, layer: int, wide: Array, x: Array) -> None:
    """Add to `x` (C,) the second half of a feed-forward, from the first one's `wide` (4C,)."""
    count = _positive(wide, state.active, state.amounts)
    _add(x, weights.contract_bias[layer])
    _add_rows(x, weights.contract[layer], state.active, state.amounts, count)


@compiled
def _finish(weights: Weights, state: State, x: Array, wide: Array) -> None:
    """Compute the logits from the last residual stream `x` (C,)."""
    last = weights.expand.shape[0] - 1
    wide[:] = weights.expand_bias[last]
    _multiply(wide, weights.expand[last], x)
    count = _positive(wide, state.active, state.amounts)
    state.logits[:] = weights.head_bias
    _add_plain_rows(state.logits, weights.head, state.active, state.amounts, count)


@compiled
def feed(weights: Weights, state: State, symbol: int) -> None:
    """Add one symbol behind those held, of which there are fewer than T, and compute logits."""
    position = state.counts[0]
    x, normed, wide = state.x[0], state.normed[0], state.wide[0]
    _embed(weights, state, symbol, position, x)
    for layer in range(weights.qkv.shape[0]):
        _normalize(x, weights.norm1[layer], normed)
        wide[:] = 0
        _multiply(wide, weights.qkv[layer], normed)
        _remember_and_attend(weights, state, layer, position, wide, normed)
        _add(x, weights.projection_bias[layer])
        _multiply(x, weights.projection[layer], normed)
        _normalize(x, weights.norm2[layer], normed)
        wide[:] = weights.expand_bias[layer]
        _multiply(wide, weights.expand[layer], normed)
        _contract(weights, state, layer, wide, x)
    state.counts[0] = position + 1
    _finish(weights, state, x, wide)


@compiled
def _prefill_block(weights: Weights, state: State, start: int, symbols: Array) -> None:
    """Begin or go on with the BLOCK `symbols` from position `start`, up to the last block."""
    x, normed, wide = state.x, state.normed, state.wide
    for i in range(BLOCK):
        _embed(weights, state, symbols[i], start + i, x[i])
    for layer in range(weights.qkv.shape[0]):
        for i in range(BLOCK):
            _normalize(x[i], weights.norm1[layer], normed[i])
        wide[:] = 0
        _multiply_block(wide, weights.qkv[layer], normed)
        for i in range(BLOCK):
            _remember_and_attend(weights, state, layer, start + i, wide[i], normed[i])
            _add(x[i], weights.projection_bias[layer])
        _multiply_block(x, weights.projection[layer], normed)
        for i in range(BLOCK):
            _normalize(x[i], weights.norm2[layer], normed[i])
            wide[i] = weights.expand_bias[layer]
        _multiply_block(wide, weights.expand[layer], normed)
        for i in range(BLOCK):
            _contract(weights, state, layer, wide[i], x[i])


@compiled
def prefill(weights: Weights, state: State, symbols: Array, cancelled: Array) -> None:
    """Begin anew with `symbols`, 1 to T of them, and compute the logits behind the last.

    Breaks off when `cancelled`, (1,) uint8, is no longer zero.
    """
    length = symbols.shape[0]
    whole = length - length % BLOCK
    state.counts[0] = 0
    state.counts[1] = -1
    for start in range(0, whole, BLOCK):
        if cancelled[0]:
            return
        _prefill_block(weights, state, start, symbols[start : start + BLOCK])
    state.counts[0] = whole
    for i in range(whole, length):
        feed(weights, state, symbols[i])
    if whole == length:
        _finish(weights, state, state.x[BLOCK - 1], state.wide[BLOCK - 1])


@compiled
def extend(weights: Weights, state: State, symbol: int, keep: int, cancelled: Array) -> None:
    """Add one symbol; when T are held, begin anew with the last `keep`, the new one included."""
    state.counts[1] = -1
    held = state.counts[0]
    if held < state.window.shape[0]:
        feed(weights, state, symbol)
        return
    symbols = np.empty(keep, np.int64)
    symbols[: keep - 1] = state.window[held - keep + 1 :]
    symbols[keep - 1] = symbol
    prefill(weights, state, symbols, cancelled)


@compiled
def decode(
    weights: Weights,
    state: State,
    sampling: Sampling,
    uniforms: Array,
    real_words: bool,  # noqa: FBT001
    keep: int,
    cancelled: Array,
    out: Array,
) -> int:
    """Write up to `len(out)` symbols behind those fed; return how many.

    Args:
        weights: See `Weights`.
        state: After `prefill`, or an earlier `decode`, which this one goes on from.
        sampling: See `Sampling`.
        uniforms: (N,) float64 in [0, 1), one for each symbol.
        real_words: Whether to keep to the lexicon.
        keep: How many symbols stay when T are held and one more comes.
        cancelled: (1,) uint8; another thread makes it 1 to end the loop.
        out: (N,) int64.
    """
    for i in range(out.shape[0]):
        if state.counts[1] >= 0 and not cancelled[0]:
            extend(weights, state, state.counts[1], keep, cancelled)
        if cancelled[0]:
            return i
        symbol = choose(state.logits, sampling, uniforms[i], real_words)
        state.counts[1] = symbol
        out[i] = symbol
    return len(out)
