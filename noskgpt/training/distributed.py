"""The processes of a data-parallel run, as `torchrun` starts them; one process without it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from noskgpt.model import GPT
from noskgpt.training.hardware import best_device


@dataclass(frozen=True, slots=True)
class Group:
    """This process among those of a run."""

    device: torch.device
    rank: int = 0
    size: int = 1

    def wrap(self, model: GPT) -> torch.nn.Module:
        """Return `model` such that its backward pass averages gradients over the group."""
        if self.size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids)

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over the group, in place."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def agree(self, *numbers: int) -> list[int]:
        """Return the numbers that the first process has."""
        if self.size == 1:
            return list(numbers)
        shared = torch.tensor(numbers, device=self.device)
        distributed.broadcast(shared, src=0)
        return [int(number) for number in shared]


@contextmanager
def join(device: torch.device | None = None) -> Iterator[Group]:
    """Join the group that the environment of `torchrun` describes, or be alone.

    Gradients travel over gloo between CPUs and over nccl between GPUs.
    """
    device = device or best_device()
    if "WORLD_SIZE" not in os.environ:
        yield Group(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(device, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
