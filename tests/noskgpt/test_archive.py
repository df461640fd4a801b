"""Test reading files of `torch.save`: honest ones, and those that claim more than they have."""

import copy
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from noskgpt import archive
from noskgpt import checkpoint as checkpoints
from noskgpt.errors import CheckpointError
from noskgpt.limits import MAX_OPERATIONS, MAX_VALUES_BYTES, MAX_WEIGHTS_BYTES

MEGABYTE = 2**20
ALLOWED_GROWTH = 100 * MEGABYTE
"""Memory above that of loading good weights: less than each file below claims."""
NAME = "claim.pth"


def load_both(value: object, path: Path) -> tuple[Any, Any]:
    """Save a value; return it as this reader and as PyTorch load it."""
    torch.save(value, path)
    return archive.read(path, MAX_WEIGHTS_BYTES), torch.load(path, weights_only=True)


def test_reads_the_values_that_pytorch_reads(tmp_path: Path) -> None:
    value = {
        "numbers": [0, -1, 255, 65_536, 2**40, 0.5, float("inf"), True, False, None],
        "texts": ["", "to be", "\u00e9\U0001f3ad", "to be"],
        "nested": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[]], {"a": {"b": []}}],
        "ordered": OrderedDict(z=1, a=2),
    }
    mine, theirs = load_both(value, tmp_path / "values.pth")
    assert mine == theirs == value


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0),
        torch.arange(6.0).view(2, 3).mT,
        torch.arange(6.0)[2:4],
        torch.tensor(1.5),
        torch.empty(0, dtype=torch.int16),
        torch.tensor([True, False]),
        torch.ones(3, dtype=torch.bfloat16),
        torch.arange(3),
        torch.arange(3, dtype=torch.float64),
    ],
    ids=lambda tensor: f"{tensor.dtype}-{tuple(tensor.shape)}-{tensor.stride()}",
)
def test_reads_the_tensors_that_pytorch_reads(tmp_path: Path, tensor: Tensor) -> None:
    mine, theirs = load_both({"tensor": tensor}, tmp_path / "tensor.pth")
    one, other = mine["tensor"], theirs["tensor"]
    assert torch.equal(one, other)
    assert (one.dtype, one.stride()) == (other.dtype, other.stride())
    one.zero_()  # it owns its memory


def test_reads_tensors_that_share_their_elements_and_modules(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    mine, theirs = load_both({"a": whole, "b": whole[:3]}, tmp_path / "shared.pth")
    mine["a"].zero_()
    assert not mine["b"].any()
    assert theirs["b"].any()
    module = torch.nn.Linear(2, 3)
    mine, theirs = load_both(module.state_dict(), tmp_path / "module.pth")
    module.load_state_dict(mine)
    assert list(mine) == list(theirs)


def test_reads_a_file_of_a_machine_with_the_other_byte_order(tmp_path: Path) -> None:
    path = tmp_path / "big.pth"
    torch.save({"x": torch.arange(3, dtype=torch.int32)}, path)
    swapped = np.arange(3, dtype=">i4").tobytes()
    rewrite(path, {"byteorder": b"big", "data/0": swapped})
    value: Any = archive.read(path, MAX_WEIGHTS_BYTES)
    assert value["x"].tolist() == [0, 1, 2]


def rewrite(path: Path, entries: dict[str, bytes], *, compressed: bool = False) -> None:
    """Replace entries of an archive, or add them."""
    with zipfile.ZipFile(path) as old:
        (folder,) = {name.partition("/")[0] for name in old.namelist()}
        contents = {name: old.read(name) for name in old.namelist()}
    contents |= {f"{folder}/{name}": data for name, data in entries.items()}
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as new:
        for name, data in contents.items():
            new.writestr(name, data)


def good(path: Path) -> None:
    """Write an archive to be damaged."""
    torch.save({"format": "noskgpt", "format_version": 1, "x": torch.zeros(4)}, path)


def pickled(*operations: bytes) -> bytes:
    return b"".join((pickle.PROTO, b"\x02", *operations, pickle.STOP))


def write_values(path: Path, *operations: bytes) -> None:
    """Write an archive whose values these instructions build."""
    good(path)
    rewrite(path, {"data.pkl": pickled(*operations)})


def inflate(path: Path) -> None:
    good(path)
    rewrite(path, {"data/0": bytes(200 * MEGABYTE)}, compressed=True)


def add_entries(path: Path, change: Callable[[zipfile.ZipInfo, int], None], count: int) -> None:
    """List an entry a number of times, each time changed, without adding contents."""
    good(path)
    with zipfile.ZipFile(path, "a") as archived:
        entry = archived.infolist()[-1]
        archived.writestr("last", bytes(MEGABYTE))
        for number in range(count):
            entry = copy.copy(archived.infolist()[-1])
            change(entry, number)
            archived.filelist.append(entry)


def overlap(path: Path) -> None:
    add_entries(path, lambda entry, n: setattr(entry, "filename", f"{n}"), 500)


def repeat(path: Path) -> None:
    add_entries(path, lambda entry, n: setattr(entry, "file_size", n), 1)


def overstate(path: Path) -> None:
    def change(entry: zipfile.ZipInfo, _: int) -> None:
        entry.filename = "large"
        entry.file_size = entry.compress_size = 2**31

    add_entries(path, change, 1)


def list_many(path: Path) -> None:
    add_entries(path, lambda entry, n: setattr(entry, "filename", f"{n:0100}"), 60_000)


def claim_elements(path: Path) -> None:
    good(path)
    with zipfile.ZipFile(path) as archived:
        values = archived.read("claim/data.pkl")
    four, many = pickle.BININT1 + b"\x04", pickle.BININT + (2**30).to_bytes(4, "little")
    assert values.count(four) == 2  # of the elements, and of the shape
    rewrite(path, {"data.pkl": values.replace(four, many)})


def claim_shape(path: Path) -> None:
    """Write a tensor of 2**40 elements which are all the same one."""
    good(path)
    torch.save({"x": torch.zeros(1).expand(2**20, 2**20)}, path)


def write_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 * MAX_WEIGHTS_BYTES)


LAUGH = pickle.TUPLE2 + pickle.BINPUT + b"\x00" + pickle.BINGET + b"\x00"
HOSTILE: dict[str, Callable[[Path], object]] = {
    "inflating": inflate,
    "overlapping": overlap,
    "repeated entry": repeat,
    "overstated entry": overstate,
    "many entries": list_many,
    "elements": claim_elements,
    "shape": claim_shape,
    "sparse": write_sparse,
    "zeroes": lambda path: path.write_bytes(bytes(MEGABYTE)),
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "unreadable": lambda path: path.symlink_to(path),
    "not an archive": lambda path: torch.save({}, path, _use_new_zipfile_serialization=False),
    "number of a value": lambda path: write_values(
        path, pickle.NONE, pickle.LONG_BINPUT, (2**31 - 1).to_bytes(4, "little")
    ),
    "text": lambda path: write_values(path, pickle.BINUNICODE, (2**32 - 1).to_bytes(4, "little")),
    "bytes": lambda path: write_values(path, b"\x96", (2**40).to_bytes(8, "little")),
    "class": lambda path: write_values(
        path,
        *(pickle.GLOBAL, b"builtins\nbytearray\n", pickle.BININT, (2**30).to_bytes(4, "little")),
        *(pickle.TUPLE1, pickle.REDUCE),
    ),
    "long values": lambda path: write_values(
        path, pickle.BINUNICODE, MAX_VALUES_BYTES.to_bytes(4, "little"), b"a" * MAX_VALUES_BYTES
    ),
    "many values": lambda path: write_values(
        path, pickle.EMPTY_LIST, pickle.MARK, pickle.EMPTY_DICT * MAX_OPERATIONS, pickle.APPENDS
    ),
    "key of exponential size": lambda path: write_values(
        path,
        *(pickle.EMPTY_DICT, pickle.EMPTY_TUPLE, pickle.EMPTY_TUPLE, LAUGH * 60, pickle.TUPLE2),
        *(pickle.NONE, pickle.SETITEM),
    ),
    "no values": write_values,
    "other archive": lambda path: zipfile.ZipFile(path, "w").close(),
    "nested": lambda path: write_values(
        path, pickle.EMPTY_LIST * 100_000, pickle.APPEND * (100_000 - 1)
    ),
}

LOAD = """
import json, resource, sys
from pathlib import Path
from noskgpt import checkpoint
from noskgpt.errors import CheckpointError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

good, *hostile = map(Path, sys.argv[1:])
checkpoint.load(good)
for path in hostile:
    before = peak()
    try:
        checkpoint.load(path)
        problem = ""
    except CheckpointError as error:
        problem = str(error)
    print(json.dumps([problem, peak() - before]), flush=True)
"""


def test_refuses_a_file_that_claims_more_than_it_has_without_the_memory(
    weights_file: Path, tmp_path: Path
) -> None:
    paths = []
    for number, write in enumerate(HOSTILE.values()):
        paths.append(tmp_path / f"{number}" / NAME)
        paths[-1].parent.mkdir()
        write(paths[-1])
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", LOAD, str(weights_file), *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    results = dict(zip(HOSTILE, map(json.loads, done.stdout.splitlines()), strict=True))
    for kind, (problem, growth) in results.items():
        assert problem.startswith(str(tmp_path)), kind
        assert f"{NAME}: " in problem, kind
        assert "noskgpt train" in problem, kind
        assert "\n" not in problem, kind
        assert growth < ALLOWED_GROWTH, kind


def test_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    reasons = {
        "inflating": "compressed",
        "overlapping": "larger than the file",
        "repeated entry": "two entries of one name",
        "shape": "1 elements has the shape",
        "sparse": "Larger than 600 MB",
        "folder": "Is a directory",
        "pipe": "Not a regular file",
        "endless": "Not a regular file",
        "class": "bytearray",
        "long values": "more than 64 MB",
        "other archive": "something else",
        "many values": "more than 1,000,000 instructions",
        "key of exponential size": "one value in two places",
    }
    for kind, reason in reasons.items():
        path = tmp_path / kind
        HOSTILE[kind](path)
        with pytest.raises(CheckpointError, match=reason):
            checkpoints.load(path)
