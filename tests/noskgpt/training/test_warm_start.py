"""Test runs that start from trained weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from noskgpt import checkpoint as checkpoints
from noskgpt import coverage, lexicon
from noskgpt.checkpoint import Checkpoint
from noskgpt.config import ModelConfig
from noskgpt.corpus import load_corpus
from noskgpt.errors import TrainingError
from noskgpt.evaluation import evaluate
from noskgpt.model import GPT
from noskgpt.runs import Finished, Interrupted, Progress, Started
from noskgpt.tokenizer import VOCABULARY, Tokenizer
from noskgpt.training import warm_start
from noskgpt.training.gradients import Gradients
from noskgpt.training.recipe import TrainingConfig, fine_tuning_factor
from noskgpt.training.trainer import Trainer
from noskgpt.training.updates import Updates
from tests.noskgpt.test_cli import noskgpt

CONFIG = TrainingConfig(steps=6, batch=2, report_every=1, evaluations=1, precision="fp32")


@pytest.fixture(scope="module")
def start() -> Checkpoint:
    """Return weights of a small model that know the word `Ophelia`."""
    model = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=16))
    model.initialize(torch.Generator().manual_seed(3))
    return Checkpoint(
        config=model.config,
        vocabulary=VOCABULARY,
        weights=model.arrays(),
        training=checkpoints.TrainingRecord(command="noskgpt train --preset best"),
        lexicon=lexicon.build(VOCABULARY, {"ophelia", "o'er", "o"}),
    )


@pytest.fixture
def start_file(start: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "start.pth"
    checkpoints.save(start, path)
    return path


def loss_of(checkpoint: Checkpoint, text: str) -> float:
    ids = torch.tensor(Tokenizer(checkpoint.vocabulary).encode(text))
    return evaluate(checkpoint.build_model(), ids).loss


def test_a_run_starts_from_the_weights_and_records_them(
    small_corpus: Path, start: Checkpoint
) -> None:
    corpus = load_corpus(small_corpus)
    started, *progress, finished = Trainer(corpus, CONFIG, start=start).run()
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    before = loss_of(start, corpus.held_out)
    assert started.start_weights == f"noskgpt-{start.fingerprint()}"
    assert started.start_loss == pytest.approx(before, abs=1e-5)
    assert started.evaluated_characters == started.held_out_characters == len(corpus.held_out)
    record = finished.checkpoint.training
    assert (record.start_weights, record.start_loss) == (started.start_weights, started.start_loss)
    assert record.start_command == "noskgpt train --preset best"
    assert record.evaluated_fraction == 1
    assert record.held_out_loss is not None
    assert record.held_out_loss < before
    assert loss_of(finished.checkpoint, corpus.held_out) == pytest.approx(
        record.held_out_loss, abs=1e-5
    )
    assert finished.checkpoint.config == start.config
    first = progress[0]
    assert isinstance(first, Progress)
    assert first.train_loss == pytest.approx(before, abs=0.1)  # not the loss of other weights
    words = finished.checkpoint.lexicon
    for word, known in (("ophelia", True), ("o'er", True), ("fool", True), ("hamlet", False)):
        assert lexicon.contains(words, Tokenizer().encode(word)) == known  # type: ignore[arg-type]


def test_a_stopped_run_from_weights_resumes_bit_for_bit(
    small_corpus: Path, start: Checkpoint
) -> None:
    corpus = load_corpus(small_corpus)
    *_, whole = Trainer(corpus, CONFIG, start=start).run()
    stopped = Trainer(corpus, CONFIG, start=start)
    for event in stopped.run():
        if isinstance(event, Progress) and event.step == 2:
            stopped.stop()
    assert isinstance(event, Interrupted)
    resumed, *_, end = Trainer(corpus, state=stopped.state()).run()
    assert isinstance(resumed, Started)
    assert isinstance(whole, Finished)
    assert isinstance(end, Finished)
    assert 0 < resumed.step < 6
    assert end.checkpoint.fingerprint() == whole.checkpoint.fingerprint()
    one, other = (replace(e.checkpoint.training, seconds=0, finished_at="") for e in (whole, end))
    assert one == other
    assert resumed.start_loss == one.start_loss is not None
    for mine, theirs in zip(
        whole.checkpoint.lexicon or (), end.checkpoint.lexicon or (), strict=True
    ):
        assert (mine == theirs) if isinstance(mine, int) else (mine == theirs).all()


def test_learning_rates_are_lower_the_more_often_the_text_is_passed_over(
    small_corpus: Path, start: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors = [fine_tuning_factor(passes) for passes in (0.01, 2.8, 7, 70)]
    assert factors == pytest.approx([0.25, 0.25, 0.1, 0.01])
    corpus = load_corpus(small_corpus)
    config = replace(CONFIG, batch=1, steps=round(7 * len(corpus.train) / 256), warmup_fraction=0.1)
    trainer = Trainer(corpus, config, start=start)
    used: list[float] = []

    def keep_lr(updates: Updates, step: int, steps: int, gradients: Gradients) -> float:
        loss = take_step(updates, step, steps, gradients)
        used.append(updates.optimizers[0].param_groups[0]["lr"])
        return loss

    take_step = Updates.take_step
    monkeypatch.setattr(Updates, "take_step", keep_lr)
    list(trainer.run())
    assert len(used) == config.steps
    assert max(used) == pytest.approx(0.1 * config.muon_lr, rel=0.15)  # the decay has begun


def test_a_text_is_converted_to_the_vocabulary_of_the_weights(
    tmp_path: Path, start: Checkpoint
) -> None:
    path = tmp_path / "modern.txt"
    path.write_text("“Café” — she said (twice)\n" * 1000 + "§\n" * 2, encoding="utf-8")
    corpus = load_corpus(path)
    described = warm_start.StartWeights.of(start)
    mostly = replace(corpus, train="“Café”\n" * 999 + "(§)\n", held_out="“Café”\n")
    folded, missing = warm_start.fold(mostly, described)
    assert folded.train == "'Cafe'\n" * 999 + "\n"
    assert set(missing.characters) == set("()§")
    assert 0 < missing.fraction < coverage.MAX_LEFT_OUT
    assert folded.sha256 == corpus.sha256
    with pytest.raises(
        TrainingError, match=r"7\.7% of the text are .*: \( \) §\. Start from nothing"
    ):
        warm_start.fold(corpus, described)


def test_a_foreign_alphabet_is_refused_with_its_characters(
    tmp_path: Path, start_file: Path
) -> None:
    (tmp_path / "greek.txt").write_text("μῆνιν ἄειδε θεὰ\n" * 1000, encoding="utf-8")
    options = ("--corpus", "greek.txt", "--init-from", start_file, "--steps", "2", "--json")
    done = noskgpt("train", *options, "--out", "new.pth", cwd=tmp_path)
    assert done.returncode == 1
    problem = json.loads(done.stdout)["problem"]
    assert "greek.txt" in problem
    assert "Start from nothing" in problem
    for character in "μνιθ":
        assert f" {character} " in problem
    assert not (tmp_path / "new.pth").exists()


def test_describes_many_and_invisible_characters_briefly() -> None:
    assert coverage.describe("\u200e 1") == "U+200E U+0020 1"
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 100)))
    assert coverage.describe(many).endswith("and 60 more")


def test_words_of_a_lexicon_build_the_same_lexicon() -> None:
    words = lexicon.words("O'er the king's gate; o 'tis the kings' he")
    built = lexicon.build(VOCABULARY, words)
    spelled = lexicon.spell(built, VOCABULARY)
    assert words == spelled
    again = lexicon.build(VOCABULARY, spelled)
    for mine, theirs in zip(built, again, strict=True):
        assert (mine == theirs) if isinstance(mine, int) else (mine == theirs).all()
    assert lexicon.spell(lexicon.build(VOCABULARY, ()), VOCABULARY) == frozenset()


def test_the_command_line_starts_from_a_file_and_from_the_bundled_weights(
    small_corpus: Path, start_file: Path, start: Checkpoint, tmp_path: Path
) -> None:
    options = ("--corpus", small_corpus, "--steps", "3", "--batch", "2", "--out", "new.pth")
    done = noskgpt("train", *options, "--init-from", start_file, "--plot", "a.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    name = f"noskgpt-{start.fingerprint()}"
    assert f"Started from {name}: held-out loss" in done.stdout
    record = checkpoints.load(tmp_path / "new.pth").training
    assert record.start_weights == name
    assert f"--init-from {start_file.name} " in (record.command or "")
    done = noskgpt("train", *options, "--init-from", "bundled", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    started, *_, finished = map(json.loads, done.stdout.splitlines())
    assert 1 < started["start_loss"] < 3  # they spell, which random weights do not
    assert finished["start_weights"] == started["start_weights"] != name
    missing = noskgpt("train", "--init-from", "none.pth", cwd=tmp_path)
    assert missing.returncode == 1
    assert "none.pth" in missing.stderr
