"""Failures of the machine, named with their remedy in one line."""

import errno
import os

import pytest
import torch

from noskgpt.errors import TrainingError
from noskgpt.training import hardware

MEMORY = "too little free memory"


@pytest.mark.parametrize(
    ("error", "place", "problem"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "The GPU", MEMORY),
        (RuntimeError("CUDA error: out of memory\nCompile with ..."), "The GPU", MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "The GPU", MEMORY),
        (MemoryError(), "This machine", MEMORY),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), "This machine", MEMORY),
        (
            RuntimeError("CUDA error: no kernel image\nFor debugging ..."),
            "The GPU",
            "no kernel image",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "The disk", "is full"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "The disk", "is full"),
    ],
)
def test_names_a_lack_and_a_failure_of_the_gpu_in_one_line(
    error: Exception, place: str, problem: str
) -> None:
    with pytest.raises(TrainingError, match=problem) as caught, hardware.named_failures():
        raise error
    assert str(caught.value).startswith(place)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error


def test_names_a_lack_of_memory_that_the_allocator_reports() -> None:
    with pytest.raises(TrainingError, match=MEMORY), hardware.named_failures():
        torch.empty(2**60)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Error(s) in loading state_dict for GPT: size mismatch"),
        OSError(errno.EACCES, os.strerror(errno.EACCES)),
        ValueError("out of memory"),
    ],
)
def test_leaves_other_errors_alone(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, hardware.named_failures():
        raise error
    assert caught.value is error
