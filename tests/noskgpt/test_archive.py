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
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

from noskgpt import archive
from noskgpt import checkpoint as checkpoints
from noskgpt.errors import CheckpointError
from noskgpt.limits import MAX_OPERATIONS, MAX_VALUES_BYTES, MAX_WEIGHTS_BYTES
from noskgpt.resources import weights_path
from noskgpt.training.tensors import to_tensors
from tests.noskgpt.reference import Reference

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
    array, other = mine["tensor"], theirs["tensor"]
    if other.dtype == torch.bfloat16:  # which NumPy does not have
        other = other.float()
    one = torch.from_numpy(array)
    assert torch.equal(one, other)
    assert (one.dtype, one.stride()) == (other.dtype, other.stride())
    array[...] = 0  # it owns its memory


def test_reads_tensors_that_share_their_elements_and_modules(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    mine, theirs = load_both({"a": whole, "b": whole[:3]}, tmp_path / "shared.pth")
    mine["a"][:] = 0
    assert not mine["b"].any()
    assert theirs["b"].any()
    module = torch.nn.Linear(2, 3)
    mine, theirs = load_both(module.state_dict(), tmp_path / "module.pth")
    module.load_state_dict(to_tensors(dict(mine)))
    assert list(mine) == list(theirs)


def equal(mine: object, theirs: object) -> bool:
    """Compare nested values, of which one has arrays and the other tensors."""
    if isinstance(theirs, Tensor):
        array = theirs.numpy()
        assert isinstance(mine, np.ndarray)
        return (mine.dtype, mine.shape) == (array.dtype, array.shape) and (
            mine.tobytes() == array.tobytes()
        )
    if isinstance(theirs, dict):
        assert isinstance(mine, dict)
        return list(mine) == list(theirs) and all(equal(mine[k], theirs[k]) for k in theirs)
    if isinstance(theirs, list | tuple):
        assert isinstance(mine, list | tuple)
        return len(mine) == len(theirs) and all(map(equal, mine, theirs))
    return type(mine) is type(theirs) and mine == theirs


@pytest.fixture(scope="module")
def reference_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a `state_dict` file as the original noskGPT writes it."""
    path = tmp_path_factory.mktemp("reference") / "old.pth"
    torch.save(Reference().state_dict(), path)
    return path


def test_reads_the_bundled_and_the_imported_weights_as_pytorch_does(
    reference_file: Path, tmp_path: Path
) -> None:
    imported = tmp_path / "new.pth"
    checkpoints.import_reference(reference_file, imported)
    for path in (weights_path(), reference_file, imported):
        mine = archive.read(path, MAX_WEIGHTS_BYTES)
        assert equal(mine, dict(torch.load(path, weights_only=True)))


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
ARRAYS = arrays(
    st.sampled_from(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?"]),
    array_shapes(min_dims=0, min_side=0, max_side=4),
)
VALUES = st.recursive(
    PLAIN | ARRAYS | ARRAYS.map(np.transpose),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text("abc") | st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(value=VALUES)
def test_writes_what_both_this_reader_and_pytorch_read(
    value: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("written") / "value.pth"
    with path.open("wb") as file:
        archive.write(value, file)
    theirs = torch.load(path, weights_only=True)
    assert equal(value, theirs)
    assert equal(archive.read(path, MAX_WEIGHTS_BYTES), theirs)


def test_equal_values_give_equal_files(tmp_path: Path) -> None:
    for name in ("one", "other"):
        with (tmp_path / name).open("wb") as file:
            archive.write({"x": np.arange(3), "y": "to be"}, file)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("value", [{1, 2}, np.zeros(1, np.complex64), np.array(["a"]), Path()])
def test_writes_nothing_that_it_could_not_read(value: object, tmp_path: Path) -> None:
    with (tmp_path / "value.pth").open("wb") as file, pytest.raises(TypeError):
        archive.write(value, file)


@given(data=st.data())
def test_a_damaged_file_is_refused_by_name_or_gives_the_same_kind_of_checkpoint(
    data: st.DataObject, weights_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A flipped bit in an entry without a meaning, such as a date, damages nothing."""
    content = bytearray(weights_file.read_bytes())
    edges = st.integers(0, 4000) | st.integers(len(content) - 4000, len(content) - 1)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(edges | st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(edges)]
    path = tmp_path_factory.mktemp("damaged") / NAME
    path.write_bytes(content)
    try:
        loaded = checkpoints.load(path)
    except CheckpointError as error:
        assert str(path) in str(error)  # noqa: PT017 - either outcome is allowed
    else:
        assert loaded.fingerprint() == checkpoints.load(weights_file).fingerprint()


def test_strides_that_overflow_are_refused(tmp_path: Path) -> None:
    """NumPy computes the end of an array with 64 bits, in which this one begins at its start."""
    path = tmp_path / "strides.pth"
    torch.save({"x": torch.zeros(8)[::2][:3]}, path)
    with zipfile.ZipFile(path) as archived:
        values = archived.read("strides/data.pkl")
    two = pickle.BININT1 + b"\x02" + pickle.TUPLE1
    assert values.count(two) == 1
    stride = pickle.LONG1 + b"\x09" + (2**61).to_bytes(9, "little")
    rewrite(path, {"data.pkl": values.replace(two, stride + pickle.TUPLE1)})
    with pytest.raises(CheckpointError, match=r"strides\.pth: damaged.*8 elements has the shape"):
        checkpoints.load(path)


def test_reads_a_file_of_a_machine_with_the_other_byte_order(tmp_path: Path) -> None:
    path = tmp_path / "big.pth"
    torch.save({"x": torch.arange(3, dtype=torch.int32)}, path)
    swapped = np.arange(3, dtype=">i4").tobytes()
    rewrite(path, {"byteorder": b"big", "data/0": swapped})
    value: Any = archive.read(path, MAX_WEIGHTS_BYTES)
    assert value["x"].tolist() == [0, 1, 2]
    assert value["x"].dtype.isnative


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


def point_outside(path: Path) -> None:
    """Write a tensor whose elements are in an entry outside of the folder, and in a file."""
    (path.parent / "secret").write_bytes(bytes(16))
    good(path)
    with zipfile.ZipFile(path) as archived:
        values = archived.read("claim/data.pkl")
    key = pickle.BINUNICODE + b"\x01\x00\x00\x000"
    assert values.count(key) == 1
    outside = pickle.BINUNICODE + len(b"../../secret").to_bytes(4, "little") + b"../../secret"
    rewrite(path, {"data.pkl": values.replace(key, outside)})


LAUGH = pickle.TUPLE2 + pickle.BINPUT + b"\x00" + pickle.BINGET + b"\x00"
HOSTILE: dict[str, Callable[[Path], object]] = {
    "inflating": inflate,
    "overlapping": overlap,
    "repeated entry": repeat,
    "overstated entry": overstate,
    "many entries": list_many,
    "elements": claim_elements,
    "shape": claim_shape,
    "outside": point_outside,
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
import json, sys, tracemalloc
from pathlib import Path
from noskgpt import checkpoint
from noskgpt.errors import CheckpointError

good, *hostile = map(Path, sys.argv[1:])
checkpoint.load(good)
# Not the peak that the system keeps: a new process takes over that of its parent.
tracemalloc.start()
for path in hostile:
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    try:
        checkpoint.load(path)
        problem = ""
    except CheckpointError as error:
        problem = str(error)
    _, peak = tracemalloc.get_traced_memory()
    print(json.dumps([problem, peak - before]), flush=True)
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
        "outside": "no item named",
        "long values": "more than 64 MB",
        "other archive": "something else",
        "many values": "more than 1,000,000 instructions",
        "key of exponential size": "one value in two places",
    }
    for kind, reason in reasons.items():
        path = tmp_path / kind.replace(" ", "-") / NAME
        path.parent.mkdir()
        HOSTILE[kind](path)
        with pytest.raises(CheckpointError, match=reason):
            checkpoints.load(path)
