"""Test the trainer with short runs, and its recipe, batches, precision and evaluation."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from noskgpt.config import ModelConfig
from noskgpt.corpus import load_corpus
from noskgpt.errors import CorpusError, TrainingError
from noskgpt.evaluation import Evaluation, evaluate
from noskgpt.inference.decoder import is_bfloat16
from noskgpt.model import GPT
from noskgpt.runs import Event, Finished, Interrupted, Progress, Started
from noskgpt.tokenizer import VOCABULARY, Tokenizer
from noskgpt.training import hardware
from noskgpt.training.batches import Batches
from noskgpt.training.distributed import Group
from noskgpt.training.measurements import Measurements
from noskgpt.training.planning import FINISH_SECONDS, Costs
from noskgpt.training.recipe import PRESETS, TrainingConfig, lr_factor
from noskgpt.training.trainer import Trainer
from noskgpt.training.updates import Updates

CONFIG = TrainingConfig(steps=30, batch=4, report_every=5, evaluations=2, precision="fp32")


def run(path: Path, config: TrainingConfig = CONFIG) -> list[Event]:
    """Train on a file and return every event."""
    return list(Trainer(load_corpus(path), config, command="noskgpt train").run())


def losses(events: list[Event]) -> list[tuple[int, float, float | None]]:
    return [
        (event.step, event.train_loss, event.held_out_loss)
        for event in events
        if isinstance(event, Progress)
    ]


def test_a_run_lowers_the_loss_and_records_its_settings_and_results(small_corpus: Path) -> None:
    started, *progress, finished = run(small_corpus)
    assert isinstance(started, Started)
    assert (started.parameters, started.precision) == (1_170_625, "fp32")
    assert started.peak_flops > 0
    assert isinstance(finished, Finished)
    assert [step for step, _, _ in losses(progress)] == [1, 5, 10, 15, 20, 25, 30]
    reports = [event for event in progress if isinstance(event, Progress)]
    assert [event.step for event in reports if event.held_out_loss is not None] == [15, 30]
    assert all((event.sample is None) == (event.held_out_loss is None) for event in reports)
    assert reports[-1].seconds_left == 0
    assert 0 < reports[-1].peak_fraction < 1
    record = finished.checkpoint.training
    assert record.held_out_loss is not None
    assert record.held_out_loss < 2.6 < math.log(65)  # 2.6 is the loss of letter frequencies alone
    assert (record.steps, record.batch, record.command) == (30, 4, "noskgpt train")
    assert list(record.curve) == losses(progress)
    corpus = load_corpus(small_corpus)
    assert record.corpus_sha256 == corpus.sha256
    ids = torch.tensor(Tokenizer(finished.checkpoint.vocabulary).encode(corpus.held_out))
    model = finished.checkpoint.build_model()
    assert evaluate(model, ids).loss == pytest.approx(record.held_out_loss, abs=1e-6)
    weights = finished.checkpoint.weights
    assert all(is_bfloat16(weights[name]) for name in model.hidden_matrices())


def test_the_same_seed_gives_the_same_weights(small_corpus: Path) -> None:
    config = replace(CONFIG, steps=4, dropout=0.1)
    names = []
    for seed in (1, 1, 2):
        finished = run(small_corpus, replace(config, seed=seed))[-1]
        assert isinstance(finished, Finished)
        names.append(finished.checkpoint.fingerprint())
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    ("optimizer", "dropout", "threads"), [("muon", 0.0, 2), ("muon", 0.1, 2), ("adamw", 0.1, 1)]
)
def test_a_stopped_run_resumes_bit_for_bit(
    small_corpus: Path,
    set_threads: Callable[[int], None],
    optimizer: str,
    dropout: float,
    threads: int,
) -> None:
    set_threads(threads)
    config = replace(CONFIG, steps=14, dropout=dropout, optimizer=optimizer)
    whole = run(small_corpus, config)
    first = Trainer(load_corpus(small_corpus), config)
    events: list[Event] = []
    for event in first.run():
        events.append(event)
        if isinstance(event, Progress) and event.step == 5:
            first.stop()
    interrupted = events.pop()
    assert interrupted == Interrupted(step=6, steps=14)
    state = first.state()
    rest = list(Trainer(load_corpus(small_corpus), state=state).run())
    assert isinstance(rest[0], Started)
    assert rest[0].step == 6
    assert losses(events + rest) == losses(whole)
    ends = [found[-1] for found in (whole, rest)]
    assert isinstance(ends[0], Finished)
    assert isinstance(ends[1], Finished)
    assert ends[0].checkpoint.fingerprint() == ends[1].checkpoint.fingerprint()


def test_a_run_resumes_only_with_its_own_text_and_number_of_processes(
    small_corpus: Path, tmp_path: Path
) -> None:
    state = Trainer(load_corpus(small_corpus), CONFIG).state()
    other = tmp_path / "other.txt"
    other.write_text(small_corpus.read_text(encoding="utf-8") + "More.\n", encoding="utf-8")
    with pytest.raises(TrainingError, match="not the text that this run started with"):
        Trainer(load_corpus(other), state=state)
    with pytest.raises(TrainingError, match="2 processes"):
        Trainer(load_corpus(small_corpus), state=state | {"processes": 2})


def test_a_state_of_an_earlier_version_resumes_with_the_same_settings(small_corpus: Path) -> None:
    corpus = load_corpus(small_corpus)
    config = replace(
        CONFIG, muon_lr=0.01, adam_lr=0.002, warmup_fraction=0.2, decay_fraction=0.5, dropout=0.3
    )
    state = Trainer(corpus, config).state()
    old_names = {
        "muon_lr": "muon_rate",
        "adam_lr": "adam_rate",
        "warmup_fraction": "warmup_share",
        "decay_fraction": "decay_share",
    }
    old = {old_names.get(name, name): value for name, value in state["config"].items()}
    assert old.keys() >= set(old_names.values())
    # Earlier versions had the setting `sharpening`, with a default of 1 that has no effect.
    assert Trainer(corpus, state=state | {"config": old | {"sharpening": 1.0}}).config == config
    with pytest.raises(TrainingError, match="does not have: sharpening"):
        Trainer(corpus, state=state | {"config": old | {"sharpening": 1.2}})


class Clock:
    """Replace the clock: a step takes 2 s at first and 4 s later, an evaluation and sample 10 s."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.evaluated: list[int] = []
        costs = Costs(step=2.0, evaluation=8.0, sample=2.0)
        monkeypatch.setattr("noskgpt.training.pace.time.perf_counter", lambda: self.now)
        monkeypatch.setattr("noskgpt.training.measurements.evaluate", self._evaluate)
        # As attributes of the class, functions get the object like methods.
        monkeypatch.setattr(Updates, "take_step", lambda _, step, *__: self._take_step(step))
        monkeypatch.setattr(Measurements, "costs", lambda *_: costs)
        monkeypatch.setattr(Measurements, "sample", lambda _: self._sample())
        monkeypatch.setattr(hardware, "measure_peak", lambda *_: 1e9)

    def _take_step(self, step: int) -> float:
        self.now += 2 if step < 40 else 4
        return 1.0

    def _evaluate(self, _model: object, ids: torch.Tensor, _group: object) -> Evaluation:
        self.now += 8
        self.evaluated.append(len(ids))
        return Evaluation(1.0, 1)

    def _sample(self) -> str:
        self.now += 2
        return ""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_time_limit_plans_the_steps_that_fit(small_corpus: Path, clock: Clock) -> None:
    events = run(small_corpus, replace(CONFIG, minutes=10.0, evaluations=4))
    assert isinstance(events[0], Started)
    assert events[0].steps == (600 - 40 - FINISH_SECONDS) / 2
    measured = [step for step, _, loss in losses(events) if loss is not None]
    assert len(measured) == 4
    assert clock.now == pytest.approx(600 - FINISH_SECONDS, abs=4)
    finished = events[-1]
    assert isinstance(finished, Finished)
    record = finished.checkpoint.training
    assert record.steps == measured[-1] == 40 + (600 - 80 - 40 - FINISH_SECONDS) // 4 + 1
    assert record.seconds == clock.now
    assert record.evaluated_fraction == 1
    assert measured == sorted(measured)


def test_the_time_before_the_trainer_counts(small_corpus: Path, clock: Clock) -> None:
    clock.now = 1000.0
    config = replace(CONFIG, minutes=10.0)
    events = list(Trainer(load_corpus(small_corpus), config, began=900.0).run())
    assert clock.now == pytest.approx(900 + 600 - FINISH_SECONDS, abs=4)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.checkpoint.training.seconds == clock.now - 900


def test_a_short_run_evaluates_a_part_and_says_so(
    small_corpus: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noskgpt.training.planning.MIN_EVALUATED", 1024)
    monkeypatch.setattr(Measurements, "costs", lambda *_: Costs(step=0.5, evaluation=20, sample=2))
    started, *_, finished = run(small_corpus, replace(CONFIG, minutes=1.5))
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    part = started.evaluated_characters
    assert 1024 <= part < started.held_out_characters
    assert part % 256 == 0
    assert clock.evaluated == [part]  # a second evaluation would take too long
    record = finished.checkpoint.training
    assert record.evaluated_fraction == pytest.approx(part / started.held_out_characters)
    assert record.evaluated_fraction < 1


def test_a_resumed_run_keeps_the_steps_that_were_planned(small_corpus: Path, clock: Clock) -> None:
    corpus = load_corpus(small_corpus)
    first = Trainer(corpus, replace(CONFIG, minutes=5.0))
    for event in first.run():
        if isinstance(event, Progress) and event.step >= 50:
            first.stop()
    assert isinstance(event, Interrupted)
    assert 50 < event.step < event.steps
    state = first.state()
    clock.now += 200  # the time between, and a slower start than before
    resumed, *_, finished = Trainer(corpus, state=state, began=clock.now - 60).run()
    assert isinstance(resumed, Started)
    assert isinstance(finished, Finished)
    assert (resumed.step, resumed.steps) == (event.step, event.steps)
    assert finished.checkpoint.training.steps == event.steps


def test_a_time_limit_that_is_too_short_is_refused_before_the_first_step(
    small_corpus: Path,
) -> None:
    """Measure on this machine, without a substitute for the clock."""
    trainer = Trainer(load_corpus(small_corpus), replace(CONFIG, minutes=0.001))
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    with pytest.raises(
        TrainingError, match=r"too short .* shortest sensible run here takes [\d.]+"
    ):
        list(trainer.run())
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(p.grad is None for p in trainer.model.parameters())


def test_a_batch_must_be_divisible_by_the_number_of_processes(small_corpus: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be divided among 3 processes"):
        Trainer(load_corpus(small_corpus), CONFIG, group=Group(torch.device("cpu"), size=3))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"evaluations": 0},
        {"minutes": 0.0},
        {"minutes": math.nan},
        {"precision": "fp64"},
        {"optimizer": "sgd"},
    ],
)
def test_rejects_invalid_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainingConfig(**wrong)


def test_uses_the_characters_of_the_text_if_the_default_vocabulary_lacks_some(
    tmp_path: Path,
) -> None:
    path = tmp_path / "greek.txt"
    path.write_text("μῆνιν ἄειδε θεὰ\n" * 1000, encoding="utf-8")
    finished = run(path, replace(CONFIG, steps=1))[-1]
    assert isinstance(finished, Finished)
    assert set(finished.checkpoint.vocabulary) == set("μῆνιν ἄειδε θεὰ\n")


def test_stops_when_the_loss_is_not_finite(small_corpus: Path) -> None:
    trainer = Trainer(load_corpus(small_corpus), replace(CONFIG, adam_lr=float("inf"), steps=10))
    with pytest.raises(TrainingError, match="not finite"):
        list(trainer.run())
    with pytest.raises(TrainingError, match="not finite"):
        trainer.state()


def test_bfloat16_passes_are_measured_only_if_its_products_are_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = GPT(ModelConfig(n_layer=1))
    peaks = {"fp32": 1.0, "bf16": 1.1}
    monkeypatch.setattr(hardware, "measure_peak", lambda _, name, side: peaks[name] * side)
    assert hardware.choose_precision(model) == "fp32"
    peaks["bf16"] = 2.0
    seconds = iter([2.0, 1.0])
    monkeypatch.setattr(hardware, "_best_seconds", lambda *_: next(seconds))
    assert hardware.choose_precision(model) == "bf16"


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


def test_an_epoch_uses_every_window_once_and_targets_follow_inputs() -> None:
    batches = Batches(torch.arange(256 * 10), batch=3, context=256, seed=1)
    assert batches.windows == 8
    steps = [batches.get(step) for step in range(8)]
    for inputs, targets in steps:
        assert inputs.shape == (3, 256)
        assert torch.equal(inputs + 1, targets)
    starts = [int(inputs[0]) for batch, _ in steps for inputs in batch]
    epochs = [starts[i : i + 8] for i in (0, 8, 16)]
    for epoch in epochs:
        assert len({start % 256 for start in epoch}) == 1
        assert sorted(start // 256 for start in epoch) == list(range(8))
    assert len({epoch[0] % 256 for epoch in epochs}) == 3
    assert len({tuple(start // 256 for start in epoch) for epoch in epochs}) == 3


def test_a_batch_depends_on_its_step_only_and_can_be_divided_by_rows() -> None:
    def fresh() -> Batches:
        return Batches(torch.arange(256 * 10), batch=4, context=256, seed=7)

    whole, _ = fresh().get(5)
    parts = [fresh().get(5, slice(rank, None, 2))[0] for rank in range(2)]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), whole)
    assert not torch.equal(fresh().get(4)[0], whole)
    with pytest.raises(TrainingError, match="too few"):
        Batches(torch.arange(512), batch=4, context=256, seed=7)


def test_learning_rates_warm_up_stay_constant_and_decay_to_zero() -> None:
    config = TrainingConfig(warmup_fraction=0.1, decay_fraction=0.6)
    factors = [lr_factor(step, 1000, config) for step in range(1000)]
    assert factors[0] == pytest.approx(0.01)
    assert factors[250] == 1.0
    assert factors[700] == pytest.approx(0.5)
    assert 0 < factors[999] < 0.01
    original = PRESETS["original"]
    assert {lr_factor(step, 1000, original) for step in range(1000)} == {1.0}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"short", "too few"),
        (b"a" * 20_000, "one character"),
        (b"\xff\xfe\x00" * 9000, "not a UTF-8 text"),
        ("".join(map(chr, range(256, 600))).encode() * 100, "different characters"),
    ],
)
def test_rejects_an_unusable_corpus(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=rf"corpus\.txt: .*{problem}"):
        load_corpus(path)
    with pytest.raises(CorpusError, match=r"none\.txt"):
        load_corpus(tmp_path / "none.txt")


def test_holds_out_the_last_tenth_starting_at_a_line(small_corpus: Path) -> None:
    corpus = load_corpus(small_corpus)
    assert corpus.train.endswith(".\n")
    assert corpus.train + corpus.held_out == small_corpus.read_text(encoding="utf-8")
    assert 0.09 < len(corpus.held_out) / len(corpus.train + corpus.held_out) <= 0.1
    assert set(corpus.vocabulary) <= set(VOCABULARY)
