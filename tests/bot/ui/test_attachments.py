"""Exported files: complete, in order, and within Discord's size limit."""

import json

from hypothesis import given
from hypothesis import strategies as st

from bot.ui.attachments import files_of


@given(st.lists(st.text(max_size=20)), st.integers(70, 200))
def test_no_record_is_lost_and_no_file_is_too_long(words: list[str], limit: int) -> None:
    records = [json.dumps(word, ensure_ascii=False) for word in words]
    files = files_of(records, opening="[", between=", ", closing="]", limit=limit)
    assert [word for file in files for word in json.loads(file)] == words
    assert all(len(file) <= limit + 2 for file in files if len(json.loads(file)) == 1)
    assert all(len(file) <= limit for file in files if len(json.loads(file)) != 1)


def test_number_of_files_is_minimal() -> None:
    assert files_of("abcdef", between="-", limit=3) == [b"a-b", b"c-d", b"e-f"]
    assert files_of("abc", limit=3) == [b"abc"]
    assert files_of([], opening="[", closing="]") == [b"[]"]
