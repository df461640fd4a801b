"""Test weights files: saving, loading, and errors for damaged files."""

import errno
import io
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noskgpt import checkpoint as checkpoints
from noskgpt import lexicon, scene
from noskgpt.errors import CheckpointError


def test_loads_what_was_saved(random_checkpoint: checkpoints.Checkpoint, tmp_path: Path) -> None:
    training = checkpoints.TrainingRecord(steps=7, held_out_loss=1.5, command="noskgpt train")
    words = lexicon.build(random_checkpoint.vocabulary, {"king", "kings"})
    casts = scene.Casts(({"ROMEO": 2, "JULIET": 1},), frozenset({"the"}), frozenset({"nurse"}))
    saved = replace(random_checkpoint, training=training, lexicon=words, casts=casts)
    checkpoints.save(saved, tmp_path / "new" / "weights.pth")
    loaded = checkpoints.load(tmp_path / "new" / "weights.pth")
    assert (loaded.config, loaded.vocabulary, loaded.training) == (
        saved.config,
        saved.vocabulary,
        training,
    )
    assert loaded.fingerprint() == saved.fingerprint()
    assert loaded.casts == casts
    assert loaded.lexicon is not None
    for actual, expected in zip(loaded.lexicon, words, strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["weights.pth"]


def damage(document: dict[str, Any], kind: str) -> None:  # noqa: C901, PLR0912 - a case each
    """Apply one kind of damage to the document of a weights file."""
    name = "head.bias"
    match kind:
        case "foreign":
            document["format"] = "other"
        case "version":
            document["format_version"] = 99
        case "missing":
            del document["weights"][name]
        case "shape":
            document["weights"][name] = torch.zeros(3)
        case "dtype":
            document["weights"][name] = document["weights"][name].half()
        case "nan":
            document["weights"][name] = torch.full((65,), float("nan"))
        case "vocabulary":
            document["vocabulary"] = "abc"
        case "config":
            document["config"]["n_head"] = 3
        case "huge":
            document["config"]["n_embd"] = 2**40
        case "words":
            document["vocabulary"] = [*document["vocabulary"][1:], "several"]
        case "sparse":
            document["weights"][name] = document["weights"][name].to_sparse()
        case "lexicon":
            document["lexicon"] = {"first": torch.zeros(3)}
        case "casts":
            document["casts"] = {"plays": [{"ROMEO": -1}], "common": [], "nouns": []}
        case "empty":
            document.clear()


@pytest.mark.parametrize(
    "kind",
    [
        *("foreign", "version", "missing", "shape", "dtype", "nan", "vocabulary", "config"),
        *("huge", "words", "sparse", "lexicon", "casts", "empty"),
    ],
)
def test_names_the_file_and_the_remedy_if_the_contents_are_wrong(
    weights_file: Path, tmp_path: Path, kind: str
) -> None:
    document = torch.load(weights_file, weights_only=True)
    damage(document, kind)
    path = tmp_path / "broken.pth"
    torch.save(document, path)
    with pytest.raises(CheckpointError, match=r"broken\.pth.*noskgpt"):
        checkpoints.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[: len(data) // 2],
        lambda _: b"",
        lambda _: b"To be, or not to be",
        lambda data: data[:3000] + bytes(2000) + data[5000:],
    ],
    ids=["truncated", "empty", "text", "overwritten"],
)
def test_names_the_file_and_the_remedy_if_the_bytes_are_damaged(
    weights_file: Path, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(change(weights_file.read_bytes()))
    with pytest.raises(CheckpointError, match=r"broken\.pth.*noskgpt train"):
        checkpoints.load(path)


def test_names_the_file_and_the_remedy_if_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pth.*noskgpt train"):
        checkpoints.load(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoints.load(tmp_path)


def test_runs_no_code_from_the_file(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"format": "noskgpt", "weights": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        checkpoints.load(tmp_path / "evil.pth")
    assert not (tmp_path / "owned").exists()


def test_a_failed_write_keeps_the_old_file(
    random_checkpoint: checkpoints.Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # simulates a full disk
    try:
        with pytest.raises(CheckpointError, match=r"weights\.pth: cannot be written"):
            checkpoints.save(random_checkpoint, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pth"]


@pytest.mark.parametrize("written", [0, 100_000])
def test_a_full_disk_is_named(
    random_checkpoint: checkpoints.Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: int,
) -> None:
    """Torch has an error of its own for the end of its archive."""
    save = torch.save

    class FullDisk(io.BytesIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    monkeypatch.setattr(torch, "save", lambda document, _file: save(document, FullDisk()))
    with pytest.raises(
        CheckpointError, match=r"weights\.pth: cannot be written \(the disk is full"
    ):
        checkpoints.save(random_checkpoint, tmp_path / "weights.pth")


def test_the_error_for_weights_of_the_original_names_the_import_command(tmp_path: Path) -> None:
    torch.save({"token_embedding_table.weight": torch.zeros(65, 128)}, tmp_path / "old.pth")
    with pytest.raises(CheckpointError, match="import-reference"):
        checkpoints.load(tmp_path / "old.pth")
    with pytest.raises(CheckpointError, match="not a state_dict of the original"):
        checkpoints.import_reference(tmp_path / "old.pth", tmp_path / "new.pth")
    assert not (tmp_path / "new.pth").exists()
