"""Detect the training device, measure its precision and speed, and name its failures."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from noskgpt.checkpoint import DISK_FULL
from noskgpt.errors import TrainingError
from noskgpt.model import GPT

_SIDE = {"cpu": 1024, "cuda": 4096}
_MIN_SPEEDUP = 1.2
"""How much faster bfloat16 products must be before full training passes are compared."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


# PyTorch has a class for the failures of its own allocator alone; the others are plain errors.
_MEMORY = re.compile(r"out of memory|not enough memory|allocate memory|ALLOC_FAILED", re.IGNORECASE)
_GPU = re.compile(r"CUDA|CUBLAS|CUDNN|HIP error|NVIDIA")


def best_device() -> torch.device:
    """Return the GPU if PyTorch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return a context manager that computes in `precision`, ``fp32`` or ``bf16``."""
    if precision == "bf16":
        # A pass uses each weight once, so the cache saves nothing; and threads share the cache,
        # so that each would clear it for the others.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    return nullcontext()


def measure_peak(device: torch.device, precision: str, *, side: int | None = None) -> float:
    """Return the floating-point operations per second of square matrix products, best of five."""
    side = side or _SIDE[device.type]
    left, right = (torch.rand(side, side, device=device, dtype=DTYPES[precision]) for _ in "ab")
    return 2 * side**3 / _best_seconds(lambda: left @ right, device, 5)


def choose_precision(model: GPT) -> str:
    """Measure training passes and return the faster precision, ``bf16`` or ``fp32``.

    This takes about a second. Matrix products are compared first: a processor that emulates
    bfloat16 computes them a hundred times more slowly, so a full pass would take long.
    """
    device = next(model.parameters()).device
    side = _SIDE[device.type] // 4
    peaks = {name: measure_peak(device, name, side=side) for name in DTYPES}
    if peaks["bf16"] < _MIN_SPEEDUP * peaks["fp32"]:
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
    """Return the shortest duration of `work` in several rounds, in seconds."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return best


@contextmanager
def named_failures() -> Iterator[None]:
    """Raise `TrainingError` for a lack of memory or disk space and for a failure of the GPU.

    PyTorch and the system report these by many errors, some of which look like damaged data.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        problem = _describe_failure(error)
        if problem is None:
            raise
        raise TrainingError(problem) from error


def _describe_failure(error: Exception) -> str | None:
    """Return the problem and the remedy in one line; None for any other error."""
    text = str(error)
    if isinstance(error, OSError):
        full = error.errno in DISK_FULL
        return f"The disk is full ({error.strerror}). Free space on it." if full else None
    on_gpu = isinstance(error, torch.OutOfMemoryError) or _GPU.search(text) is not None
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or _MEMORY.search(text):
        place, other = ("The GPU", "the processor") if on_gpu else ("This machine", "another one")
        return (
            f"{place} has too little free memory for this run. Use fewer rows per step (a smaller "
            "--batch, or the preset quick or default), end other programs that use the memory, "
            f"or train on {other}."
        )
    if on_gpu:
        return f"The GPU failed ({text.splitlines()[0]}). Train on the processor or another GPU."
    return None
