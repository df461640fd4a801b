"""Real, short training runs."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from noskgpt import training
from noskgpt.corpus import load_corpus
from noskgpt.errors import CorpusError, TrainingError
from noskgpt.evaluation import evaluate
from noskgpt.model import GPT, ModelConfig
from noskgpt.tokenizer import VOCABULARY, Tokenizer

CONFIG = training.TrainingConfig(
    steps=30, batch=4, warmup_steps=5, evaluate_every=15, report_every=5, precision="fp32"
)


def run(path: Path, config: training.TrainingConfig = CONFIG) -> list[training.Event]:
    """Train on a file and return every event."""
    return list(training.train(load_corpus(path), config, command="noskgpt train"))


def test_learns_and_records_what_it_did(small_corpus: Path) -> None:
    *progress, finished = run(small_corpus)
    assert isinstance(finished, training.Finished)
    assert all(isinstance(event, training.Progress) for event in progress)
    steps = [event.step for event in progress if isinstance(event, training.Progress)]
    assert steps == [1, 5, 10, 15, 20, 25, 30]
    record = finished.checkpoint.training
    assert record.held_out_loss is not None
    assert record.held_out_loss < 2.6 < math.log(65)  # letters alone, without order, give 2.6
    assert (record.steps, record.command) == (30, "noskgpt train")
    corpus = load_corpus(small_corpus)
    assert record.corpus_sha256 == corpus.sha256
    ids = torch.tensor(Tokenizer(finished.checkpoint.vocabulary).encode(corpus.held_out))
    again = evaluate(finished.checkpoint.build_model(), ids)
    assert again.loss == pytest.approx(record.held_out_loss, abs=1e-6)


def test_the_same_seed_gives_the_same_weights(small_corpus: Path) -> None:
    config = replace(CONFIG, steps=4, dropout=0.1)
    names = []
    for seed in (1, 1, 2):
        finished = run(small_corpus, replace(config, seed=seed))[-1]
        assert isinstance(finished, training.Finished)
        names.append(finished.checkpoint.fingerprint())
    assert names[0] == names[1] != names[2]


def test_takes_the_alphabet_of_a_foreign_text(tmp_path: Path) -> None:
    path = tmp_path / "greek.txt"
    path.write_text("μῆνιν ἄειδε θεὰ\n" * 1000, encoding="utf-8")
    finished = run(path, replace(CONFIG, steps=1))[-1]
    assert isinstance(finished, training.Finished)
    assert set(finished.checkpoint.vocabulary) == set("μῆνιν ἄειδε θεὰ\n")


def test_stops_when_the_loss_is_no_longer_a_number(small_corpus: Path) -> None:
    with pytest.raises(TrainingError, match="no longer a number"):
        run(small_corpus, replace(CONFIG, adam_rate=float("inf"), steps=10))


def test_evaluation_equals_the_definition() -> None:
    model = GPT(ModelConfig()).eval()
    ids = torch.randint(65, (600,))
    total = 0.0
    with torch.inference_mode():
        for start in range(0, 599, 256):
            window = ids[start : start + 257]
            log_probabilities = model(window[None, :-1])[0].log_softmax(-1)
            total -= sum(float(log_probabilities[i, s]) for i, s in enumerate(window[1:]))
    result = evaluate(model, ids)
    assert result.characters == 599
    assert result.loss == pytest.approx(total / 599, rel=1e-4)
    assert result.bits_per_character == pytest.approx(result.loss / math.log(2))


def test_an_epoch_deals_every_window_once_and_targets_follow_inputs() -> None:
    ids = torch.arange(256 * 10)
    batches = training.draw_batches(ids, 4, 256, torch.Generator().manual_seed(1))
    starts = set()
    for _ in range(2):
        inputs, targets = next(batches)
        assert torch.equal(inputs + 1, targets)
        starts |= set(inputs[:, 0].tolist())
    assert len(starts) == 8
    assert len({start % 256 for start in starts}) == 1


def test_rates_rise_stay_and_fall_to_nothing() -> None:
    config = training.TrainingConfig(steps=1000, warmup_steps=100, decay_share=0.6)
    factors = [training.rate_factor(step, config) for step in range(1000)]
    assert factors[0] == pytest.approx(0.01)
    assert factors[250] == 1.0
    assert factors[700] == pytest.approx(0.5)
    assert 0 < factors[999] < 0.01


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"short", "too few"),
        (b"a" * 20_000, "one character"),
        (b"\xff\xfe\x00" * 9000, "not a UTF-8 text"),
        ("".join(map(chr, range(256, 600))).encode() * 100, "different characters"),
    ],
)
def test_refuses_a_corpus_that_is_none(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=rf"corpus\.txt: .*{complaint}"):
        load_corpus(path)
    with pytest.raises(CorpusError, match=r"none\.txt"):
        load_corpus(tmp_path / "none.txt")


def test_holds_out_the_last_tenth_from_the_beginning_of_a_line(small_corpus: Path) -> None:
    corpus = load_corpus(small_corpus)
    assert corpus.train.endswith(".\n")
    assert corpus.train + corpus.held_out == small_corpus.read_text(encoding="utf-8")
    assert 0.09 < len(corpus.held_out) / len(corpus.train + corpus.held_out) <= 0.1
    assert set(corpus.vocabulary) <= set(VOCABULARY)
