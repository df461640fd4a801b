"""Read the files that `torch.save` writes, without trusting them.

`torch.load` never runs code from a file with ``weights_only=True``, but it inflates and reserves
whatever a file asks for. This reader accepts only what noskgpt writes, plain values and dense
tensors, uncompressed: nothing in a file can stand for more memory than its own bytes, up to the
bounds of `noskgpt.limits`.
"""

import io
import math
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from noskgpt.files import open_regular
from noskgpt.limits import MAX_DIRECTORY_BYTES, MAX_OPERATIONS, MAX_VALUES_BYTES

_DATA = "data.pkl"
_PUTS = frozenset(("BINPUT", "LONG_BINPUT"))
_GETS = frozenset(("BINGET", "LONG_BINGET"))
_OPCODES = (
    frozenset(("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"))
    | frozenset(("NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT", "BINUNICODE"))
    | frozenset(("BININT", "BININT1", "BININT2", "LONG1"))
    | frozenset(("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS"))
    | frozenset(("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"))
    | _PUTS
    | _GETS
)
_SHARED = frozenset(("BINUNICODE", "GLOBAL"))
"""What may occur several times though it is stored once. Were lists or tuples among it, a few bytes
could stand for a value of exponential size."""
_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def read(path: Path, limit: int) -> object:
    """Return the value in a file of at most `limit` bytes.

    Raises:
        OSError: The file cannot be opened, is not a regular file, or is larger.
        Exception: Of any other class: the file is damaged, or has what noskgpt does not write.
    """
    with open_regular(path, limit) as file:
        opening = _Opening(file)
        archive = zipfile.ZipFile(opening)
        opening.done = True
        values = _check_entries(archive, file.seek(0, io.SEEK_END))
        data = archive.read(values)
        _check_operations(data)
        return _Unpickler(data, archive, values.removesuffix(_DATA)).load()


class _Opening(io.BufferedIOBase):
    """Limit each read while `zipfile` reads the list of entries, whose size the file states."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.done = False

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.done and (size is None or not 0 <= size <= MAX_DIRECTORY_BYTES):
            size = MAX_DIRECTORY_BYTES
        return self._file.read(-1 if size is None else size)


def _check_entries(archive: zipfile.ZipFile, size: int) -> str:
    """Return the name of the entry with the values.

    Raises:
        ValueError: There is none, or the entries do not fit into `size` bytes as they are.
    """
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        msg = "its entries are compressed"
        raise ValueError(msg)
    if sum(entry.file_size for entry in entries) > size:
        msg = "its entries claim to be larger than the file"
        raise ValueError(msg)
    if len({entry.filename for entry in entries}) < len(entries):
        msg = "it has two entries of one name"
        raise ValueError(msg)
    values = [entry for entry in entries if entry.filename.endswith(f"/{_DATA}")]
    if len(values) != 1:
        msg = "it is an archive of something else"
        raise ValueError(msg)
    if values[0].file_size > MAX_VALUES_BYTES:
        msg = f"its values take more than {MAX_VALUES_BYTES // 1_000_000} MB"
        raise ValueError(msg)
    return values[0].filename


def _check_operations(data: bytes) -> None:
    """Raise `ValueError` unless a pickle has few instructions, and only those that noskgpt writes.

    Then it builds a tree of values that is not larger than these instructions.
    """
    stored: dict[object, str] = {}
    previous = ""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if count >= MAX_OPERATIONS:
            msg = f"its values take more than {MAX_OPERATIONS:,} instructions"
            raise ValueError(msg)
        name = opcode.name
        if name not in _OPCODES:
            msg = f"its values have the instruction {name}"
            raise ValueError(msg)
        if name in _PUTS:
            stored[argument] = previous
            if int(argument or 0) > count:  # `pickle` reserves memory for all lower numbers
                msg = "its values are numbered with gaps"
                raise ValueError(msg)
        elif name in _GETS and stored.get(argument) not in _SHARED:
            msg = "it has one value in two places"
            raise ValueError(msg)
        previous = name


class _Dict(dict[Any, Any]):
    """Hold the items of an `OrderedDict` without the attributes that PyTorch adds to it."""

    def __setstate__(self, attributes: object) -> None:
        """Ignore the attributes, which could hide methods."""


class _Unpickler(pickle.Unpickler):
    """Build the values of an archive; see "Restricting Globals" in the documentation of `pickle`.

    Args:
        data: The pickle.
        archive: The archive, which stores the elements of each tensor in an entry.
        folder: The start of the names of its entries.
    """

    def __init__(self, data: bytes, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(data))
        self._archive = archive
        self._folder = folder
        self._storages: dict[str, Tensor] = {}
        name = f"{folder}byteorder"
        order = archive.read(name) if name in archive.namelist() else b"little"
        self._order = {b"little": "<", b"big": ">"}[order]

    def find_class(self, module: str, name: str, /) -> object:
        """Return what builds an object, or the type of the elements of a tensor."""
        match module, name:
            case "collections", "OrderedDict":
                return _Dict
            case "torch._utils", "_rebuild_tensor_v2":
                return _rebuild
            case "torch", name if name in _DTYPES:
                return _DTYPES[name]
        msg = f"its values have the class {module}.{name}"
        raise pickle.UnpicklingError(msg)

    def persistent_load(self, pid: tuple[str, torch.dtype, str, str, int], /) -> Tensor:
        """Return the elements of a tensor, which several tensors may share."""
        _, dtype, key, _, count = pid
        if key not in self._storages:
            elements = bytearray(self._archive.read(f"{self._folder}data/{key}"))
            integers = np.frombuffer(elements, f"{self._order}i{dtype.itemsize}")
            native = integers.astype(f"i{dtype.itemsize}", copy=False)
            self._storages[key] = torch.from_numpy(native).view(dtype)
        storage = self._storages[key]
        if storage.dtype != dtype or len(storage) != count:
            msg = f"tensor {key} has {len(storage)} elements, not {count}"
            raise ValueError(msg)
        return storage


def _rebuild(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    """Return a tensor of the elements of a storage; the rest of the arguments is for gradients."""
    if math.prod(size) > len(storage):
        msg = f"a tensor of {len(storage)} elements has the shape {size}"
        raise ValueError(msg)
    return storage.as_strided(size, stride, offset)
