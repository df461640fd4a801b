"""Decode symbols one at a time with a key-value cache, in compiled loops.

`noskgpt.inference.eager` decodes with PyTorch where the compiled loops cannot run. Both decoders
cache a window of at most one context; within it, the result equals recomputing the full text for
each symbol. With learned absolute positions, moving a full window invalidates every cached key and
value. A full window is therefore recomputed from its last `keep` symbols only. If `keep` is the
full context, the window moves by one symbol at a time, as in the reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from noskgpt.config import ModelConfig, is_hidden_matrix
from noskgpt.inference import jit
from noskgpt.inference.constraints import Constraints
from noskgpt.inference.sampling import Sampling

if jit.AVAILABLE:
    from noskgpt.inference import kernels

Floats = NDArray[np.float32]

_NORM_PARTS = ("weight", "bias")


class Cancellation:
    """Cancel a request from another thread, at its next symbol or while it reads its prompt."""

    def __init__(self) -> None:
        self.flag: NDArray[np.uint8] = np.zeros(1, np.uint8)

    def cancel(self) -> None:
        """Cancel the request; the text generated so far is kept."""
        self.flag[0] = 1

    def __bool__(self) -> bool:
        """Return whether the request is cancelled."""
        return bool(self.flag[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Store the prompt and settings of a session."""

    ids: NDArray[np.int64]
    """The prompt: 1 to `context` symbol ids."""
    sampling: Sampling
    constraints: Constraints
    keep: int
    """The number of symbols kept when the context is full."""
    cancellation: Cancellation


class Session(Protocol):
    """Interface of a request in progress, to be used by one thread at a time."""

    def decode(self, uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the next symbol ids, one per uniform number in [0, 1), or fewer if cancelled."""
        ...


class Decoder(Protocol):
    """Interface of a decoder; its sessions may run in several threads at once."""

    def start(self, request: Request) -> Session:
        """Process the prompt of a request and return a session that continues it."""
        ...


class CompiledDecoder:
    """Decode in compiled loops that release the GIL; see `noskgpt.inference.kernels`."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, Floats]) -> None:
        jit.announce()
        self.config = config
        self.weights = pack(config, weights)

    @staticmethod
    def fits(config: ModelConfig) -> bool:
        """Return whether the loops are available and can run a model of this shape.

        They process 8 channels of a head at a time.
        """
        return jit.AVAILABLE and (config.n_embd // config.n_head) % 8 == 0

    def start(self, request: Request) -> "CompiledSession":
        """Start a session; see `Decoder`."""
        return CompiledSession(self, request)


class CompiledSession:
    """A session of `CompiledDecoder`."""

    def __init__(self, decoder: CompiledDecoder, request: Request) -> None:
        self._weights = decoder.weights
        self._request = request
        config = decoder.config
        hidden = 4 * config.n_embd
        cache = (config.n_layer, config.n_embd, config.context + kernels.PADDING)
        self.state = kernels.State(
            keys=np.empty(cache, np.float32),
            values=np.empty(cache, np.float32),
            window=np.empty(config.context, np.int64),
            counts=np.array([0, -1], np.int64),
            x=np.empty((kernels.BLOCK, config.n_embd), np.float32),
            normed=np.empty((kernels.BLOCK, config.n_embd), np.float32),
            hidden=np.empty((kernels.BLOCK, hidden), np.float32),
            scores=np.empty(config.context, np.float32),
            active=np.empty(hidden, np.int64),
            active_values=np.empty(hidden, np.float32),
            logits=np.empty(config.vocab_size, np.float32),
        )
        kernels.prefill(self._weights, self.state, request.ids, request.cancellation.flag)

    def decode(self, uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the next symbol ids; see `Session`."""
        out = np.empty(len(uniforms), np.int64)
        count = kernels.decode(
            self._weights,
            self.state,
            self._request.sampling,
            self._request.constraints,
            uniforms,
            self._request.keep,
            self._request.cancellation.flag,
            out,
        )
        return out[:count]


def pack(config: ModelConfig, weights: Mapping[str, Floats]) -> "kernels.Weights":
    """Return the weights of a checkpoint in the layout that the loops read.

    If every hidden matrix holds only bfloat16 values, as the trainer leaves them, each weight is
    stored in 16 bits, otherwise in 32. Neither rounds a value.
    """
    hidden = (array for name, array in weights.items() if is_hidden_matrix(name, array.shape))
    fits_16_bits = all(map(is_bfloat16, hidden))
    blocks = [f"blocks.{i}" for i in range(config.n_layer)]
    attentions = [f"{block}.attention" for block in blocks]
    feed_forwards = [f"{block}.feed_forward" for block in blocks]
    last = "feed_forward"

    def plain(array: NDArray[Any]) -> Floats:
        return np.array(array, np.float32, order="C")

    def stack(names: list[str]) -> Floats:
        return np.stack([weights[name] for name in names])

    def norms(name: str) -> Floats:
        parts = [stack([f"{block}.{name}.{part}" for block in blocks]) for part in _NORM_PARTS]
        return plain(np.stack(parts, axis=1))

    def pairs(matrices: Floats) -> NDArray[np.uint32] | NDArray[np.uint64]:
        """Combine the outputs o and o + P of (L, outputs, inputs) into pairs (L, P, inputs)."""
        upper, lower = np.split(plain(matrices).view(np.uint32), 2, axis=1)
        if fits_16_bits:
            return upper | (lower >> np.uint32(16))
        return (upper.astype(np.uint64) << np.uint64(32)) | lower

    # No non-linearity separates the last contraction from the head, so one matrix replaces both.
    head = weights["head.weight"].astype(np.float64)
    merged_head = head @ weights[f"{last}.contract.weight"].astype(np.float64)
    merged_bias = head @ weights[f"{last}.contract.bias"].astype(np.float64) + weights["head.bias"]
    qkv = [
        stack([f"{attention}.{part}.weight" for attention in attentions])
        for part in ("query", "key", "value")
    ]
    return kernels.Weights(
        token_embedding=plain(weights["token_embedding.weight"]),
        position_embedding=plain(weights["position_embedding.weight"]),
        norm1=norms("norm1"),
        norm2=norms("norm2"),
        qkv=pairs(np.concatenate(qkv, axis=1)),
        projection=pairs(stack([f"{a}.projection.weight" for a in attentions])),
        projection_bias=stack([f"{a}.projection.bias" for a in attentions]),
        expand=pairs(stack([f"{f}.expand.weight" for f in [*feed_forwards, last]])),
        expand_bias=stack([f"{f}.expand.bias" for f in [*feed_forwards, last]]),
        contract=np.ascontiguousarray(
            pairs(stack([f"{f}.contract.weight" for f in feed_forwards])).transpose(0, 2, 1)
        ),
        contract_bias=stack([f"{f}.contract.bias" for f in feed_forwards]),
        head=plain(merged_head.T),
        head_bias=plain(merged_bias),
        n_head=config.n_head,
    )


def is_bfloat16(array: Floats) -> bool:
    """Return whether bfloat16 represents every value of a float32 array exactly."""
    return not (np.ascontiguousarray(array).view(np.uint32) & np.uint32(0xFFFF)).any()
