"""Exports in files of limited size."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.ui.attachments import Attachments


def files_of(records: list[str], attachments: Attachments) -> list[tuple[str, bytes]]:
    files = [attachments.add(record) for record in records]
    return [file for file in (*files, attachments.last()) if file is not None]


@given(records=st.lists(st.text(min_size=1, max_size=30)), limit=st.integers(10, 80))
def test_files_hold_all_records_in_order_within_the_limit(records: list[str], limit: int) -> None:
    records = [json.dumps(record) for record in records]
    array = Attachments("a.json", opening="[", between=",", closing="]", limit=limit)
    files = files_of(records, array)
    assert [record for _, data in files for record in json.loads(data)] == [
        json.loads(record) for record in records
    ]
    for _, data in files:
        assert len(data) <= limit or len(json.loads(data)) == 1


@pytest.mark.parametrize(
    ("records", "files"),
    [
        ("abcdef", [("x-1.txt", b"a-b"), ("x-2.txt", b"c-d"), ("x-3.txt", b"e-f")]),
        ("ab", [("x.txt", b"a-b")]),
        ("", []),
    ],
)
def test_files_are_full_and_numbered(records: str, files: list[tuple[str, bytes]]) -> None:
    assert files_of(list(records), Attachments("x.txt", between="-", limit=3)) == files
