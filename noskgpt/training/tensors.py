"""Convert the arrays of a file to the tensors of a run, and back."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def to_arrays(value: Any) -> Any:  # noqa: ANN401 - plain values, nested
    """Return a value with an array on the CPU in place of each tensor.

    An array shares the memory of its tensor if that is on the CPU.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    return _rebuild(value, to_arrays)


def to_tensors(value: Any) -> Any:  # noqa: ANN401 - plain values, nested
    """Return a value with a tensor in place of each array, whose memory it shares."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    return _rebuild(value, to_tensors)


def _rebuild(value: Any, convert: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - as above
    """Return a dictionary, a list or a tuple of converted items; any other value as it is."""
    if isinstance(value, dict):
        return {key: convert(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(convert, value))
    return value
