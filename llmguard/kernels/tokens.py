"""Numbers about sequences of token ids: histogram, entropy, repetition, the longest span that comes again, burstiness.

Every function takes a sequence or an array of whole numbers of one dimension and is exact: hashes only say where to
look, and each hit is compared. Time is linear in the length (`longest_repeat`: times its logarithm), on hostile ids
too, since hashes are seeded at random. Nothing is shared between calls: threads and forked children may call at will.
"""

from __future__ import annotations

import os
import secrets
import threading
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import MissingExtraError
from llmguard.kernels.arguments import Ids, check_whole, whole_numbers

#: Bins that are tried first where the caller does not say how many there are: no common vocabulary has more.
COMMON = 1 << 18
#: Bins that a histogram may have, 512 MiB of them.
MOST_BINS = 1 << 26
#: Ids below which the entropy is taken over them, by a table of logarithms, and not over the bins.
FEW = 1 << 15
#: Ids from which several threads count: half a millisecond of work, against some 100 microseconds to start a thread.
MANY = 1 << 20
# A part's counters have 32 bits.
_PART = 1 << 31


class Histogram(NamedTuple):
    """How often each id occurs.

    Attributes:
        counts: int64 [bins].
        entropy: of their shares, in bits (Shannon, "A Mathematical Theory of Communication", 1948); 0.0 without ids.
    """

    counts: NDArray[np.int64]
    entropy: float


class Repeat(NamedTuple):
    """The longest span that stands in two places, which may overlap.

    Attributes:
        length: ids of it; 0 where no id comes again.
        first: where it stands first; -1 where there is none.
        second: where it ends first for the second time, less its length; -1 where there is none.
    """

    length: int
    first: int
    second: int


def histogram(tokens: Ids, bins: int | None = None, *, threads: int | None = None) -> Histogram:
    """Counts each id, and takes the entropy of the counts.

    Args:
        tokens: ids from 0 to ``bins`` - 1.
        bins: length of the counts, such as the size of the vocabulary; by default the highest id plus one.
        threads: that count side by side where there is enough to count; all cores by default.

    Raises:
        TypeError: tokens are no whole numbers, or an option is none.
        ValueError: tokens have more than one dimension or an id out of range, or an option is out of range.
        MissingExtraError: numba is not installed.
    """
    ids = whole_numbers(tokens)
    check_whole("bins", bins, 0, MOST_BINS)
    check_whole("threads", threads, 1, 1024)
    if bins is None and len(ids) < FEW:
        bins = int(ids.max()) + 1 if len(ids) else 0
        if bins > MOST_BINS:
            raise _out_of_range(ids, MOST_BINS)
    tried = COMMON if bins is None else bins
    counted = _counted(ids, tried, threads)
    if counted is None and bins is None and COMMON <= int(ids.max()) < MOST_BINS:
        counted = _counted(ids, int(ids.max()) + 1, threads)
    if counted is None:
        raise _out_of_range(ids, MOST_BINS if bins is None else bins)
    if bins is None:
        used = np.flatnonzero(counted.counts)
        counted = Histogram(counted.counts[: int(used[-1]) + 1 if len(used) else 0].copy(), counted.entropy)
    return counted


def entropy(counts: Ids) -> float:
    """Shannon's entropy of counts, in bits; 0.0 where all of them are 0.

    Raises:
        TypeError: counts are no whole numbers.
        ValueError: one is negative, their sum has more than 63 bits, or they have more than one dimension.
        MissingExtraError: numba is not installed.
    """
    numbers = _wide(counts, "counts")
    if len(numbers) and int(numbers.min()) < 0:
        raise ValueError(f"counts must not be negative: one is {int(numbers.min())}")
    if len(numbers) and int(numbers.max()) > (2**63 - 1) // len(numbers):
        raise ValueError("counts must have a sum below 2^63")
    return float(compiled().entropy(numbers))


def type_token_ratio(tokens: Ids) -> float:
    """Distinct ids by ids; 1.0 without ids. It falls with the length: compare sequences of one length.

    Raises:
        TypeError: tokens are no whole numbers.
        ValueError: tokens have more than one dimension, or an id has more than 64 bits.
        MissingExtraError: numba is not installed.
    """
    ids = _wide(tokens)
    return _distinct(ids, 1) / len(ids) if len(ids) else 1.0


def repetition(tokens: Ids, n: int = 3) -> float:
    """Share of the runs of ``n`` ids that stood in the sequence before; 0.0 without one.

    It is seq-rep-n of Welleck et al., "Neural Text Generation with Unlikelihood Training", 2019 (arXiv:1908.04319).

    Args:
        tokens: ids, of any sign.
        n: ids of a run, from 1 to 64.

    Raises:
        TypeError: tokens or n are no whole numbers.
        ValueError: tokens have more than one dimension, an id has more than 64 bits, or n is out of range.
        MissingExtraError: numba is not installed.
    """
    check_whole("n", n, 1, 64)
    ids = _wide(tokens)
    runs = len(ids) - n + 1
    return 1.0 - _distinct(ids, n) / runs if runs > 0 else 0.0


def longest_repeat(tokens: Ids) -> Repeat:
    """The longest span that stands in the sequence twice; of several the one whose second place comes first.

    Time n log n, memory 40 bytes an id.

    Raises:
        TypeError: tokens are no whole numbers.
        ValueError: tokens have more than one dimension, or an id has more than 64 bits.
        MissingExtraError: numba is not installed.
    """
    ids = _wide(tokens)
    jit = compiled()
    base = np.uint64(2**32 + secrets.randbelow(2**60))
    found = jit.longest(ids, base, np.empty(len(ids) + 1, np.uint64), _slots(len(ids)))
    return Repeat(*(int(number) for number in found))


def burstiness(tokens: Ids) -> float:
    """How unevenly ids come again: (s - m) / (s + m), with m mean and s standard deviation of their distances.

    The distances from each occurrence to the next one of the same id, of all ids together: -1.0 where all are equal
    (a loop), about 0.0 where ids come at random, up to 1.0 where they come in bursts; 0.0 with fewer than two distances
    (Goh and Barabási, "Burstiness and memory in complex systems", EPL 81, 2008).

    Raises:
        TypeError: tokens are no whole numbers.
        ValueError: tokens have more than one dimension, or an id has more than 64 bits.
        MissingExtraError: numba is not installed.
    """
    ids = _wide(tokens)
    slots = _slots(len(ids))
    number, mean, variance = compiled().gaps(ids, _seed(), slots, np.empty_like(slots))
    deviation = variance**0.5
    return (deviation - mean) / (deviation + mean) if number >= 2 else 0.0


def warm(*, wait: bool = True) -> None:
    """Compiles all kernels about tokens, or reads them from the cache, before the first request.

    Args:
        wait: False does it on a thread in the background; who needs a kernel before it is done waits for the rest.

    Raises:
        MissingExtraError: numba is not installed; in the background nothing is raised, the first use says so.
    """
    if wait:
        _compile_all()
        return
    threading.Thread(target=_warm_quietly, name="llmguard-compile", daemon=True).start()


@cache
def compiled() -> ModuleType:
    """The compiled half of this module.

    Raises:
        MissingExtraError: numba is not installed.
    """
    try:
        from llmguard.kernels import tokens_jit
    except ImportError as error:
        raise MissingExtraError("token statistics", "numba", "kernels") from error
    return tokens_jit


def _compile_all() -> None:
    # Both are built on this module.
    from llmguard.kernels import tokens_loops, tokens_odds

    for module in (tokens_loops, tokens_odds):
        module.compiled()
    compiled()


def _warm_quietly() -> None:
    try:
        _compile_all()
    except MissingExtraError:
        return


def _counted(ids: NDArray[Any], bins: int, threads: int | None) -> Histogram | None:
    """None where an id is out of range."""
    jit = compiled()
    if len(ids) < FEW:
        counts = np.zeros(bins, np.int64)
        bits = float(jit.count_few(ids, counts, _logs()))
        return None if bits < 0.0 else Histogram(counts, bits)
    wanted = (threads or os.cpu_count() or 1) if len(ids) >= MANY else 1
    # Each has counters of its own: no more of them together than there are ids, or their sum is most of the work.
    parts = max(1, min(wanted, len(ids) // max(1, bins)), -(-len(ids) // _PART))
    edges = [len(ids) * part // parts for part in range(parts + 1)]
    tables = [np.zeros(bins, np.uint32) for _ in range(parts)]
    outside = [0] * parts

    def work(part: int) -> None:
        outside[part] = jit.count(ids[edges[part] : edges[part + 1]], tables[part])

    # Plain threads: numba's own are shared by the process, and with GNU OpenMP or its work queue a fork, or two callers
    # at a time, end the process.
    helpers = [threading.Thread(target=work, args=(part,)) for part in range(1, parts)]
    for helper in helpers:
        helper.start()
    work(0)
    for helper in helpers:
        helper.join()
    if any(outside):
        return None
    counts = tables[0].astype(np.int64)
    for table in tables[1:]:
        counts += table
    return Histogram(counts, float(jit.entropy(counts)))


def _distinct(ids: NDArray[np.int64], n: int) -> int:
    return int(compiled().distinct(ids, n, _seed(), _slots(len(ids))))


def _slots(size: int) -> NDArray[np.int64]:
    return np.full(1 << max(4, (2 * size - 1).bit_length()), -1, np.int64)


def _seed() -> np.uint64:
    return np.uint64(secrets.randbits(64))


@cache
def _logs() -> NDArray[np.float64]:
    """Logarithms to base 2 of 0 (as 0) to `FEW`."""
    table = np.log2(np.maximum(np.arange(FEW + 1), 1))
    table.setflags(write=False)
    return table


def _wide(tokens: Ids, name: str = "tokens") -> NDArray[np.int64]:
    return whole_numbers(tokens, name).astype(np.int64, copy=False)


def _out_of_range(ids: NDArray[Any], bins: int) -> ValueError:
    low, high = int(ids.min()), int(ids.max())
    return ValueError(f"tokens must be from 0 to {bins - 1}; these go from {low} to {high}")
