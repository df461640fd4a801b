"""Decode symbols one at a time with a key-value cache: in compiled loops, or with PyTorch.

PyTorch decodes where the compiled loops cannot run. Both decoders cache a window of at most one
context; within it, the result equals recomputing the full text for each symbol. With learned
absolute positions, moving a full window invalidates every cached key and value. A full window is
therefore recomputed from its last `keep` symbols only. If `keep` is the full context, the window
moves by one symbol at a time, as in the reference.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noskgpt.inference import jit
from noskgpt.inference.constraints import Constraints, choose
from noskgpt.inference.sampling import Sampling
from noskgpt.model import GPT, KVCache

if jit.AVAILABLE:
    from noskgpt.inference import kernels

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


def create_decoder(model: GPT, *, fast: bool = True) -> Decoder:
    """Return the compiled decoder, or PyTorch's if it cannot run or `fast` is false."""
    if fast and jit.AVAILABLE and CompiledDecoder.fits(model):
        return CompiledDecoder(model)
    return EagerDecoder(model)


class EagerDecoder:
    """Decode with PyTorch, which holds the GIL most of the time."""

    def __init__(self, model: GPT) -> None:
        self._model = model

    def start(self, request: Request) -> "EagerSession":
        """Start a session; see `Decoder`."""
        return EagerSession(self._model, request)


class EagerSession:
    """A session of `EagerDecoder`."""

    def __init__(self, model: GPT, request: Request) -> None:
        self._model = model
        self._request = request
        self._window = self._pending = request.ids
        self._cache = KVCache(model.config)

    def decode(self, uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the next symbol ids; see `Session`."""
        decoded: list[int] = []
        context = self._model.config.context
        for uniform in uniforms:
            if self._request.cancellation:
                break
            if self._cache.length == context:
                self._cache.length = 0
                self._pending = self._window[-self._request.keep :]
            logits = self._advance(self._pending)
            request = self._request
            symbol = int(choose(logits, request.sampling, request.constraints, uniform))
            self._pending = np.array([symbol])
            self._window = np.append(self._window[-context + 1 :], symbol)
            decoded.append(symbol)
        return np.array(decoded, np.int64)

    @torch.inference_mode()
    def _advance(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Add ids to the cache; return the (V,) logits of the next symbol."""
        logits: Tensor = self._model(torch.from_numpy(ids)[None], self._cache)
        result: NDArray[np.float32] = logits[0, -1].numpy()
        return result


class CompiledDecoder:
    """Decode in compiled loops that release the GIL; see `noskgpt.inference.kernels`."""

    def __init__(self, model: GPT) -> None:
        self.config = model.config
        self.weights = pack(model)

    @staticmethod
    def fits(model: GPT) -> bool:
        """Return whether the loops, which process 8 channels of a head at a time, can run it."""
        config = model.config
        return (config.n_embd // config.n_head) % 8 == 0

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


def pack(model: GPT) -> "kernels.Weights":
    """Return the weights of a model in the layout that the loops read.

    If every hidden matrix holds only bfloat16 values, as the trainer leaves them, each weight is
    stored in 16 bits, otherwise in 32. Neither rounds a value.
    """
    state = {name: t.detach().to("cpu", torch.float32) for name, t in model.state_dict().items()}
    fits_16_bits = all(is_bfloat16(matrix) for matrix in model.hidden_matrices().values())
    blocks = [f"blocks.{i}" for i in range(model.config.n_layer)]
    attentions = [f"{block}.attention" for block in blocks]
    feed_forwards = [f"{block}.feed_forward" for block in blocks]
    last = "feed_forward"

    def plain(tensor: Tensor) -> NDArray[np.float32]:
        return np.array(tensor.numpy(), np.float32, order="C")

    def stack(names: list[str]) -> Tensor:
        return torch.stack([state[name] for name in names])

    def norms(name: str) -> NDArray[np.float32]:
        parts = [stack([f"{block}.{name}.{part}" for block in blocks]) for part in _NORM_PARTS]
        return plain(torch.stack(parts, dim=1))

    def pairs(matrices: Tensor) -> NDArray[np.uint32] | NDArray[np.uint64]:
        """Combine the outputs o and o + P of (L, outputs, inputs) into pairs (L, P, inputs)."""
        upper, lower = np.split(plain(matrices).view(np.uint32), 2, axis=1)
        if fits_16_bits:
            return upper | (lower >> np.uint32(16))
        return (upper.astype(np.uint64) << np.uint64(32)) | lower

    # No non-linearity separates the last contraction from the head, so one matrix replaces both.
    head = state["head.weight"].double()
    merged_head = head @ state[f"{last}.contract.weight"].double()
    merged_bias = head @ state[f"{last}.contract.bias"].double() + state["head.bias"].double()
    qkv = [
        stack([f"{attention}.{part}.weight" for attention in attentions])
        for part in ("query", "key", "value")
    ]
    return kernels.Weights(
        token_embedding=plain(state["token_embedding.weight"]),
        position_embedding=plain(state["position_embedding.weight"]),
        norm1=norms("norm1"),
        norm2=norms("norm2"),
        qkv=pairs(torch.cat(qkv, dim=1)),
        projection=pairs(stack([f"{a}.projection.weight" for a in attentions])),
        projection_bias=plain(stack([f"{a}.projection.bias" for a in attentions])),
        expand=pairs(stack([f"{f}.expand.weight" for f in [*feed_forwards, last]])),
        expand_bias=plain(stack([f"{f}.expand.bias" for f in [*feed_forwards, last]])),
        contract=np.ascontiguousarray(
            pairs(stack([f"{f}.contract.weight" for f in feed_forwards])).transpose(0, 2, 1)
        ),
        contract_bias=plain(stack([f"{f}.contract.bias" for f in feed_forwards])),
        head=plain(merged_head.float().mT),
        head_bias=plain(merged_bias.float()),
        n_head=model.config.n_head,
    )


def is_bfloat16(tensor: Tensor) -> bool:
    """Return whether bfloat16 represents every value of a float32 tensor exactly."""
    return bool((tensor.to(torch.bfloat16).to(torch.float32) == tensor).all())
