"""Loops in a sequence that grows: known to the token, at a cost a token that does not hang on what came before."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import MissingExtraError
from llmguard.kernels.arguments import Ids, check_whole, whole_numbers

#: Ids from which the interpreter's lock is let go, some hundred microseconds of work.
LONG = 4_096
# Items of a list up to which one call each costs less than an array of them.
_FEW = 16
MOST_PERIODS = 4_096


class Loop(NamedTuple):
    """A proof that a sequence loops.

    Attributes:
        period: ids of the unit, the smallest that proves it.
        start: where the proof begins, counted from the first id that was ever given.
        end: where it ends: with the id that completed it.
    """

    period: int
    start: int
    end: int


class LoopTracker:
    """Says at which token a growing sequence has become a loop.

    A loop is a stretch of max(``length``, ``repeats`` · p) ids that equals itself p ids further back, for a period p of
    at most ``longest``. With the id that completes one it is told, and the next one has to be proven from there on
    anew: an endless loop is told again and again. That is exact, and the same however the sequence is cut.

    Each id costs one pass over ``longest`` counters, whatever came before; with 256 some tens of nanoseconds.
    A tracker belongs to one sequence and one thread at a time.

    Args:
        length: ids that a loop must have.
        repeats: how many times it must hold its unit, at least 2.
        longest: ids of a unit at most.

    Raises:
        TypeError: an argument is no whole number.
        ValueError: an argument is out of range.
        MissingExtraError: numba is not installed.
    """

    __slots__ = ("_jit", "_proof", "_state", "_taken")

    def __init__(self, *, length: int = 64, repeats: int = 4, longest: int = 256) -> None:
        for name, value, least, most in (
            ("length", length, 2, 1 << 24),
            ("repeats", repeats, 2, 1 << 12),
            ("longest", longest, 1, MOST_PERIODS),
        ):
            check_whole(name, value, least, most)
        self._jit = compiled()
        self._proof = proofs(length, repeats, longest)
        self._state = state(self._jit, self._proof)
        self._taken = 0

    @property
    def taken(self) -> int:
        """How many ids came so far."""
        return self._taken

    def add(self, token: int) -> Loop | None:
        """Takes one more id; the loop that it completes, if it does.

        Raises:
            TypeError: it is no whole number.
            ValueError: it has more than 32 bits.
        """
        return self._take(_checked(token))

    def feed(self, ids: Ids) -> list[Loop]:
        """Takes more ids; the loops that they complete, in order. Of ids that are refused none is taken.

        Raises:
            TypeError: they are no whole numbers.
            ValueError: they have more than one dimension, or one has more than 32 bits.
        """
        if isinstance(ids, list) and len(ids) < _FEW:
            return [loop for loop in map(self._take, list(map(_checked, ids))) if loop is not None]
        new = narrow(ids)
        follow = self._jit.follow if len(new) < LONG else self._jit.follow_long
        found = []
        place = 0
        while place < len(new):
            step = int(follow(self._state, new, place))
            place += abs(step)
            if step < 0:
                found.append(self._told(self._taken + place))
        self._taken += len(new)
        return found

    def _take(self, token: int) -> Loop | None:
        self._taken += 1
        return self._told(self._taken) if self._jit.add(self._state, token) else None

    def _told(self, end: int) -> Loop:
        period = int(self._state[self._jit.FOUND])
        return Loop(period, end - period - int(self._proof[period - 1]), end)


def _checked(token: int) -> int:
    # The kernel would cut whatever it is given down to 32 bits.
    return token if type(token) is int and -(2**31) <= token < 2**31 else int(narrow([token])[0])


def proofs(length: int, repeats: int, longest: int) -> NDArray[np.int32]:
    """For each period from 1 on, how many ids in a row must equal those one period back."""
    periods = np.arange(1, longest + 1)
    return (np.maximum(length, repeats * periods) - periods).astype(np.int32)


def state(jit: ModuleType, proof: NDArray[np.int32]) -> NDArray[np.int32]:
    """What the kernels know of a sequence before its first id."""
    periods = len(proof)
    room = 8 * periods
    made = np.zeros(jit.HEAD + 2 * periods + room, np.int32)
    made[jit.PERIODS], made[jit.AT], made[jit.ROOM] = periods, room - periods, room
    made[jit.HEAD : jit.HEAD + periods] = proof
    return made


def narrow(ids: Ids) -> NDArray[np.int32]:
    """As a contiguous array of int32.

    Raises:
        TypeError: they are no whole numbers.
        ValueError: they have more than one dimension, or one has more than 32 bits.
    """
    wide: NDArray[Any] = whole_numbers(ids)
    if wide.dtype != np.int32:
        if len(wide) and (int(wide.min()) < -(2**31) or int(wide.max()) >= 2**31):
            raise ValueError("tokens must fit 32 bits")
        wide = wide.astype(np.int32)
    return wide


@cache
def compiled() -> ModuleType:
    """The compiled half of this module.

    Raises:
        MissingExtraError: numba is not installed.
    """
    try:
        from llmguard.kernels import tokens_loops_jit
    except ImportError as error:
        raise MissingExtraError("loops of tokens", "numba", "kernels") from error
    return tokens_loops_jit
