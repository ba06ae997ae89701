"""How the kernels of drift are compiled: for given types, at import, kept on disk where there is a place for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit, types

_F = TypeVar("_F", bound=Callable[..., Any])

#: What a sum may do to be vectorised. NaN and infinity keep their meaning.
LOOSE = frozenset(("reassoc", "contract", "arcp", "nsz"))

floats = types.Array(types.float64, 1, "C", readonly=True)
wholes = types.Array(types.int64, 1, "C", readonly=True)
written = types.Array(types.float64, 1, "C")
marked = types.Array(types.int64, 1, "C")


def kernel(*signatures: Any, loose: bool = False) -> Callable[[_F], _F]:
    """Compiles for these signatures; the code runs without the interpreter's lock and divides as NumPy does.

    numba raises RuntimeError where neither the package's directory nor the user's cache can be written, and OSError
    where writing fails later (a full disk): neither is a reason not to run.

    Args:
        signatures: of numba, at least one.
        loose: sums may be taken in another order.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(LOOSE) if loose else False}

    def compiled(function: _F) -> _F:
        made: Any
        try:
            made = njit(list(signatures), cache=True, **options)(function)
        except (RuntimeError, OSError):
            made = njit(list(signatures), **options)(function)
        return cast("_F", made)

    return compiled
