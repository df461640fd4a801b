"""Fixtures of several folders; marks the slow tests, which `make test-fast` deselects."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from noskgpt import lexicon
from noskgpt.checkpoint import Checkpoint, save
from noskgpt.config import ModelConfig
from noskgpt.model import GPT
from noskgpt.tokenizer import VOCABULARY
from tests.wheel import Built, build_checkout

# Names of files, fixtures and tests that train, run a browser or another process, build the wheel,
# execute the notebook, recompile the decoder or take long for another reason.
SLOW = {
    "test_cli",
    "test_main",
    "test_too_short_a_run_is_rejected_with_the_shortest",
    "test_text_in_another_alphabet_starts_from_nothing_or_is_rejected",
    "test_own_text_starts_from_the_active_weights_and_shows_what_that_gains",
    "test_cause_of_a_failure_has_no_folder_of_the_host",
    "test_notebook",
    "test_rehearsal",
    "test_rehearsal_page",
    "built",
    "image",
    "small_corpus",
    "test_trains_evaluates_and_generates_in_another_alphabet",
    "test_run_is_cancelled_resumed_and_interrupted_by_a_shutdown",
    "test_child_that_does_not_stop_is_killed",
    "test_child_that_goes_on_is_killed_at_the_end_of_the_grace",
    "test_lock_ends_with_a_killed_process_though_its_child_lives",
    "test_kill_at_each_step_leaves_the_old_or_the_new_database",
    "test_invalid_corpus_is_rejected_or_fails_the_run",
    "test_start_promote_and_roll_back",
    "test_greedy_text_equals_that_of_pytorch_over_10_000_characters",
    "test_run_of_a_killed_bot_saves_a_checkpoint_and_is_resumed",
    "test_killed_child_is_shown_and_stored_after_the_token_has_expired",
    "test_generates_real_words_only",
    "test_rebuild_gives_the_committed_bytes",
    "shared_bot",
    "playing",
    "test_observability",
    "two_processes",
    "test_private_bot_leaves_other_servers_and_keeps_its_blocks",
    "test_heartbeats_are_not_acknowledged",
    "test_lean",
    "test_refuses_a_file_that_claims_more_than_it_has_without_the_memory",
}

# Names of files and tests that `make test` leaves to `make test-long`, because it has to end within
# fifteen minutes on two cores. Each is a further case of something that `make test` does test, or
# changes with few files.
LONG = {
    "test_container",
    "test_notebook",
    "test_rebuild_gives_the_committed_bytes",
    "test_greedy_text_equals_that_of_pytorch_over_10_000_characters",
    "test_two_processes_reach_the_losses_of_one",
    "test_trains_evaluates_and_generates_in_another_alphabet",
    "test_child_that_does_not_stop_is_killed",
    "test_too_short_a_run_is_rejected_with_the_shortest",
    "test_invalid_corpus_is_rejected_or_fails_the_run",
    "test_text_in_another_alphabet_starts_from_nothing_or_is_rejected",
    "test_a_signal_saves_the_run_and_stops_it[2]",
    "test_a_run_stops_with_its_parent_and_is_saved[closed1]",
    "test_a_run_stops_with_its_parent_and_is_saved[closed2]",
    "test_a_stopped_run_resumes_bit_for_bit[muon-0.1-2]",
    "test_a_stopped_run_resumes_bit_for_bit[muon-0.0-2]",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function):
            names = {item.path.stem, item.originalname, *item.fixturenames}
            if names & SLOW:
                item.add_marker("slow")
            if (names | {item.name}) & LONG:
                item.add_marker("long")
                item.add_marker("slow")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The distributions of this checkout."""
    return build_checkout(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a real, untrained model with the full alphabet and context."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.manual_seed(1)
    config = ModelConfig(n_layer=1, n_head=2, n_embd=16)
    words = lexicon.build(VOCABULARY, lexicon.words("But soft, what light through yonder window?"))
    model = GPT(config)
    model.round_to_bfloat16()  # as the shipped ones, for which the decoder is compiled already
    weights = model.arrays()
    save(Checkpoint(config=config, vocabulary=VOCABULARY, weights=weights, lexicon=words), path)
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text with three speakers: two in its training part, the third in what is held out."""
    path = tmp_path_factory.mktemp("corpus") / "play.txt"
    scene = "ROMEO:\nO, she doth teach.\n\nFirst Citizen:\nSpeak.\n\nROMEO:\nAy me.\n\n"
    train, held_out = scene * 150, "TYBALT:\nPeace?\n\n" * 90
    path.write_text(train + held_out, encoding="utf-8")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = {"sha256": digest, "held_out_start": len(train)}
    path.with_suffix(".json").write_text(json.dumps(manifest), encoding="utf-8")
    return path
