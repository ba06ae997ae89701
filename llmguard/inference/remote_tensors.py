"""Arrays as the Open Inference Protocol writes them: datatype, shape, and bytes or numbers.

Names and layout: https://github.com/open-inference/open-inference-protocol, "Tensor Data Types" and "Tensor Data".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
#: The precision that an output's datatype shows; FP32 shows none, since integers inside a graph come out as floats.
SHOWN = {"FP16": "fp16", "BF16": "bf16"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as a server describes it.

    Attributes:
        name: of the array.
        datatype: ``INT64``, ``FP32`` …
        shape: -1 where the size is open.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def type(self) -> type[np.generic] | None:
        """Numpy's type; None where it has none."""
        return _TYPES.get(self.datatype)


@dataclass(frozen=True, slots=True)
class Description:
    """What a server says about a model.

    Attributes:
        inputs: that a run wants.
        outputs: that it gives.
        binary: whether the server takes and gives arrays as bytes over HTTP.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    binary: bool = False


def datatype(array: NDArray[Any]) -> str:
    """The protocol's name of an array's type.

    Args:
        array: of one of the types above.
    """
    return next(name for name, kind in _TYPES.items() if array.dtype == kind)


def to_bytes(array: NDArray[Any]) -> bytes:
    """The numbers in rows, little-endian.

    Args:
        array: of any shape.
    """
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def from_bytes(data: bytes | memoryview, name: str, shape: Sequence[int]) -> NDArray[Any]:
    """An array from its bytes; BF16 comes as float32, which it is the upper half of.

    Args:
        data: the numbers in rows, little-endian.
        name: of the datatype.
        shape: of the array.

    Raises:
        ValueError: the datatype is none, or the bytes are too few or too many.
    """
    if name == "BF16":
        halves: NDArray[Any] = np.frombuffer(data, np.dtype("<u2"))
        return _shaped((halves.astype(np.uint32) << 16).view(np.float32), shape)
    return _shaped(np.frombuffer(data, np.dtype(_type(name)).newbyteorder("<")), shape)


def from_numbers(data: Any, name: str, shape: Sequence[int]) -> NDArray[Any]:
    """An array from a list of numbers, flat or nested.

    Args:
        data: in rows.
        name: of the datatype.
        shape: of the array.

    Raises:
        ValueError: the datatype is none, what is in the list are no numbers, or they are too few or too many.
    """
    kind = np.float32 if name == "BF16" else _type(name)
    found: NDArray[Any] = np.asarray(data)
    if found.dtype.kind not in "biuf" and found.size:
        raise ValueError(f"the data of a {name} are no numbers")
    return _shaped(found.astype(kind).ravel(), shape)


def _type(name: str) -> type[np.generic]:
    if name not in _TYPES:
        raise ValueError(f"the datatype {name[:20]!r} is not for numbers")
    return _TYPES[name]


def _shaped(flat: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    sizes = [int(size) for size in shape]
    if any(size < 0 for size in sizes) or math.prod(sizes) != flat.size:
        raise ValueError(f"{flat.size} numbers are no array of the shape {sizes}")
    return flat.reshape(sizes)
