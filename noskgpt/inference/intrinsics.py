"""Define LLVM instructions that the decoder's loops need and numba does not provide.

numba calls each function with the argument types; the function returns the signature and a
generator of the instructions.
"""

# ruff: noqa: ANN401, PLR2004 - numba's and llvmlite's objects have no public types; widths in bits

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    result: Callable[..., Any] = intrinsic(function)
    return result


@_intrinsic
def first(_context: Any, pair: Any) -> Any:
    """Return the float32 in the upper half of a pair; a 16-bit half is a bfloat16."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        if pair.bitwidth == 32:
            value = builder.and_(value, ir.Constant(value.type, 0xFFFF0000))
        else:
            upper = builder.lshr(value, ir.Constant(value.type, 32))
            value = builder.trunc(upper, ir.IntType(32))
        return builder.bitcast(value, ir.FloatType())

    return types.float32(pair), generate


@_intrinsic
def second(_context: Any, pair: Any) -> Any:
    """Return the float32 in the lower half of a pair; a 16-bit half is a bfloat16."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        if pair.bitwidth == 32:
            value = builder.shl(value, ir.Constant(value.type, 16))
        else:
            value = builder.trunc(value, ir.IntType(32))
        return builder.bitcast(value, ir.FloatType())

    return types.float32(pair), generate


@_intrinsic
def power_of_two(_context: Any, _exponent: Any) -> Any:
    """Return 2 ** exponent as float32, for an int32 exponent from -126 to 127."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        biased = builder.add(arguments[0], ir.Constant(word, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(word, 23)), ir.FloatType())

    return types.float32(types.int32), generate


@_intrinsic
def prefetch(_context: Any, _address: Any) -> Any:
    """Start loading the cache line at an address; an invalid address has no effect."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte, word = ir.IntType(8), ir.IntType(32)
        signature = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), word, word, word])
        function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, signature, "llvm.prefetch.p0"
        )
        pointer = builder.inttoptr(arguments[0], byte.as_pointer())
        read, high_locality, data_cache = (ir.Constant(word, n) for n in (0, 3, 1))
        builder.call(function, [pointer, read, high_locality, data_cache])
        return context.get_dummy_value()

    return types.void(types.uintp), generate
