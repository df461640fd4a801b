"""From a model to text, symbol by symbol: the compiled loops, or PyTorch where they cannot run.

Both hold a window of at most one context. Within it the result equals recomputing the whole text
for each symbol. When it is full, learned absolute positions make every key and value stale as
soon as the text moves on: the window begins anew with its last `keep` symbols. `keep` of a whole
context moves by one symbol at a time, as the reference does.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noskgpt.inference import jit
from noskgpt.inference.sampling import Sampling, choose
from noskgpt.model import GPT, KVCache

if jit.AVAILABLE:
    from noskgpt.inference import kernels

KINDS = ("weight", "bias")


class Cancellation:
    """Ends a request from another thread: at its next symbol, or within its prompt."""

    def __init__(self) -> None:
        self.flag: NDArray[np.uint8] = np.zeros(1, np.uint8)

    def cancel(self) -> None:
        """End the request; what it has written so far is its text."""
        self.flag[0] = 1

    def __bool__(self) -> bool:
        """Whether the request is to end."""
        return bool(self.flag[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a session is to do."""

    ids: NDArray[np.int64]
    """The prompt: 1 to `context` symbols."""
    sampling: Sampling
    real_words: bool
    """Whether to keep to the lexicon in `sampling`."""
    keep: int
    """How many symbols stay when a context is full."""
    cancellation: Cancellation


class Session(Protocol):
    """One request under way, for one thread at a time."""

    def write(self, uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the next symbols, one for each uniform number, or fewer if cancelled."""
        ...


class Decoder(Protocol):
    """Starts sessions, which may run in several threads at once."""

    def start(self, request: Request) -> Session:
        """Read the ids of a request and return the session that goes on behind them."""
        ...


def create_decoder(model: GPT, *, fast: bool = True) -> Decoder:
    """Return the compiled decoder, or PyTorch's where it cannot run or is not wanted."""
    if fast and jit.AVAILABLE and CompiledDecoder.fits(model):
        return CompiledDecoder(model)
    return EagerDecoder(model)


class EagerDecoder:
    """Decodes with PyTorch, holding the GIL most of the time."""

    def __init__(self, model: GPT) -> None:
        self._model = model

    def start(self, request: Request) -> "EagerSession":
        """Start a session; see `Decoder`."""
        return EagerSession(self._model, request)


class EagerSession:
    """One request of an `EagerDecoder`."""

    def __init__(self, model: GPT, request: Request) -> None:
        self._model = model
        self._request = request
        self._window = self._pending = request.ids
        self._cache = KVCache(model.config)

    def write(self, uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the next symbols; see `Session`."""
        written: list[int] = []
        context = self._model.config.context
        for uniform in uniforms:
            if self._request.cancellation:
                break
            if self._cache.length == context:
                self._cache.length = 0
                self._pending = self._window[-self._request.keep :]
            logits = self._advance(self._pending)
            symbol = int(choose(logits, self._request.sampling, uniform, self._request.real_words))
            self._pending = np.array([symbol])
            self._window = np.append(self._window[-context + 1 :], symbol)
            written.append(symbol)
        return np.array(written, np.int64)

    @torch.inference_mode()
    def _advance(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Feed ids behind the cache; return the (V,) logits of the symbol that follows."""
        logits: Tensor = self._model(torch.from_numpy(ids)[None], self._cache)
        result: NDArray[np.float32] = logits[0, -1].numpy()
        return result


class CompiledDecoder:
    """Decodes in compiled loops that hold no GIL; see `noskgpt.inference.kernels`."""

    def __init__(self, model: GPT) -> None:
        self.config = model.config
        self.weights = pack(model)

    @staticmethod
    def fits(model: GPT) -> bool:
        """Return whether the loops, which take eight channels at a time, can run the shape."""
        config = model.config
        return (config.n_embd // config.n_head) % 8 == 0

    def start(self, request: Request) -> "CompiledSession":
        """Start a session; see `Decoder`."""
        return CompiledSession(self, request)


class CompiledSession:
    """One request of a `CompiledDecoder`."""

    def __init__(self, decoder: CompiledDecoder, request: Request) -> None:
        self._weights = decoder.weights
        self._request = request
        config = decoder.config
        wide = 4 * config.n_embd
        cache = (config.n_layer, config.n_embd, config.context + kernels.PADDING)
        self.state = kernels.State(
            keys=np.empty(cache, np.float32),
            values=np.empty(cache, np.float32),
            window=np.empty(config.context, np.int64),
            counts=np.array([0, -1], np.int64),
            x=np.empty((kernels.BLOCK, config.n_embd), np.float32),
            normed=np.empty((kernels.BLOCK, config.n_embd), np.float32),
            wide=np.empty((kernels.BLOCK, wide), np.float32),
            scores=np.empty(config.context, np.float32),
            active=np.empty(wide, np.int64),
            amounts=np.empty(wide, np.float32),
            logits=np.empty(config.vocab_size, np.float32),
        )
        kernels.prefill(self._weights, self.state, request.ids, request.cancellation.flag)

    def write(self, uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the next symbols; see `Session`."""
        out = np.empty(len(uniforms), np.int64)
        count = kernels.decode(
            self._weights,
            self.state,
            self._request.sampling,
            uniforms,
            self._request.real_words,
            self._request.keep,
            self._request.cancellation.flag,
            out,
        )
        return out[:count]


def pack(model: GPT) -> "kernels.Weights":
    """Return a model's weights in the order in which the loops read them.

    Matrices whose weights all have a bfloat16's 8 significant bits, as the trainer leaves them,
    are kept with 16 bits a weight, others with 32: either way without any rounding.
    """
    state = {name: t.detach().to("cpu", torch.float32) for name, t in model.state_dict().items()}
    narrow = all(is_bfloat16(matrix) for matrix in model.hidden_matrices().values())
    blocks = [f"blocks.{i}" for i in range(model.config.n_layer)]
    attentions = [f"{block}.attention" for block in blocks]
    forwards = [f"{block}.feed_forward" for block in blocks]
    last = "feed_forward"

    def plain(tensor: Tensor) -> NDArray[np.float32]:
        return np.array(tensor.numpy(), np.float32, order="C")

    def stack(names: list[str]) -> Tensor:
        return torch.stack([state[name] for name in names])

    def norms(name: str) -> NDArray[np.float32]:
        kinds = [stack([f"{block}.{name}.{kind}" for block in blocks]) for kind in KINDS]
        return plain(torch.stack(kinds, dim=1))

    def pairs(matrices: Tensor) -> NDArray[np.uint32] | NDArray[np.uint64]:
        """Pair the outputs o and o + P of (L, outputs, inputs): (L, P, inputs)."""
        upper, lower = np.split(plain(matrices).view(np.uint32), 2, axis=1)
        if narrow:
            return upper | (lower >> np.uint32(16))
        return (upper.astype(np.uint64) << np.uint64(32)) | lower

    # Nothing non-linear stands between the last contraction and the head.
    head = state["head.weight"].double()
    contraction = head @ state[f"{last}.contract.weight"].double()
    bias = head @ state[f"{last}.contract.bias"].double() + state["head.bias"].double()
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
        expand=pairs(stack([f"{f}.expand.weight" for f in [*forwards, last]])),
        expand_bias=plain(stack([f"{f}.expand.bias" for f in [*forwards, last]])),
        contract=np.ascontiguousarray(
            pairs(stack([f"{f}.contract.weight" for f in forwards])).transpose(0, 2, 1)
        ),
        contract_bias=plain(stack([f"{f}.contract.bias" for f in forwards])),
        head=plain(contraction.float().mT),
        head_bias=plain(bias.float()),
        n_head=model.config.n_head,
    )


def is_bfloat16(tensor: Tensor) -> bool:
    """Return whether bfloat16 holds every value of a float32 tensor exactly."""
    return bool((tensor.to(torch.bfloat16).to(torch.float32) == tensor).all())
