"""How the kernels of drift are compiled, and the types of what they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import types

from llmguard.kernels import compiling

_F = TypeVar("_F", bound=Callable[..., Any])

#: What a sum may do to be vectorised. NaN and infinity keep their meaning.
LOOSE = frozenset(("reassoc", "contract", "arcp", "nsz"))

floats = types.Array(types.float64, 1, "C", readonly=True)
wholes = types.Array(types.int64, 1, "C", readonly=True)
written = types.Array(types.float64, 1, "C")
marked = types.Array(types.int64, 1, "C")


def kernel(*signatures: Any, loose: bool = False) -> Callable[[_F], _F]:
    """Compiles as `compiling.kernel`; the code runs without the interpreter's lock and divides as NumPy does.

    Args:
        signatures: of numba, at least one.
        loose: sums may be taken in another order.
    """
    return compiling.kernel(*signatures, nogil=True, error_model="numpy", fastmath=set(LOOSE) if loose else False)
