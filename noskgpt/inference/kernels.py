"""Compute logits and sample symbols in compiled loops over preallocated buffers.

The loops are compiled by numba, release the GIL and create no Python objects. A weight matrix is
stored as *pairs*: one unsigned integer holds the weights of outputs o and o + P for one input, so
that one load feeds two multiply-adds and, with 16-bit weights, half of the bytes are read.

In shapes, C is the number of channels, D of channels in a head, T of positions in a context, N of
positions attended to, L of blocks, V of symbols and P of pairs.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from noskgpt.inference.constraints import Constraints, choose
from noskgpt.inference.intrinsics import first, power_of_two, prefetch, second
from noskgpt.inference.jit import compiled
from noskgpt.inference.sampling import Sampling

Array = NDArray[Any]

PADDING = 16
"""Unused positions at the end of each channel of keys and values. Without them the channels of a
position are a power of two apart and map to the same few sets of the processor's cache."""
BLOCK = 4
"""Positions that a prefill computes together, so that it reads each weight once for all of them."""


class Weights(NamedTuple):
    """Store the weights of a model in the layout that the loops read; see `decoder.pack`."""

    token_embedding: Any  # (V, C) float32
    position_embedding: Any  # (T, C)
    norm1: Any  # (L, 2, C): weight, bias
    norm2: Any
    qkv: Any  # (L, 3C / 2, C) pairs
    projection: Any  # (L, C / 2, C) pairs
    projection_bias: Any  # (L, C)
    expand: Any  # (L + 1, 4C / 2, C) pairs
    expand_bias: Any  # (L + 1, 4C)
    contract: Any  # (L, 4C, C / 2) pairs, one row per input, so that zero inputs can be skipped
    contract_bias: Any  # (L, C)
    head: Any  # (4C, V) float32: product of the last contraction and the head
    head_bias: Any  # (V,)
    n_head: int


class State(NamedTuple):
    """Store the cache and scratch buffers of one request: 1.3 MB at the reference's shape."""

    keys: Any  # (L, C, T + PADDING) float32: by channel, so that sums read adjacent values
    values: Any  # (L, C, T + PADDING)
    window: Any  # (T,) int64: the symbols whose keys and values are cached
    counts: Any  # (2,) int64: number of cached positions; symbol sampled but not fed yet, or -1
    x: Any  # (BLOCK, C) residual stream
    normed: Any  # (BLOCK, C) scratch
    hidden: Any  # (BLOCK, 4C) scratch
    scores: Any  # (T,) scratch
    active: Any  # (4C,) int64 scratch: indices of the values that ReLU keeps
    active_values: Any  # (4C,) scratch
    logits: Any  # (V,) of the next symbol


@compiled
def _exp(x: np.float32) -> np.float32:
    """Return e ** x for x <= 0, to about 1e-7. Unlike a library call, it vectorises in a loop.

    e ** x = 2 ** n * e ** r with an integer n and a small r. The polynomial is that of expf in the
    Cephes library (https://www.netlib.org/cephes/).
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
def _prefetch(address: np.uintp, size: int) -> None:
    """Prefetch `size` bytes: the processor does not recognise rows read in parallel as streams."""
    for line in range(0, size, 64):
        prefetch(address + np.uintp(line))


@compiled
def _multiply(out: Array, pairs: Array, x: Array) -> None:
    """Add to `out` (2P or more,) the product of pairs (P, C) and `x` (C,)."""
    half, size = pairs.shape
    next_rows, four_rows = np.uintp(pairs.ctypes.data), 4 * size * pairs.itemsize
    for o in range(0, half, 4):
        next_rows += np.uintp(four_rows)
        _prefetch(next_rows, four_rows)
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
    """Add to `out` (BLOCK, 2P or more) the products of pairs (P, C) and `x` (BLOCK, C)."""
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
def _add_rows(out: Array, pairs: Array, rows: Array, factors: Array, count: int) -> None:
    """Add to `out` (2P,) the rows `rows[:count]` of pairs (inputs, P), scaled by `factors`."""
    half = pairs.shape[1]
    upper, lower = out[:half], out[half : 2 * half]
    k = 0
    while k + 4 <= count:
        a0, a1, a2, a3 = factors[k], factors[k + 1], factors[k + 2], factors[k + 3]
        r0, r1 = pairs[rows[k]], pairs[rows[k + 1]]
        r2, r3 = pairs[rows[k + 2]], pairs[rows[k + 3]]
        for j in range(half):
            p0, p1, p2, p3 = r0[j], r1[j], r2[j], r3[j]
            u, v = upper[j], lower[j]
            u += a0 * first(p0) + a1 * first(p1) + a2 * first(p2) + a3 * first(p3)
            v += a0 * second(p0) + a1 * second(p1) + a2 * second(p2) + a3 * second(p3)
            upper[j] = u
            lower[j] = v
        k += 4
    while k < count:
        a0, r0 = factors[k], pairs[rows[k]]
        for j in range(half):
            upper[j] += a0 * first(r0[j])
            lower[j] += a0 * second(r0[j])
        k += 1


@compiled
def _add_float_rows(out: Array, matrix: Array, rows: Array, factors: Array, count: int) -> None:
    """Add to `out` (V,) the rows `rows[:count]` of a float32 matrix (inputs, V), scaled."""
    k = 0
    while k + 4 <= count:
        a0, a1, a2, a3 = factors[k], factors[k + 1], factors[k + 2], factors[k + 3]
        r0, r1 = matrix[rows[k]], matrix[rows[k + 1]]
        r2, r3 = matrix[rows[k + 2]], matrix[rows[k + 3]]
        for j in range(out.shape[0]):
            out[j] += a0 * r0[j] + a1 * r1[j] + a2 * r2[j] + a3 * r3[j]
        k += 4
    while k < count:
        a0, r0 = factors[k], matrix[rows[k]]
        for j in range(out.shape[0]):
            out[j] += a0 * r0[j]
        k += 1


@compiled
def _relu(x: Array, active: Array, active_values: Array) -> int:
    """Write the indices and values of the positive elements of `x`; return their number."""
    count = 0
    for j in range(x.shape[0]):
        active[count] = j
        active_values[count] = x[j]
        count += x[j] > 0
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
    """Set `out` (N,) to the products of a query (D,) and keys (D, N or more) of one head."""
    size, length = query.shape[0], out.shape[0]
    out[:] = 0
    for d in range(0, size, 8):
        for row in range(d + 8, min(d + 16, size)):
            _prefetch(np.uintp(keys[row].ctypes.data), 4 * length)
        q0, q1, q2, q3 = query[d], query[d + 1], query[d + 2], query[d + 3]
        q4, q5, q6, q7 = query[d + 4], query[d + 5], query[d + 6], query[d + 7]
        k0, k1, k2, k3 = keys[d], keys[d + 1], keys[d + 2], keys[d + 3]
        k4, k5, k6, k7 = keys[d + 4], keys[d + 5], keys[d + 6], keys[d + 7]
        for t in range(length):
            s = q0 * k0[t] + q1 * k1[t] + q2 * k2[t] + q3 * k3[t]
            s += q4 * k4[t] + q5 * k5[t] + q6 * k6[t] + q7 * k7[t]
            out[t] += s


@compiled
def _sum_values(out: Array, attention: Array, values: Array) -> None:
    """Set `out` (D,) to the sum of a head's values (D, N or more), weighted by attention (N,)."""
    size, length = out.shape[0], attention.shape[0]
    for d in range(0, size, 8):
        for row in range(d + 8, min(d + 16, size)):
            _prefetch(np.uintp(values[row].ctypes.data), 4 * length)
        v0, v1, v2, v3 = values[d], values[d + 1], values[d + 2], values[d + 3]
        v4, v5, v6, v7 = values[d + 4], values[d + 5], values[d + 6], values[d + 7]
        o0 = o1 = o2 = o3 = o4 = o5 = o6 = o7 = np.float32(0)
        for t in range(length):
            p = attention[t]
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
    """Compute attention of a query (C,) over the first `length` keys and values (C, T).

    Scores are scaled by C ** -0.5, as in the reference.
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
        _sum_values(out[start:end], s, values[start:end])
        for d in range(start, end):
            out[d] /= total


@compiled
def _add(x: Array, bias: Array) -> None:
    for j in range(x.shape[0]):
        x[j] += bias[j]


@compiled
def _embed(weights: Weights, state: State, symbol: int, position: int, x: Array) -> None:
    """Store a symbol in the window and write its embedding at its position to `x` (C,)."""
    state.window[position] = symbol
    for j in range(x.shape[0]):
        x[j] = weights.token_embedding[symbol, j] + weights.position_embedding[position, j]


@compiled
def _cache_and_attend(
    weights: Weights, state: State, layer: int, position: int, qkv: Array, out: Array
) -> None:
    """Cache the key and value in `qkv` (3C or more,), then compute attention of its query."""
    size = out.shape[0]
    keys, values = state.keys[layer], state.values[layer]
    for j in range(size):
        keys[j, position] = qkv[size + j]
        values[j, position] = qkv[2 * size + j]
    _attend(qkv[:size], keys, values, position + 1, weights.n_head, state.scores, out)


@compiled
def _contract(weights: Weights, state: State, layer: int, hidden: Array, x: Array) -> None:
    """Add to `x` (C,) the output of a feed-forward for its hidden layer (4C,) before ReLU."""
    count = _relu(hidden, state.active, state.active_values)
    _add(x, weights.contract_bias[layer])
    _add_rows(x, weights.contract[layer], state.active, state.active_values, count)


@compiled
def _compute_logits(weights: Weights, state: State, x: Array, hidden: Array) -> None:
    """Compute the logits from the residual stream `x` (C,) after the last block."""
    last = weights.expand.shape[0] - 1
    hidden[:] = weights.expand_bias[last]
    _multiply(hidden, weights.expand[last], x)
    count = _relu(hidden, state.active, state.active_values)
    state.logits[:] = weights.head_bias
    _add_float_rows(state.logits, weights.head, state.active, state.active_values, count)


@compiled
def feed(weights: Weights, state: State, symbol: int) -> None:
    """Append one symbol to the cached ones, of which there must be fewer than T; compute logits."""
    position = state.counts[0]
    x, normed, hidden = state.x[0], state.normed[0], state.hidden[0]
    _embed(weights, state, symbol, position, x)
    for layer in range(weights.qkv.shape[0]):
        _normalize(x, weights.norm1[layer], normed)
        hidden[:] = 0
        _multiply(hidden, weights.qkv[layer], normed)
        _cache_and_attend(weights, state, layer, position, hidden, normed)
        _add(x, weights.projection_bias[layer])
        _multiply(x, weights.projection[layer], normed)
        _normalize(x, weights.norm2[layer], normed)
        hidden[:] = weights.expand_bias[layer]
        _multiply(hidden, weights.expand[layer], normed)
        _contract(weights, state, layer, hidden, x)
    state.counts[0] = position + 1
    _compute_logits(weights, state, x, hidden)


@compiled
def _prefill_block(weights: Weights, state: State, start: int, symbols: Array) -> None:
    """Run the BLOCK `symbols` from position `start` through all blocks, without logits."""
    x, normed, hidden = state.x, state.normed, state.hidden
    for i in range(BLOCK):
        _embed(weights, state, symbols[i], start + i, x[i])
    for layer in range(weights.qkv.shape[0]):
        for i in range(BLOCK):
            _normalize(x[i], weights.norm1[layer], normed[i])
        hidden[:] = 0
        _multiply_block(hidden, weights.qkv[layer], normed)
        for i in range(BLOCK):
            _cache_and_attend(weights, state, layer, start + i, hidden[i], normed[i])
            _add(x[i], weights.projection_bias[layer])
        _multiply_block(x, weights.projection[layer], normed)
        for i in range(BLOCK):
            _normalize(x[i], weights.norm2[layer], normed[i])
            hidden[i] = weights.expand_bias[layer]
        _multiply_block(hidden, weights.expand[layer], normed)
        for i in range(BLOCK):
            _contract(weights, state, layer, hidden[i], x[i])


@compiled
def prefill(weights: Weights, state: State, symbols: Array, cancelled: Array) -> None:
    """Clear the cache, process `symbols`, 1 to T of them, and compute the logits after the last.

    Returns early when `cancelled`, (1,) uint8, becomes non-zero.
    """
    length = symbols.shape[0]
    in_blocks = length - length % BLOCK
    state.counts[0] = 0
    state.counts[1] = -1
    for start in range(0, in_blocks, BLOCK):
        if cancelled[0]:
            return
        _prefill_block(weights, state, start, symbols[start : start + BLOCK])
    state.counts[0] = in_blocks
    for i in range(in_blocks, length):
        feed(weights, state, symbols[i])
    if in_blocks == length:
        _compute_logits(weights, state, state.x[BLOCK - 1], state.hidden[BLOCK - 1])


@compiled
def extend(weights: Weights, state: State, symbol: int, keep: int, cancelled: Array) -> None:
    """Append one symbol; if T are cached, recompute from the last `keep`, including the new one."""
    state.counts[1] = -1
    cached = state.counts[0]
    if cached < state.window.shape[0]:
        feed(weights, state, symbol)
        return
    symbols = np.empty(keep, np.int64)
    symbols[: keep - 1] = state.window[cached - keep + 1 :]
    symbols[keep - 1] = symbol
    prefill(weights, state, symbols, cancelled)


@compiled
def decode(
    weights: Weights,
    state: State,
    sampling: Sampling,
    constraints: Constraints,
    uniforms: Array,
    keep: int,
    cancelled: Array,
    out: Array,
) -> int:
    """Sample up to `len(out)` symbols into `out`; return their number, smaller if cancelled.

    Args:
        weights: See `Weights`.
        state: The state after `prefill` or after an earlier `decode`.
        sampling: See `Sampling`.
        constraints: See `noskgpt.inference.constraints`.
        uniforms: Float64 in [0, 1), one per symbol of `out`.
        keep: The number of symbols kept when T are cached and one more is appended.
        cancelled: (1,) uint8; another thread sets it to 1 to end the loop.
        out: int64, receives the symbol ids.
    """
    for i in range(out.shape[0]):
        if state.counts[1] >= 0 and not cancelled[0]:
            extend(weights, state, state.counts[1], keep, cancelled)
        if cancelled[0]:
            return i
        symbol = choose(state.logits, sampling, constraints, uniforms[i])
        state.counts[1] = symbol
        out[i] = symbol
    return len(out)
