"""Test Muon: its orthogonalisation, and its steps against PyTorch's implementation."""

import pytest
import torch

from noskgpt.training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 64, 16), (2, 16, 64)])
def test_singular_values_become_about_one_and_vectors_stay(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    result = orthogonalize(matrices)
    assert result.shape == shape
    values = torch.linalg.svdvals(result)
    # A square Gaussian matrix also has singular values near zero, which grow but stay below 1.
    assert values.max() < 1.3
    assert values.median() > 0.65
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ result @ v.mT
    off_diagonal = inside - torch.diag_embed(inside.diagonal(dim1=1, dim2=2))
    assert off_diagonal.abs().max() < 1e-3


def test_steps_equal_those_of_pytorch() -> None:
    random = torch.Generator().manual_seed(1)
    shapes = [(16, 16), (64, 16), (16, 16), (16, 64)]
    start = [torch.randn(shape, generator=random) for shape in shapes]
    moved = []
    for optimizer_class in (Muon, torch.optim.Muon):
        parameters = [torch.nn.Parameter(t.clone()) for t in start]
        optimizer = optimizer_class(parameters, lr=0.02, weight_decay=0.1)
        gradients = torch.Generator().manual_seed(2)
        for _ in range(4):
            for p in parameters:
                p.grad = torch.randn(p.shape, generator=gradients)
            optimizer.step()
        moved.append([(p.detach() - t) for p, t in zip(parameters, start, strict=True)])
    for ours, theirs in zip(*moved, strict=True):
        # PyTorch's implementation computes in bfloat16.
        assert (ours - theirs).norm() < 0.03 * theirs.norm()


def test_rejects_parameters_that_are_not_matrices() -> None:
    with pytest.raises(ValueError, match="matrices"):
        Muon([torch.nn.Parameter(torch.zeros(3))])
