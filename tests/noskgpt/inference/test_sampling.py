"""Draws against the definition of the distribution they come from."""

import numpy as np
import pytest
from numpy.typing import NDArray

from noskgpt import lexicon
from noskgpt.inference.sampling import Sampling, draw

LOGITS = np.array([1.0, 2.0, 0.0, 1.5], np.float32)
DRAWS = 8000


def sampling(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Sampling:
    size = len(LOGITS)
    nothing = lexicon.build("abcd", ())
    return Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        probabilities=np.empty(size),
        order=np.empty(size, np.int64),
        allowed=np.ones(size, np.bool_),
        words=(nothing, nothing),
        nodes=np.zeros(2, np.int64),
        masked=np.zeros(2, np.int64),
    )


def shares(of: Sampling) -> NDArray[np.float64]:
    uniforms = np.random.default_rng(1).random(DRAWS)
    drawn = [draw(LOGITS, of, uniform) for uniform in uniforms]
    return np.bincount(drawn, minlength=len(LOGITS)) / DRAWS


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64))
    result: NDArray[np.float64] = powers / powers.sum()
    return result


# Five standard deviations of a share of one half over 8,000 draws are 0.028.
TOLERANCE = 0.028


def test_follows_the_softmax_at_its_temperature() -> None:
    assert shares(sampling(0.7)) == pytest.approx(softmax(LOGITS / 0.7), abs=TOLERANCE)


def test_the_numbers_run_through_the_symbols_in_order() -> None:
    bounds = np.concatenate([[0], np.cumsum(softmax(LOGITS))])
    for symbol in range(len(LOGITS)):
        for uniform in (bounds[symbol] + 1e-6, bounds[symbol + 1] - 1e-6):
            assert draw(LOGITS, sampling(), uniform) == symbol


@pytest.mark.parametrize("temperature", [0, 1e-30])
def test_cold_takes_the_likeliest(temperature: float) -> None:
    assert {draw(LOGITS, sampling(temperature), u) for u in (0.0, 0.5, 0.999999)} == {1}


def test_hot_takes_any() -> None:
    assert shares(sampling(100)) == pytest.approx([0.25] * 4, abs=TOLERANCE)


def test_top_k_draws_from_the_likeliest_only() -> None:
    expected = np.array([0, *softmax(LOGITS[[1, 3]])])
    assert shares(sampling(top_k=2)) == pytest.approx(expected[[0, 1, 0, 2]], abs=TOLERANCE)
    assert shares(sampling(top_k=9)) == pytest.approx(softmax(LOGITS), abs=TOLERANCE)


def test_top_p_draws_from_the_fewest_that_reach_the_sum() -> None:
    # The likeliest two have 0.76 of the probability, the likeliest three 0.94.
    assert softmax(LOGITS)[[1, 3]].sum() == pytest.approx(0.76, abs=0.01)
    assert (shares(sampling(top_p=0.7)) > 0).tolist() == [False, True, False, True]
    assert (shares(sampling(top_p=0.8)) > 0).tolist() == [True, True, False, True]
    assert (shares(sampling(top_p=1e-9)) > 0).tolist() == [False, True, False, False]


def test_never_draws_what_is_not_allowed() -> None:
    masked = sampling(100)
    masked.allowed[1] = False
    assert shares(masked) == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=TOLERANCE)
    masked.allowed[:3] = False
    assert set(np.flatnonzero(shares(masked))) == {3}
