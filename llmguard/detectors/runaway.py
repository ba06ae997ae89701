"""Generations that have run away: a text that says the same again and again, stopped while it still grows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmguard.detectors.runs import GRAM, STRIDE
from llmguard.errors import ConfigurationError
from llmguard.kernels import tokens_loops
from llmguard.types import Finding, Scope, Text

_CATEGORY = "RUNAWAY"
#: Code points of a loop at least: a sample of GRAM every STRIDE then always lies in what is said again, with _NEAR more
#: on one side of it.
_LEAST = 240
_NEAR = 64
#: Repetitions of a sample that are looked at one by one before the kernel does it.
_TRIES = 8
_MOST_PERIODS = 1_024


class RunawayDetector:
    """Finds the place at which a text has become a loop, to the code point, and holds nothing back before.

    A loop is a stretch of max(``length``, ``repeats`` · p) code points that equals itself p further back, for a period
    p of at most ``longest``. The finding is the repetition that completes it, its last p code points, so that it is
    final at once, whatever follows. What comes after has to be proven anew.

    Args:
        length: code points that a loop must have.
        repeats: how many times it must hold its unit.
        longest: code points of a unit at most.

    Raises:
        ConfigurationError: an option has a wrong type or is out of range.
        MissingExtraError: numba is not installed.
    """

    name = "runaway"
    version = "1"
    scope = Scope.SPAN
    categories = frozenset({_CATEGORY})
    inline = True

    def __init__(self, *, length: int = 240, repeats: int = 4, longest: int = 512) -> None:
        self._options = {"length": length, "repeats": repeats, "longest": longest}
        for option, value, least, most in (
            ("length", length, _LEAST, 1 << 20),
            ("repeats", repeats, 4, 64),
            ("longest", longest, 1, _MOST_PERIODS),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise ConfigurationError(f"runaway: {option} must be a whole number from {least} to {most}")
        self._jit = tokens_loops.compiled()
        self._proof = tokens_loops.proofs(length, repeats, longest)
        self._longest = longest
        self._most = int(self._proof[-1]) + longest
        # A repetition that is not complete is held back only once all before it agree: so much agreement at least.
        self._agreed = int((self._proof - np.arange(1, longest + 1)).min())
        self._fresh = tokens_loops.state(self._jit, self._proof)
        self._fresh.setflags(write=False)

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """The places at which each text has become a loop."""
        return [
            [Finding(_CATEGORY, 1.0, (end - period, end)) for period, end in self._proofs(text.content)]
            for text in texts
        ]

    def settled(self, text: str) -> int:
        """See `types.Incremental`: the end, or where the repetition begins that would complete a loop."""
        if not self._repeats(text):
            return len(text)
        *_, last = (0, 0), *self._proofs(text)
        state = self._fresh.copy()
        self._jit.follow(state, _codes(text[last[1] :]), 0)
        return len(text) - int(self._jit.pending(state))

    def context(self, text: str, start: int) -> int:
        """See `types.Incremental`: as far back as a loop may begin that is completed behind a place."""
        low = max(0, start - self._most)
        before = text[:start]
        *_, last = (0, low), *self._proofs(before)
        return max(low, last[1])

    def _repeats(self, text: str) -> bool:
        """Whether the end of a text stood right before it, too, as far as a loop under way would have it."""
        size = len(text)
        tail = text[-self._agreed :]
        return size > self._agreed and text.rfind(tail, max(0, size - self._agreed - self._longest), size - 1) >= 0

    def _proofs(self, text: str) -> Iterator[tuple[int, int]]:
        """The period and the end of each proof. Only what is near to a sample that comes again can hold one."""
        past = 0
        for first, last in _joined(self._places(text), self._most):
            first, last = max(first, past), min(last, len(text))
            if first >= last:
                continue
            codes = _codes(text[first:last])
            state = self._fresh.copy()
            place = 0
            while place < len(codes):
                step = int(self._jit.follow(state, codes, place))
                place += abs(step)
                if step < 0:
                    yield int(state[self._jit.FOUND]), first + place
            past = last

    def _places(self, text: str) -> Iterator[int]:
        """Samples that come again soon, with what stands next to them: every loop that is proven holds one."""
        find = text.find
        for start in range(0, len(text) - GRAM + 1, STRIDE):
            gram = text[start : start + GRAM]
            again = start
            for tried in range(_TRIES + 1):
                again = find(gram, again + 1, start + GRAM + self._longest)
                if again < 0:
                    break
                if tried == _TRIES or _near(text, start, again):
                    yield start
                    break

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._options,)


def _near(text: str, first: int, second: int) -> bool:
    if text[first : first + _NEAR] == text[second : second + _NEAR]:
        return True
    return first >= _NEAR and text[first - _NEAR : first] == text[second - _NEAR : second]


def _joined(places: Iterable[int], reach: int) -> Iterator[tuple[int, int]]:
    """Ranges of so much before and behind each place, those that meet joined."""
    begin = end = -1
    for place in places:
        if begin >= 0 and place - reach <= end:
            end = place + reach
            continue
        if begin >= 0:
            yield begin, end
        begin, end = max(0, place - reach), place + reach
    if begin >= 0:
        yield begin, end


def _codes(text: str) -> NDArray[np.int32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.int32)


def _rebuild(options: dict[str, Any]) -> RunawayDetector:
    return RunawayDetector(**options)
