"""How kernels are compiled: at import, for given signatures, and kept on disk where there is a place to keep it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

_F = TypeVar("_F", bound=Callable[..., Any])


def kernel(*signatures: Any, nogil: bool = False, **options: Any) -> Callable[[_F], _F]:
    """Compiles for these signatures.

    numba raises RuntimeError where neither the package's directory nor the user's cache can be written, and OSError
    where writing fails later (a full disk): neither is a reason not to run.

    Args:
        signatures: of numba, at least one.
        nogil: whether the code runs without the interpreter's lock. What takes a few microseconds keeps it: who lets
            go of it waits until a busy thread gives it back.
        options: of numba, any other.
    """

    def compiled(function: _F) -> _F:
        made: Any
        try:
            made = njit(list(signatures), cache=True, nogil=nogil, **options)(function)
        except (RuntimeError, OSError):
            made = njit(list(signatures), nogil=nogil, **options)(function)
        return cast("_F", made)

    return compiled
