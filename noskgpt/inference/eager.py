"""Decode with PyTorch, where the loops of `noskgpt.inference.decoder` cannot run."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noskgpt.inference.constraints import choose
from noskgpt.inference.decoder import Request
from noskgpt.model import GPT, KVCache


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
