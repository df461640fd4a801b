"""The tests that docs/reliability.md names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.findall(
    r"`(test_\w+\.py)(?:::(test_\w+))?`", (ROOT / "docs" / "reliability.md").read_text("utf-8")
)


@pytest.mark.parametrize(("file", "test"), NAMED, ids=":".join)
def test_test_of_a_promise_exists(file: str, test: str) -> None:
    texts = [path.read_text(encoding="utf-8") for path in ROOT.glob(f"tests/**/{file}")]
    assert any(f"def {test}(" in text if test else text for text in texts)
