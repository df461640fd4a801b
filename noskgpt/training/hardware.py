"""What a machine can do: its device, the precision it is fast in, its matrix-multiply peak."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from noskgpt.model import GPT

_SIDE = {"cpu": 1024, "cuda": 4096}
_WORTH_TRYING = 1.2
"""bfloat16 products must be so much faster before whole passes are compared."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def best_device() -> torch.device:
    """Return the GPU if PyTorch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context that computes in `precision`, ``fp32`` or ``bf16``."""
    if precision == "bf16":
        # A pass uses each weight once, so that there is nothing to cache; and the cache is shared
        # by threads, which clear it for each other.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    return nullcontext()


def measure_peak(device: torch.device, precision: str, *, side: int | None = None) -> float:
    """Return the floating-point operations a second of square matrix products, the best of five."""
    side = side or _SIDE[device.type]
    left, right = (torch.rand(side, side, device=device, dtype=DTYPES[precision]) for _ in "ab")
    return 2 * side**3 / _best_seconds(lambda: left @ right, device, 5)


def choose_precision(model: GPT) -> str:
    """Return ``bf16`` if training passes are faster in it here, else ``fp32``.

    Takes about a second. Products alone are compared first: where a processor has to emulate
    bfloat16 they are a hundred times as slow, and a whole pass would take long.
    """
    device = next(model.parameters()).device
    side = _SIDE[device.type] // 4
    rates = {name: measure_peak(device, name, side=side) for name in DTYPES}
    if rates["bf16"] < _WORTH_TRYING * rates["fp32"]:
        return "fp32"
    ids = torch.zeros((4, model.config.context), dtype=torch.int64, device=device)

    def training_pass(precision: str) -> None:
        with autocast(device, precision):
            logits = model(ids)
        logits.float().square().mean().backward()

    seconds = {
        name: _best_seconds(lambda name=name: training_pass(name), device, 3)  # type: ignore[misc]
        for name in DTYPES
    }
    model.zero_grad(set_to_none=True)
    return min(seconds, key=lambda name: seconds[name])


def _best_seconds(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return best
