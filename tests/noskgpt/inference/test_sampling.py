"""Test sampling against the definitions of the distributions."""

import numpy as np
import pytest
from numpy.typing import NDArray

from noskgpt import lexicon
from noskgpt.inference.sampling import Sampling, draw

LOGITS = np.array([1.0, 2.0, 0.0, 1.5], np.float32)
DRAWS = 8000


def sampling(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Sampling:
    size = len(LOGITS)
    empty = lexicon.build("abcd", ())
    return Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        probabilities=np.empty(size),
        order=np.empty(size, np.int64),
        allowed=np.ones(size, np.bool_),
        lexicons=(empty, empty),
        nodes=np.zeros(2, np.int64),
    )


def frequencies(of: Sampling) -> NDArray[np.float64]:
    uniforms = np.random.default_rng(1).random(DRAWS)
    symbols = [draw(LOGITS, of, uniform) for uniform in uniforms]
    return np.bincount(symbols, minlength=len(LOGITS)) / DRAWS


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64))
    result: NDArray[np.float64] = powers / powers.sum()
    return result


# Five standard deviations of a frequency of one half over 8,000 draws are 0.028.
TOLERANCE = 0.028


def test_follows_the_softmax_at_the_temperature() -> None:
    assert frequencies(sampling(0.7)) == pytest.approx(softmax(LOGITS / 0.7), abs=TOLERANCE)


def test_the_uniform_number_selects_symbols_in_order_of_id() -> None:
    bounds = np.concatenate([[0], np.cumsum(softmax(LOGITS))])
    for symbol in range(len(LOGITS)):
        for uniform in (bounds[symbol] + 1e-6, bounds[symbol + 1] - 1e-6):
            assert draw(LOGITS, sampling(), uniform) == symbol


@pytest.mark.parametrize("temperature", [0, 1e-30])
def test_a_temperature_near_zero_selects_the_most_likely(temperature: float) -> None:
    assert {draw(LOGITS, sampling(temperature), u) for u in (0.0, 0.5, 0.999999)} == {1}


def test_a_high_temperature_samples_uniformly() -> None:
    assert frequencies(sampling(100)) == pytest.approx([0.25] * 4, abs=TOLERANCE)


def test_top_k_samples_from_the_most_likely_only() -> None:
    expected = np.array([0, *softmax(LOGITS[[1, 3]])])
    assert frequencies(sampling(top_k=2)) == pytest.approx(expected[[0, 1, 0, 2]], abs=TOLERANCE)
    assert frequencies(sampling(top_k=9)) == pytest.approx(softmax(LOGITS), abs=TOLERANCE)


def test_top_p_samples_from_the_fewest_that_reach_the_sum() -> None:
    # The two most likely have 0.76 of the probability, the three most likely 0.94.
    assert softmax(LOGITS)[[1, 3]].sum() == pytest.approx(0.76, abs=0.01)
    assert (frequencies(sampling(top_p=0.7)) > 0).tolist() == [False, True, False, True]
    assert (frequencies(sampling(top_p=0.8)) > 0).tolist() == [True, True, False, True]
    assert (frequencies(sampling(top_p=1e-9)) > 0).tolist() == [False, True, False, False]


def test_never_draws_what_is_not_allowed() -> None:
    masked = sampling(100)
    masked.allowed[1] = False
    assert frequencies(masked) == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=TOLERANCE)
    masked.allowed[:3] = False
    assert set(np.flatnonzero(frequencies(masked))) == {3}
