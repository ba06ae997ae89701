"""One answer for everybody who asks the same at about the same time.

Detectors that share an encoder run side by side and ask for the same texts; whoever comes first computes, the others
wait for it. Keys are keyed hashes, so that no text is kept; answers that are small stay for a while.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")

_KEY = os.urandom(32)


def digest(*parts: str) -> bytes:
    """A hash of some texts that means nothing outside of this process; 16 bytes."""
    made = hashlib.blake2b(digest_size=16, key=_KEY)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        made.update(len(data).to_bytes(8, "little") + data)
    return made.digest()


class Memo(Generic[T]):
    """Answers by key: those that are being computed, and the last ones.

    Args:
        size: answers that are kept at most; those under way are not counted.
        keep: whether an answer is small enough to be kept.
    """

    def __init__(self, size: int, keep: Callable[[T], bool]) -> None:
        self._size = size
        self._keep = keep
        self._kept: OrderedDict[bytes, T] = OrderedDict()
        self._lock = threading.Lock()
        self._under_way: dict[bytes, Future[T]] = {}

    def get(
        self,
        keys: Sequence[bytes],
        compute: Callable[[list[int]], Sequence[T]],
        wait: Callable[[Future[T]], T],
    ) -> list[T]:
        """The answers to ``keys``, in order; ``compute`` is asked for those that nobody has or computes.

        Args:
            keys: any, also the same one more than once.
            compute: indices of keys in, as many answers out.
            wait: waits for what another thread computes.

        Raises:
            Exception: what ``compute`` or ``wait`` raised. What made another thread fail does not count: then
                ``compute`` is asked again.
        """
        known: dict[bytes, T | Future[T]] = {}
        mine: list[int] = []
        with self._lock:
            for index, key in enumerate(keys):
                if key in known:
                    continue
                if key in self._kept:
                    self._kept.move_to_end(key)
                    known[key] = self._kept[key]
                elif key in self._under_way:
                    known[key] = self._under_way[key]
                else:
                    known[key] = self._under_way[key] = Future()
                    mine.append(index)
        if mine:
            self._compute([keys[index] for index in mine], mine, compute)
        lost = [index for index, key in enumerate(keys) if self._failed(known, key, wait)]
        if lost:
            again = list(dict.fromkeys([keys[index] for index in lost]))
            first = {key: place for place, key in reversed(list(enumerate(keys)))}
            places = [first[key] for key in again]
            known.update(zip(again, compute(places), strict=True))
        return [self._value(known[key]) for key in keys]

    @staticmethod
    def _value(known: T | Future[T]) -> T:
        if isinstance(known, Future):
            found: T = known.result()
            return found
        return known

    @staticmethod
    def _failed(known: dict[bytes, T | Future[T]], key: bytes, wait: Callable[[Future[T]], T]) -> bool:
        """Whether another thread that was to compute this failed; waits for it."""
        found = known[key]
        if not isinstance(found, Future):
            return False
        if not found.done():
            try:
                known[key] = wait(found)
            except Exception:
                if not found.done():
                    raise
                return True
            return False
        return found.exception() is not None

    def _compute(self, keys: list[bytes], places: list[int], compute: Callable[[list[int]], Sequence[T]]) -> None:
        try:
            answers = compute(places)
        except BaseException as error:
            with self._lock:
                futures = [self._under_way.pop(key) for key in keys]
            for future in futures:
                future.set_exception(error)
            raise
        with self._lock:
            futures = [self._under_way.pop(key) for key in keys]
            for key, answer in zip(keys, answers, strict=True):
                if self._keep(answer):
                    self._kept[key] = answer
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        for future, answer in zip(futures, answers, strict=True):
            future.set_result(answer)

    def clear(self) -> None:
        """Forget what is kept."""
        with self._lock:
            self._kept.clear()
