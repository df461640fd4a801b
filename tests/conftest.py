"""Mark the slow tests, which `make test-fast` deselects."""

import pytest

# Names of files, fixtures and tests that train, run a browser, build the wheel, execute the
# notebook, recompile the decoder or take long for another reason.
SLOW = {
    "test_notebook",
    "test_rehearsal",
    "built",
    "small_corpus",
    "test_a_text_in_another_alphabet_is_learnt_measured_and_spoken",
    "test_run_is_cancelled_resumed_and_interrupted_by_a_shutdown",
    "test_child_that_does_not_stop_is_killed",
    "test_compiled_code_is_cached_where_it_can_be",
    "test_invalid_corpus_is_rejected_or_fails_the_run",
    "test_start_promote_and_roll_back",
    "test_greedy_text_equals_pytorchs_over_10_000_characters",
    "test_run_of_a_killed_bot_saves_a_checkpoint_and_is_resumed",
    "test_killed_child_is_shown_and_stored_after_the_token_has_expired",
    "test_real_words_only",
    "test_rebuild_gives_the_committed_bytes",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function):
            names = {item.path.stem, item.originalname, *item.fixturenames}
            if names & SLOW:
                item.add_marker("slow")
