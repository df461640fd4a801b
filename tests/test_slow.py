"""The list of slow tests names files, fixtures and tests that exist."""

from pathlib import Path

import pytest

from tests.conftest import SLOW

FILES = list(Path(__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("name", sorted(SLOW))
def test_name_exists(name: str) -> None:
    assert any(file.stem == name or f"def {name}(" in file.read_text("utf-8") for file in FILES)
