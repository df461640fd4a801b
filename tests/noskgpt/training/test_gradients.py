"""Test gradients computed in several threads against those computed in one."""

import threading
from collections.abc import Callable
from contextlib import closing

import pytest
import torch

from noskgpt.config import ModelConfig
from noskgpt.model import GPT, KVCache
from noskgpt.training.gradients import Gradients


def gradients_of(
    model: GPT, batch: torch.Tensor, precision: str, threads: int
) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    with closing(Gradients(model, precision, threads)) as gradients:
        loss = gradients.compute(batch[:, :-1], batch[:, 1:])
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(found) == len(list(model.parameters()))
    return float(loss), found


@pytest.mark.parametrize(("rows", "threads"), [(4, 2), (5, 2), (5, 3), (2, 4)])
def test_several_threads_compute_the_gradients_of_one(
    set_threads: Callable[[int], None], rows: int, threads: int
) -> None:
    set_threads(threads)
    random = torch.Generator().manual_seed(1)
    model = GPT(ModelConfig())
    model.initialize(random)
    batch = torch.randint(65, (rows, 65), generator=random)
    loss, expected = gradients_of(model, batch, "fp32", 1)
    for _ in range(2):
        shared_loss, found = gradients_of(model, batch, "fp32", threads)
        assert shared_loss == pytest.approx(loss, rel=1e-6)
        for actual, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-6)


def test_repeated_results_are_equal_bit_for_bit(set_threads: Callable[[int], None]) -> None:
    set_threads(2)
    model = GPT(ModelConfig())
    batch = torch.randint(65, (4, 33))
    loss, first = gradients_of(model, batch, "fp32", 2)
    for _ in range(3):
        again, found = gradients_of(model, batch, "fp32", 2)
        assert again == loss
        assert all(map(torch.equal, first, found))


def test_bfloat16_in_threads(set_threads: Callable[[int], None]) -> None:
    set_threads(2)
    model = GPT(ModelConfig())
    batch = torch.randint(65, (4, 17))
    loss, expected = gradients_of(model, batch, "fp32", 1)
    rounded, found = gradients_of(model, batch, "bf16", 2)
    assert rounded != loss
    assert rounded == pytest.approx(loss, rel=0.02)
    difference = sum(float((a - b).norm()) for a, b in zip(found, expected, strict=True))
    assert difference < 0.1 * sum(float(b.norm()) for b in expected)


def test_a_failure_in_a_thread_is_raised(set_threads: Callable[[int], None]) -> None:
    set_threads(2)
    outside = torch.full((4, 9), 65)
    both = Gradients(GPT(ModelConfig()), "fp32", 2)
    with closing(both) as gradients, pytest.raises(IndexError):
        gradients.compute(outside[:, :-1], outside[:, 1:])


class Counting(GPT):
    """Record PyTorch's number of threads at each forward pass."""

    def forward(self, ids: torch.Tensor, cache: KVCache | None = None) -> torch.Tensor:
        logits = super().forward(ids, cache)
        self.numbers.append(torch.get_num_threads())
        return logits

    numbers: list[int]


def test_threads_divide_pytorchs_number_of_threads(set_threads: Callable[[int], None]) -> None:
    set_threads(4)
    model = Counting(ModelConfig())
    model.numbers = []
    batch = torch.randint(65, (4, 9))
    for threads, each in ((1, 4), (2, 2), (3, 1), (4, 1)):
        gradients_of(model, batch, "fp32", threads)
        assert model.numbers == [each] * threads
        model.numbers.clear()


def test_keeps_pytorchs_number_of_threads_and_stops_its_own_threads(
    set_threads: Callable[[int], None],
) -> None:
    set_threads(4)
    before = threading.active_count()
    with closing(Gradients(GPT(ModelConfig()), "fp32", 2)):
        assert threading.active_count() == before + 2
        assert torch.get_num_threads() == 4
        numbers: list[int] = []
        later = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert numbers == [4]
    assert threading.active_count() == before
