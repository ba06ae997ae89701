"""What the kernels about tokens are given: whole numbers in one row, and options that are whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: Ids of tokens, in order.
Ids: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]


def whole_numbers(tokens: Ids, name: str = "tokens") -> NDArray[Any]:
    """Whole numbers as a contiguous array of int32 or int64.

    Raises:
        TypeError: they are no whole numbers.
        ValueError: they have more than one dimension, or one has 64 bits or more.
    """
    try:
        ids = np.asarray(tokens)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be whole numbers in one row") from error
    if ids.ndim != 1:
        raise ValueError(f"{name} must have one dimension, not {ids.ndim}")
    if not len(ids) and not isinstance(tokens, np.ndarray):
        return np.empty(0, np.int32)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name} must be whole numbers of at most 64 bits, not {ids.dtype}")
    if ids.dtype.kind == "u" and ids.dtype.itemsize == 8 and len(ids) and int(ids.max()) >= 2**63:
        raise ValueError(f"{name} must be below 2^63")
    narrow = ids.dtype.itemsize < 4 or (ids.dtype.kind == "i" and ids.dtype.itemsize == 4)
    return np.ascontiguousarray(ids, np.int32 if narrow else np.int64)


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """Refuse what is no whole number in a range; None is an option that was left out.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is out of range.
    """
    if value is None:
        return
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {value}")
