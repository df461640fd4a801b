"""Generated text: exact within the context, repeatable, safe for threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import noskgpt
from noskgpt.generator import sample


@pytest.fixture(scope="module")
def bard(weights_file: Path) -> noskgpt.Generator:
    """Return the small weights, loaded."""
    return noskgpt.load(weights_file)


@torch.inference_mode()
def greedy(bard: noskgpt.Generator, prompt: str, count: int) -> str:
    """Return the likeliest characters, recomputing everything for each."""
    ids = bard.tokenizer.encode(prompt)
    for _ in range(count):
        ids.append(int(bard.model(torch.tensor([ids[-256:]]))[0, -1].argmax()))
    return bard.tokenizer.decode(ids[-count:])


def test_equals_full_recomputation_within_the_context(bard: noskgpt.Generator) -> None:
    assert bard.generate("ROMEO:", 250, temperature=0) == greedy(bard, "ROMEO:", 250)


def test_beyond_the_context_it_goes_on_from_the_last_half(bard: noskgpt.Generator) -> None:
    text = "ROMEO:" + bard.generate("ROMEO:", 400, temperature=0)
    # 256 characters are the last that fit; the next is drawn with the 128 before it.
    assert text[256] == greedy(bard, text[:256], 1)
    assert text[257] == greedy(bard, text[129:257], 1)
    assert text[385] == greedy(bard, text[129:385], 1)
    assert text[386] == greedy(bard, text[258:386], 1)


def test_takes_the_end_of_a_prompt_longer_than_the_context(bard: noskgpt.Generator) -> None:
    prompt = "".join(bard.stream("x", 300, seed=1))
    assert bard.generate(prompt, 20, seed=2) == bard.generate(prompt[-256:], 20, seed=2)


def test_the_same_seed_gives_the_same_text_whatever_runs_beside_it(
    bard: noskgpt.Generator,
) -> None:
    alone = [bard.generate("JULIET:", 120, seed=seed) for seed in range(4)]
    assert len(set(alone)) == 4
    with ThreadPoolExecutor(4) as executor:
        together = list(executor.map(lambda s: bard.generate("JULIET:", 120, seed=s), range(4)))
    assert together == alone
    assert bard.generate("JULIET:", 120) != bard.generate("JULIET:", 120)


def test_streams_the_text_that_it_generates(bard: noskgpt.Generator) -> None:
    pieces = list(bard.stream("HAMLET:", 300, seed=9))
    assert len(pieces) > 1
    assert "".join(pieces) == bard.generate("HAMLET:", 300, seed=9)
    assert len("".join(pieces)) == 300


@pytest.mark.parametrize("prompt", ["", "🎭", "12", "\ud800", "\x00"])
def test_answers_prompts_without_a_character_it_knows(bard: noskgpt.Generator, prompt: str) -> None:
    assert len(bard.generate(prompt, 5)) == 5


@pytest.mark.parametrize(
    "arguments",
    [{"max_chars": -1}, {"temperature": -0.1}, {"temperature": float("nan")}, {"seed": -1}],
)
def test_refuses_settings_out_of_range_at_the_call(
    bard: noskgpt.Generator, arguments: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match=r"must be from 0|whole number from 0"):
        bard.stream("x", **arguments)


def test_sampling_follows_the_softmax_at_its_temperature() -> None:
    logits = torch.tensor([1.0, 2.0, 0.0])
    random = torch.Generator().manual_seed(1)
    draws = torch.tensor([sample(logits, 0.7, random) for _ in range(8000)])
    shares = torch.bincount(draws, minlength=3) / len(draws)
    # Five standard deviations of a share of one half over 8,000 draws are 0.028.
    torch.testing.assert_close(shares, (logits / 0.7).softmax(-1), rtol=0, atol=0.028)
    assert sample(logits, 1e-30, random) == 1
