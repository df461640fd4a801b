"""Test generation: equality with full recomputation, seeds, threads, streaming and arguments."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import noskgpt
from noskgpt import scene
from noskgpt.checkpoint import Checkpoint, TrainingRecord
from noskgpt.corpus import load_corpus


@pytest.fixture(scope="module", params=["compiled", "PyTorch"])
def bard(request: pytest.FixtureRequest, weights_file: Path) -> noskgpt.Generator:
    """Return a generator with untrained weights, for each decoder."""
    return noskgpt.load(weights_file, fast=request.param == "compiled")


@torch.inference_mode()
def greedy(bard: noskgpt.Generator, prompt: str, count: int) -> str:
    """Return the most likely characters, recomputing the context for each."""
    ids = bard.tokenizer.encode(prompt)
    for _ in range(count):
        ids.append(int(bard.model(torch.tensor([ids[-256:]]))[0, -1].argmax()))
    return bard.tokenizer.decode(ids[-count:])


def test_equals_full_recomputation_within_the_context(bard: noskgpt.Generator) -> None:
    assert bard.generate("ROMEO:", 250, temperature=0) == greedy(bard, "ROMEO:", 250)


def test_keeps_the_last_eighth_of_a_full_context(bard: noskgpt.Generator) -> None:
    text = "ROMEO:" + bard.generate("ROMEO:", 500, temperature=0)
    # 256 characters fill the context; the next one is sampled with the 32 before it.
    assert text[256] == greedy(bard, text[:256], 1)
    assert text[257] == greedy(bard, text[225:257], 1)
    assert text[481] == greedy(bard, text[225:481], 1)
    assert text[482] == greedy(bard, text[450:482], 1)


def test_exact_keeps_the_full_context(bard: noskgpt.Generator) -> None:
    prompt = "".join(bard.stream("x", 250, seed=1))
    assert bard.generate(prompt, 30, temperature=0, exact=True) == greedy(bard, prompt, 30)


def test_uses_the_end_of_a_prompt_longer_than_the_context(bard: noskgpt.Generator) -> None:
    prompt = "".join(bard.stream("x", 300, seed=1))
    assert bard.generate(prompt, 20, seed=2) == bard.generate(prompt[-256:], 20, seed=2)


def test_the_same_seed_gives_the_same_text_with_other_threads_running(
    bard: noskgpt.Generator,
) -> None:
    alone = [bard.generate("JULIET:", 120, seed=seed) for seed in range(4)]
    assert len(set(alone)) == 4
    with ThreadPoolExecutor(4) as executor:
        together = list(executor.map(lambda s: bard.generate("JULIET:", 120, seed=s), range(4)))
    assert together == alone
    assert bard.generate("JULIET:", 120) != bard.generate("JULIET:", 120)


def test_streamed_pieces_form_the_generated_text(bard: noskgpt.Generator) -> None:
    pieces = list(bard.stream("HAMLET:", 300, seed=9))
    assert len(pieces) > 1
    assert "".join(pieces) == bard.generate("HAMLET:", 300, seed=9)
    assert len("".join(pieces)) == 300


@pytest.mark.parametrize("prompt", ["", "🎭", "12", "\ud800", "\x00"])
def test_continues_prompts_without_a_character_of_the_vocabulary(
    bard: noskgpt.Generator, prompt: str
) -> None:
    assert len(bard.generate(prompt, 5)) == 5


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_chars": -1},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"seed": -1},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": 1.1},
    ],
)
def test_rejects_arguments_out_of_range_at_the_call(
    bard: noskgpt.Generator, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be"):
        bard.stream("x", **arguments)


def test_the_casts_are_those_of_the_text_that_the_weights_were_trained_on(
    random_checkpoint: Checkpoint, tmp_path: Path, small_corpus: Path
) -> None:
    plays = load_corpus()
    of_plays = replace(random_checkpoint, training=TrainingRecord(corpus_sha256=plays.sha256))
    assert noskgpt.Generator(of_plays).casts == scene.build(plays.plays)
    for unknown in (None, load_corpus(small_corpus).sha256):
        trained = TrainingRecord(corpus_sha256=unknown)
        other = noskgpt.Generator(replace(random_checkpoint, training=trained))
        assert other.casts == scene.Casts()
        plain = other.generate("JULIET:\nO Romeo,", 50, seed=1)
        assert other.generate("JULIET:\nO Romeo,", 50, seed=1, cast=True) == plain
    own = scene.Casts(({"STEVE": 3},))
    noskgpt.checkpoint.save(replace(of_plays, casts=own), tmp_path / "own.pth")
    assert noskgpt.load(tmp_path / "own.pth").casts == own


def test_a_scene_uses_the_whole_prompt() -> None:
    bard = noskgpt.load()
    speech = "and some words that name nobody, as long as a window\n" * 8
    prompt = f"OPHELIA:\nHamlet! {speech}\nSTEVE:\n{speech}And so I ask, Ophelia?"
    for seed in range(5):
        reply = bard.generate(prompt, 200, seed=seed, cast=True)
        assert reply.startswith("\n\nOPHELIA:\n")
