"""Slow and obvious twins of the statistics of drift and the detectors of change, from their definitions."""

from __future__ import annotations

import itertools
import math


def histogram(values: list[float], edges: list[float]) -> list[int]:
    counts = [0] * (len(edges) + 1)
    for value in values:
        if value < edges[0]:
            counts[0] += 1
        elif value > edges[-1]:
            counts[-1] += 1
        elif value == edges[-1]:
            counts[-2] += 1
        else:
            counts[sum(edge <= value for edge in edges)] += 1
    return counts


def shares(counts: list[float]) -> list[float]:
    return [count / sum(counts) for count in counts]


def psi(expected: list[float], observed: list[float], floor: float | None = None) -> float:
    def filled(counts: list[float]) -> list[float]:
        found = shares(counts)
        least = min(share for share in found if share > 0)
        stand_in = floor or (least / 1e6 if least <= 1e-4 else 1e-4)
        return [share or stand_in for share in found]

    return sum((p - q) * math.log(p / q) for p, q in zip(filled(expected), filled(observed), strict=True))


def jensen_shannon(expected: list[float], observed: list[float], base: float = math.e) -> float:
    total = 0.0
    for p, q in zip(shares(expected), shares(observed), strict=True):
        total += p * math.log(2 * p / (p + q), base) / 2 if p else 0.0
        total += q * math.log(2 * q / (p + q), base) / 2 if q else 0.0
    return math.sqrt(max(0.0, total))


def chi_square(first: list[float], second: list[float]) -> float:
    n, m = sum(first), sum(second)
    statistic = 0.0
    for one, two in zip(first, second, strict=True):
        for count, size in ((one, n), (two, m)):
            due = (one + two) * size / (n + m)
            statistic += (count - due) ** 2 / due if due else 0.0
    return statistic


def below(values: list[float], place: float) -> float:
    return sum(value <= place for value in values) / len(values)


def ks(first: list[float], second: list[float]) -> float:
    return max(abs(below(first, place) - below(second, place)) for place in [*first, *second])


def ks_exact(gap: float, m: int, n: int) -> float:
    """The share of all orders of m and n different values whose statistic is as high."""
    ranks = range(m + n)
    hits = total = 0
    for chosen in itertools.combinations(ranks, m):
        rest = [rank for rank in ranks if rank not in chosen]
        hits += ks(list(chosen), rest) >= gap - 1e-12
        total += 1
    return hits / total


def wasserstein(first: list[float], second: list[float]) -> float:
    places = sorted({*first, *second})
    return sum(
        (right - left) * abs(below(first, left) - below(second, left)) for left, right in itertools.pairwise(places)
    )


def energy(first: list[float], second: list[float]) -> float:
    def apart(one: list[float], two: list[float]) -> float:
        return sum(abs(a - b) for a in one for b in two) / (len(one) * len(two))

    return math.sqrt(max(0.0, 2 * apart(first, second) - apart(first, first) - apart(second, second)))


def holm(pvalues: list[float]) -> list[float]:
    order = sorted(range(len(pvalues)), key=lambda test: pvalues[test])
    made, highest = [0.0] * len(pvalues), 0.0
    for place, test in enumerate(order):
        highest = max(highest, (len(pvalues) - place) * pvalues[test])
        made[test] = min(1.0, highest)
    return made


def benjamini_hochberg(pvalues: list[float]) -> list[float]:
    ordered = sorted(pvalues)
    return [
        min(1.0, *(later * len(ordered) / (rank + 1) for rank, later in enumerate(ordered) if later >= value))
        for value in pvalues
    ]


def mmd(first: list[list[float]], second: list[list[float]], bandwidth: float, *, biased: bool = False) -> float:
    def close(one: list[float], two: list[float]) -> float:
        return math.exp(-sum((a - b) ** 2 for a, b in zip(one, two, strict=True)) / (2 * bandwidth**2))

    def mean(one: list[list[float]], two: list[list[float]], *, same: bool) -> float:
        pairs = [close(a, b) for i, a in enumerate(one) for j, b in enumerate(two) if not same or biased or i != j]
        return sum(pairs) / len(pairs)

    across = mean(first, second, same=False)
    return mean(first, first, same=True) + mean(second, second, same=True) - 2 * across


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def page_hinkley(values: list[float], delta: float, threshold: float, warm_up: int) -> list[int]:
    hits, start = [], 0
    for end in range(1, len(values) + 1):
        seen = values[start:end]
        gaps = [value - mean(seen[: place + 1]) for place, value in enumerate(seen)]
        up = list(itertools.accumulate((gap - delta for gap in gaps), initial=0.0))
        down = list(itertools.accumulate((gap + delta for gap in gaps), initial=0.0))
        if len(seen) >= warm_up and max(up[-1] - min(up), max(down) - down[-1]) > threshold:
            hits.append(end - 1)
            start = end
    return hits


def cusum(values: list[float], allowance: float, threshold: float, warm_up: int) -> list[int]:
    hits, start = [], 0
    for end in range(1, len(values) + 1):
        learnt, seen = values[start : start + warm_up], values[start + warm_up : end]
        if not seen:
            continue
        centre = mean(learnt)
        spread = math.sqrt(math.fsum((value - centre) ** 2 for value in learnt) / (warm_up - 1))
        up = down = 0.0
        for value in seen:
            up = max(0.0, up + (value - centre) / spread - allowance)
            down = max(0.0, down - (value - centre) / spread - allowance)
        if max(up, down) > threshold:
            hits.append(end - 1)
            start = end
    return hits


def ddm(values: list[float], drift: float, warm_up: int) -> list[int]:
    hits: list[int] = []
    start = 0
    lowest: tuple[float, float] | None = None
    for end in range(1, len(values) + 1):
        size = end - start
        rate = mean(values[start:end])
        spread = math.sqrt(max(0.0, rate * (1 - rate)) / size)
        if size < warm_up:
            continue
        if 0 < rate < 1 and (lowest is None or rate + spread <= sum(lowest)):
            lowest = (rate, spread)
        if lowest and rate + spread > lowest[0] + drift * lowest[1]:
            hits.append(end - 1)
            start, lowest = end, None
    return hits


def adwin(values: list[float], delta: float, clock: int, least: int, buckets: int) -> list[int]:
    """Buckets hold their values themselves, oldest first, each twice as many at most as the next."""
    hits: list[int] = []
    window: list[list[float]] = []
    for place, value in enumerate(values):
        window.append([value])
        size = 1
        while sum(len(bucket) == size for bucket in window) > buckets:
            first = next(index for index, bucket in enumerate(window) if len(bucket) == size)
            window[first : first + 2] = [window[first] + window[first + 1]]
            size *= 2
        cut = False
        while (place + 1) % clock == 0 and _parts(window, delta, least):
            window.pop(0)
            cut = True
        if cut:
            hits.append(place)
    return hits


def _parts(window: list[list[float]], delta: float, least: int) -> bool:
    every = [value for bucket in window for value in bucket]
    if len(every) < max(3, 2 * least):
        return False
    centre = mean(every)
    variance = mean([(value - centre) ** 2 for value in every])
    doubt = math.log(2 * math.log(len(every)) / delta)
    for cut in itertools.accumulate(len(bucket) for bucket in window):
        older, newer = every[:cut], every[cut:]
        if min(len(older), len(newer)) < least:
            continue
        share = 1 / len(older) + 1 / len(newer)
        if abs(mean(older) - mean(newer)) > math.sqrt(2 * share * variance * doubt) + 2 / 3 * share * doubt:
            return True
    return False


def softmax(logits: list[float]) -> tuple[float, float]:
    """Entropy and log-sum-exp."""
    top = max(logits)
    under = [logit - top for logit in logits if logit > -math.inf]
    size = math.log(math.fsum(math.exp(gap) for gap in under))
    return -math.fsum((gap - size) * math.exp(gap - size) for gap in under), top + size


def token_entropy(tokens: list[int], vocabulary: int) -> tuple[list[int], float, int]:
    inside = [token for token in tokens if 0 <= token < vocabulary]
    counts = [inside.count(token) for token in range(vocabulary)]
    entropy = -sum(count / len(inside) * math.log(count / len(inside)) for count in counts if count)
    return counts, entropy, len(tokens) - len(inside)
