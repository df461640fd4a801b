"""Connect the processes of a data-parallel run that `torchrun` started; without it, use one."""

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
    """Represent this process, number `rank` of `size`, in the group of processes of a run."""

    device: torch.device
    rank: int = 0
    size: int = 1

    def wrap(self, model: GPT) -> torch.nn.Module:
        """Wrap `model` so that its backward pass averages gradients over the group."""
        if self.size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids)

    def sum(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over the group, and return it."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def broadcast(self, *numbers: int) -> list[int]:
        """Return the numbers that the first process passed."""
        if self.size == 1:
            return list(numbers)
        shared = torch.tensor(numbers, device=self.device)
        distributed.broadcast(shared, src=0)
        return [int(number) for number in shared]


@contextmanager
def join(device: torch.device | None = None) -> Iterator[Group]:
    """Join the group described by the environment variables of `torchrun`, or use one process.

    Gradients are exchanged with gloo between CPUs and with NCCL between GPUs.
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
