"""An epoch: which examples, in which batches, as which arrays."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.augment import augmented
from training.encode import (
    IGNORED,
    MAX_STATEMENT,
    MAX_TOKENS,
    Encoder,
    Piece,
    Tokens,
    bio,
    crop,
    marked,
    pair_windows,
    positive,
    window,
)
from training.labels import PLACE, UNKNOWN, Example
from training.sources import OWN_TIMES, PER_EPOCH

#: Padded tokens of one batch, and rows at most.
TOKENS, ROWS = 3072, 96
_POOL = 3000
_NEVER = 0.15  # of the windows of a positive with a known place, how many leave the place out


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrays of one step; ``known`` has NaN, ``entities`` and ``false`` ``IGNORED`` where nothing is known."""

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    types: NDArray[np.int64]
    known: NDArray[np.float32]
    weight: NDArray[np.float32]
    entities: NDArray[np.int64]
    false: NDArray[np.int64]


def epoch(items: Sequence[Example], rng: random.Random, share: float = 1.0) -> list[list[Example]]:
    """The batches of an epoch, each of examples of about one length; groups stay together.

    Args:
        items: the training examples.
        rng: draws the rows of sources that are larger than an epoch's part, and the order.
        share: of the epoch's rows.
    """
    by_source: dict[str, dict[str, list[Example]]] = defaultdict(lambda: defaultdict(list))
    for place, item in enumerate(items):
        by_source[item.source][item.group or str(place)].append(item)
    units: list[list[Example]] = []
    for source, groups in sorted(by_source.items()):
        whole = sum(map(len, groups.values()))
        quota = max(share * PER_EPOCH.get(source, whole * OWN_TIMES), 1)
        quota = min(quota, whole * 2)
        taken = 0
        while taken < quota:
            for key in rng.sample(sorted(groups), len(groups)):
                members = groups[key]
                # A large group (one context, one attack string) comes in parts, or it would be a batch by itself.
                part = rng.sample(members, min(len(members), 4))
                units.append(part)
                taken += len(part)
                if taken >= quota:
                    break
    rng.shuffle(units)
    batches: list[list[Example]] = []
    for first in range(0, len(units), _POOL):
        pool = sorted(units[first : first + _POOL], key=lambda unit: max(map(_length, unit)))
        batches += _packed(pool)
    rng.shuffle(batches)
    return batches


def _length(item: Example) -> int:
    # About four characters a token; more than a window is cut to one.
    return min(max(len(item.text) + len(item.context), 12) // 4 + 3, MAX_TOKENS)


def _packed(units: Sequence[Sequence[Example]]) -> Iterator[list[Example]]:
    batch: list[Example] = []
    longest = 0
    for unit in units:
        longer = max(longest, *map(_length, unit))
        if batch and (longer * (len(batch) + len(unit)) > TOKENS or len(batch) + len(unit) > ROWS):
            yield batch
            batch, longer = [], max(map(_length, unit))
        batch += unit
        longest = longer
    if batch:
        yield batch


def arrays(items: Sequence[Example], encoder: Encoder, rng: random.Random, *, augment: bool = True) -> Batch:
    """A batch's examples as arrays: augmented, cropped to a window, padded."""
    if augment:
        items = [augmented(item, rng) for item in items]
    texts = encoder.tokens([item.text for item in items])
    paired = [place for place, item in enumerate(items) if item.context]
    contexts = dict(zip(paired, encoder.tokens([items[place].context for place in paired]), strict=True))
    pieces: list[Piece] = []
    known = np.full((len(items), len(PLACE)), UNKNOWN, np.float32)
    weight = np.array([item.weight for item in items], np.float32)
    for row, (item, text) in enumerate(zip(items, texts, strict=True)):
        labels: Mapping[str, float] = item.known
        if row in contexts:
            part = _ground(contexts[row], text, rng, supported=labels["unsupported"] < 0.5)
            pieces.append(window(text, 0, min(len(text.ids), MAX_STATEMENT), part, len(part.ids)))
        else:
            start, end, labels, scale = _cut(item, text, rng)
            weight[row] *= scale
            pieces.append(window(text, start, end))
        for label, value in labels.items():
            known[row, PLACE[label]] = value
    return _padded(items, pieces, known, weight)


def _ground(context: Tokens, text: Tokens, rng: random.Random, *, supported: bool) -> Tokens:
    """The window of a long context for a text: the one with most of its words, or any for an unsupported one."""
    parts = pair_windows(context, text)
    if not supported and rng.random() < 0.5:
        return rng.choice(parts)
    words = set(text.ids)
    return max(parts, key=lambda part: len(words.intersection(part.ids)))


def _cut(item: Example, text: Tokens, rng: random.Random) -> tuple[int, int, Mapping[str, float], float]:
    count = len(text.ids)
    size = MAX_TOKENS if rng.random() < 0.5 else MAX_TOKENS // 2
    if item.spans is not None:
        size = MAX_TOKENS
    if count <= size - 2:
        return 0, count, item.known, 1.0
    good = positive(item)
    if good and item.focus is not None and item.known.get("data", 0) > 0.5 and rng.random() < _NEVER:
        start, end = crop(text, size, rng, None, positive=False)
        a, b = text.offsets[start][0], text.offsets[end - 1][1]
        if b <= item.focus[0] or item.focus[1] <= a:
            return start, end, {"data": 0.0, "user": 0.0}, 1.0
    start, end = crop(text, size, rng, item.focus, positive=good)
    unsure = good and item.focus is None and start > 0
    return start, end, item.known, 0.5 if unsure else 1.0


def _padded(
    items: Sequence[Example], pieces: Sequence[Piece], known: NDArray[np.float32], weight: NDArray[np.float32]
) -> Batch:
    shape = (len(pieces), max(len(piece.ids) for piece in pieces))
    ids, mask, types = (np.zeros(shape, np.int64) for _ in range(3))
    entities, false = (np.full(shape, IGNORED, np.int64) for _ in range(2))
    for row, (item, piece) in enumerate(zip(items, pieces, strict=True)):
        width = len(piece.ids)
        ids[row, :width], types[row, :width], mask[row, :width] = piece.ids, piece.types, 1
        if item.spans is not None:
            entities[row, :width] = bio(piece.offsets, item.spans)
        if item.false is not None:
            false[row, :width] = marked(piece.offsets, item.false)
    return Batch(ids, mask, types, known, weight, entities, false)
