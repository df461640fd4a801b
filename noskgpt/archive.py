"""Read and write the files of `torch.save` without PyTorch, and read them without trusting them.

`torch.load` never runs code from a file with ``weights_only=True``, but it inflates and reserves
whatever a file asks for. This reader accepts only what noskgpt writes, plain values and dense
tensors, uncompressed: nothing in a file can stand for more memory than twice its own bytes, up to
the bounds of `noskgpt.limits`. Tensors are NumPy arrays.
"""

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

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
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
"""NumPy's name of the type of the elements, by PyTorch's."""
_BFLOAT16 = "BFloat16Storage"


def read(path: Path, limit: int) -> object:
    """Return the value in a file of at most `limit` bytes.

    Tensors are arrays that own their memory, or share it where they share it in the file. NumPy has
    no bfloat16: such tensors are float32 arrays of the same values.

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
        self._storages: dict[str, tuple[str, NDArray[Any]]] = {}
        name = f"{folder}byteorder"
        order = archive.read(name) if name in archive.namelist() else b"little"
        self._order = {b"little": "<", b"big": ">"}[order]

    def find_class(self, module: str, name: str, /) -> object:
        """Return what builds an object, or the name of the type of the elements of a tensor."""
        match module, name:
            case "collections", "OrderedDict":
                return _Dict
            case "torch._utils", "_rebuild_tensor_v2":
                return _rebuild
            case "torch", name if name in _DTYPES or name == _BFLOAT16:
                return name
        msg = f"its values have the class {module}.{name}"
        raise pickle.UnpicklingError(msg)

    def persistent_load(self, pid: tuple[str, str, str, str, int], /) -> NDArray[Any]:
        """Return the elements of a tensor, which several tensors may share."""
        _, kind, key, _, count = pid
        if key not in self._storages:
            self._storages[key] = kind, self._read_elements(kind, key)
        stored_kind, storage = self._storages[key]
        if stored_kind != kind or len(storage) != count:
            msg = f"tensor {key} has {len(storage)} elements, not {count}"
            raise ValueError(msg)
        return storage

    def _read_elements(self, kind: str, key: str) -> NDArray[Any]:
        stored = bytearray(self._archive.read(f"{self._folder}data/{key}"))
        if kind == _BFLOAT16:  # the upper half of a float32
            halves = np.frombuffer(stored, f"{self._order}u2")
            return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
        dtype = np.dtype(_DTYPES[kind])
        integers = np.frombuffer(stored, f"{self._order}i{dtype.itemsize}")
        return integers.astype(f"i{dtype.itemsize}", copy=False).view(dtype)


def _rebuild(
    storage: NDArray[Any], offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> NDArray[Any]:
    """Return an array of the elements of a storage; the rest of the arguments is for gradients."""
    numbers = (offset, *size, *stride)
    # In Python's integers: those of NumPy's own check overflow.
    if not all(type(number) is int and number >= 0 for number in numbers):
        msg = f"a tensor has the shape {size}, the strides {stride} and the offset {offset}"
        raise ValueError(msg)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True) if n)
    if math.prod(size) > len(storage) or last >= max(1, len(storage)):
        msg = f"a tensor of {len(storage)} elements has the shape {size}"
        raise ValueError(msg)
    width = storage.itemsize
    return np.ndarray(size, storage.dtype, storage, offset * width, [width * n for n in stride])


def write(value: object, file: BinaryIO) -> None:
    """Write a value that `read` and `torch.load` return.

    Args:
        value: Of None, booleans, numbers, texts, lists, tuples, dictionaries and arrays.
        file: An empty file.

    Raises:
        OSError: The file cannot be written.
        TypeError: The value has an object of another class.
    """
    arrays: list[NDArray[Any]] = []
    data = b"".join((pickle.PROTO, b"\x02", *_operations(value, arrays), pickle.STOP))
    entries = {_DATA: data, "byteorder": b"little", "version": b"3\n"}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(_entry(name), content)
        for number, array in enumerate(arrays):
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            archive.writestr(_entry(f"data/{number}"), little.tobytes())


def _entry(name: str) -> zipfile.ZipInfo:
    """Return the description of an entry, without a date: equal values give equal files."""
    return zipfile.ZipInfo(f"archive/{name}")


def _operations(value: object, arrays: list[NDArray[Any]]) -> Iterator[bytes]:
    """Yield the instructions of `pickle` that build a value; append its arrays to `arrays`."""
    match value:
        case list():
            yield pickle.EMPTY_LIST + pickle.MARK
            yield from _items(value, arrays)
            yield pickle.APPENDS
        case tuple():
            yield pickle.MARK
            yield from _items(value, arrays)
            yield pickle.TUPLE
        case dict():
            yield pickle.EMPTY_DICT + pickle.MARK
            yield from _items(chain.from_iterable(value.items()), arrays)
            yield pickle.SETITEMS
        case np.ndarray():
            yield from _array_operations(value, arrays)
        case _:
            yield _operation(value)


def _items(values: Iterable[object], arrays: list[NDArray[Any]]) -> Iterator[bytes]:
    return chain.from_iterable(_operations(value, arrays) for value in values)


def _operation(value: object) -> bytes:
    """Return the instruction that builds a plain value."""
    match value:
        case None:
            return pickle.NONE
        case bool():
            return pickle.NEWTRUE if value else pickle.NEWFALSE
        case int():
            size = value.bit_length() // 8 + 1
            return pickle.LONG1 + bytes([size]) + value.to_bytes(size, "little", signed=True)
        case float():
            return pickle.BINFLOAT + struct.pack(">d", value)
        case str():
            text = value.encode()
            return pickle.BINUNICODE + struct.pack("<I", len(text)) + text
    msg = f"no weights file can have a {type(value).__name__}"
    raise TypeError(msg)


def _array_operations(array: NDArray[Any], arrays: list[NDArray[Any]]) -> Iterator[bytes]:
    """Yield the instructions that build a tensor; see `_rebuild` and `persistent_load`."""
    names = [name for name, dtype in _DTYPES.items() if np.dtype(dtype) == array.dtype]
    if not names:
        msg = f"no weights file can have an array of {array.dtype}"
        raise TypeError(msg)
    key = str(len(arrays))
    contiguous = np.ascontiguousarray(array).reshape(array.shape)
    arrays.append(contiguous)
    strides = tuple(step // array.itemsize for step in contiguous.strides)
    yield _class("torch._utils", "_rebuild_tensor_v2") + pickle.MARK
    yield pickle.MARK + _operation("storage") + _class("torch", names[0])
    yield from _items((key, "cpu", array.size), arrays)
    yield pickle.TUPLE + pickle.BINPERSID
    yield from _items((0, array.shape, strides, False), arrays)
    yield _class("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    yield pickle.TUPLE + pickle.REDUCE


def _class(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()
