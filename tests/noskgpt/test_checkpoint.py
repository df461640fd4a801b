"""Test weights files: saving, loading, and errors for damaged files."""

import errno
import io
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noskgpt import archive, lexicon, scene
from noskgpt import checkpoint as checkpoints
from noskgpt.errors import CheckpointError
from noskgpt.limits import MAX_LETTERS
from noskgpt.tokenizer import VOCABULARY
from tests.noskgpt.reference import Reference
from tests.wheel import UNPRIVILEGED, run


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


def in_record(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["training"].update(values)


def in_config(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["config"].update(values)


def in_weights(change: Callable[[torch.Tensor], object]) -> Callable[[dict[str, Any]], None]:
    def damage(document: dict[str, Any]) -> None:
        document["weights"]["head.bias"] = change(document["weights"]["head.bias"])

    return damage


def as_lexicon(**arrays: torch.Tensor) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update(lexicon=arrays)


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "foreign": lambda document: document.update(format="other"),
    "version": lambda document: document.update(format_version=99),
    "no version": lambda document: document.update(format_version=[[]]),
    "missing": lambda document: document["weights"].pop("head.bias"),
    "no weights": lambda document: document.update(weights=None),
    "shape": in_weights(lambda _: torch.zeros(3)),
    "dtype": in_weights(torch.Tensor.half),
    "nan": in_weights(lambda bias: bias * float("nan")),
    "sparse": in_weights(torch.Tensor.to_sparse),
    "number": in_weights(lambda _: 1),
    "vocabulary": lambda document: document.update(vocabulary="abc"),
    "words": lambda document: document.update(vocabulary=[*document["vocabulary"][1:], "several"]),
    "null character": lambda document: document.update(vocabulary=VOCABULARY[:-1] + "\0"),
    "surrogate": lambda document: document.update(vocabulary=VOCABULARY[:-1] + "\ud800"),
    "config": in_config(n_head=3),
    "negative": in_config(n_layer=-1),
    "text as a size": in_config(context="256"),
    "list as a size": in_config(context=[[256]]),
    "unknown size": in_config(**{"size" * 100_000: 1}),
    "wide": in_config(n_embd=2**40),
    "long": in_config(context=10**9),
    "deep": in_config(n_layer=10**9, n_embd=4),
    "no config": lambda document: document.update(config=None),
    "no record": lambda document: document.update(training=None),
    "text as a loss": in_record(held_out_loss="1.4"),
    "loss": in_record(held_out_loss=float("nan")),
    "text as a number": in_record(steps="many"),
    "large number": in_record(steps=2**63),
    "list as a command": in_record(command=["noskgpt"]),
    "curve": in_record(curve=3),
    "points": in_record(curve=[(1, 2.0)]),
    "loss of a point": in_record(curve=[(1, "2", None)]),
    "lexicon": as_lexicon(first=torch.zeros(3)),
    "large lexicon": as_lexicon(
        first=torch.zeros(MAX_LETTERS + 3, dtype=torch.int32),
        edges=torch.zeros(1, dtype=torch.int16),
        ends=torch.zeros(1, dtype=torch.bool),
    ),
    "list as a lexicon": lambda document: document.update(lexicon=[1]),
    "casts": lambda document: document.update(
        casts={"plays": [{"ROMEO": -1}], "common": [], "nouns": []}
    ),
    "list as casts": lambda document: document.update(casts=[1]),
    "empty": dict.clear,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_names_the_file_and_the_remedy_if_the_contents_are_wrong(
    weights_file: Path, tmp_path: Path, kind: str
) -> None:
    document = torch.load(weights_file, weights_only=True)
    DAMAGE[kind](document)
    path = tmp_path / "broken.pth"
    torch.save(document, path)
    with pytest.raises(CheckpointError, match=r"^[^\n]*broken\.pth[^\n]*noskgpt[^\n]*$") as raised:
        checkpoints.load(path)
    assert len(str(raised.value)) < 600


def test_ignores_what_a_later_version_records(weights_file: Path, tmp_path: Path) -> None:
    document = torch.load(weights_file, weights_only=True)
    document["training"] |= {"steps": 7, "mood": "merry"}
    torch.save(document, tmp_path / "later.pth")
    assert checkpoints.load(tmp_path / "later.pth").training.steps == 7


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


def test_a_folder_without_permission_is_not_writable(tmp_path: Path) -> None:
    """Nobody, root neither, is told to free disk space there."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "weights.pth").write_bytes(b"old")
    (folder / "weights.pth").chmod(0)
    folder.chmod(0o500)
    program = """
import pathlib
from noskgpt import checkpoint, errors
path = pathlib.Path("folder/weights.pth")
for attempt in (
    lambda: checkpoint.check_writable(path),
    lambda: checkpoint.write_atomically({}, path),
    lambda: checkpoint.load(path),
):
    try:
        attempt()
    except errors.CheckpointError as error:
        print(error)
"""
    lines = run(*UNPRIVILEGED, sys.executable, "-c", program, cwd=tmp_path).splitlines()
    folder.chmod(0o700)
    not_writable = (
        "folder/weights.pth: cannot be written (its folder is not writable: Permission denied). "
        "Let this user write there, or choose another folder."
    )
    not_readable = (
        "folder/weights.pth: cannot be read (Permission denied). "
        "Let this user read it, or choose another file."
    )
    assert lines == [
        not_writable,
        not_writable,
        not_readable,
    ]


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
    """The end of the archive is written as well after the entry that did not fit."""
    write = archive.write

    class FullDisk(io.BytesIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    monkeypatch.setattr(archive, "write", lambda document, _file: write(document, FullDisk()))
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


def test_weights_of_the_original_that_share_many_elements_are_not_copied(tmp_path: Path) -> None:
    large = torch.zeros(70_000)
    torch.save(dict.fromkeys(Reference().state_dict(), large), tmp_path / "old.pth")
    with pytest.raises(CheckpointError, match="two places"):  # it is one tensor under many names
        checkpoints.import_reference(tmp_path / "old.pth", tmp_path / "new.pth")
    views = {name: large.view(-1) for name in Reference().state_dict()}
    torch.save(views, tmp_path / "old.pth")
    with pytest.raises(CheckpointError, match="a tensor is too large"):
        checkpoints.import_reference(tmp_path / "old.pth", tmp_path / "new.pth")
