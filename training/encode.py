"""Texts to windows of tokens with case types, and entity spans to BIO labels of tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmguard.inference.windows import case_types, code_points
from training.labels import BIO, Example, Span

MAX_TOKENS = 256
OVERLAP = 64
#: Tokens of a statement beside a context, at most: half of the window without its three special tokens.
MAX_STATEMENT = (MAX_TOKENS - 3) // 2
IGNORED = -100
CLS, SEP = 101, 102
_BIO = {label: place for place, label in enumerate(BIO)}
Offsets = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Piece:
    """One window: token ids and types with the special tokens, and the code points of each token (-1 for none)."""

    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    offsets: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text's tokens, uncut."""

    ids: Sequence[int]
    offsets: Offsets
    cases: Sequence[int]


class Encoder:
    """Tokenizes with a tokenizer.json.

    Args:
        tokenizer: its text.
    """

    def __init__(self, tokenizer: str) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text, without special ones."""
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [
            Tokens(one.ids, one.offsets, _cases(text, one.offsets)) for one, text in zip(encoded, texts, strict=True)
        ]


def _cases(text: str, offsets: Offsets) -> Sequence[int]:
    places = np.array(offsets, np.int32).reshape(-1, 2)
    cases: list[int] = case_types(code_points(text), places).tolist()
    return cases


def window(text: Tokens, start: int, end: int, context: Tokens | None = None, context_end: int = 0) -> Piece:
    """Tokens ``start`` to ``end`` of a text as the model reads them, after the first ``context_end`` of a context.

    Types are the segment plus twice the case.
    """
    none = (-1, -1)
    ids, types, offsets = [CLS], [0], [none]
    segment = 0
    if context is not None:
        ids += [*context.ids[:context_end], SEP]
        types += [*(2 * kind for kind in context.cases[:context_end]), 0]
        offsets += [none] * (context_end + 1)
        segment = 1
    ids += [*text.ids[start:end], SEP]
    types += [*(segment + 2 * kind for kind in text.cases[start:end]), segment]
    offsets += [*text.offsets[start:end], none]
    return Piece(np.array(ids, np.int64), np.array(types, np.int64), tuple(offsets))


def windows(text: Tokens, size: int = MAX_TOKENS, overlap: int = OVERLAP) -> list[tuple[int, int]]:
    """Where to cut a text: every token is in a window, and neighbours share ``overlap`` tokens."""
    room, count = size - 2, len(text.ids)
    if count <= room:
        return [(0, count)]
    starts = list(range(0, count - room, room - overlap))
    return [(start, start + room) for start in starts] + [(count - room, count)]


def pair_windows(context: Tokens, text: Tokens, size: int = MAX_TOKENS, overlap: int = OVERLAP) -> list[Tokens]:
    """The parts of a context that fit beside a text which leaves them at least half of the window."""
    room = max(size - 3 - len(text.ids), (size - 3) // 2)
    count = len(context.ids)
    step = max(room - overlap, 1)
    starts = [0] if count <= room else [*range(0, count - room, step), count - room]
    return [
        Tokens(context.ids[a : a + room], context.offsets[a : a + room], context.cases[a : a + room]) for a in starts
    ]


def crop(
    text: Tokens, size: int, rng: random.Random, focus: tuple[int, int] | None, *, positive: bool
) -> tuple[int, int]:
    """A window of a long text for one epoch.

    With a focus it holds the focus if it can. Positives without one lean to their beginnings, where jailbreaks
    declare themselves; negatives come from everywhere, since at run time one window of many decides.
    """
    room, count = size - 2, len(text.ids)
    if count <= room:
        return 0, count
    last = count - room
    if focus is not None:
        inside = [place for place, (a, b) in enumerate(text.offsets) if a < focus[1] and focus[0] < b]
        if inside:
            low, high = max(inside[-1] + 1 - room, 0), min(inside[0], last)
            start = rng.randint(low, high) if low <= high else min(inside[0], last)
            return start, start + room
    draw = rng.random()
    start = (
        0 if draw < (0.5 if positive else 0.25) else last if draw < (0.7 if positive else 0.5) else rng.randint(0, last)
    )
    return start, start + room


def bio(offsets: Offsets, spans: Sequence[Span]) -> list[int]:
    """The label of each token: B at a span's first token, I in the rest of it, O outside, ``IGNORED`` where unknown."""
    labels = []
    before: Span | None = None
    for start, end in offsets:
        inside = next((span for span in spans if start < span[1] and span[0] < end), None)
        if start < 0 or (inside is not None and not inside[2]):
            labels.append(IGNORED)
        elif inside is None:
            labels.append(0)
        else:
            labels.append(_BIO[f"{'I' if inside == before else 'B'}-{inside[2]}"])
        before = inside
    return labels


def marked(offsets: Offsets, spans: Sequence[Span]) -> list[int]:
    """Of each token whether it is in a span: 1 or 0; ``IGNORED`` for special ones and in spans without a category."""
    labels = []
    for start, end in offsets:
        inside = [span[2] for span in spans if start < span[1] and span[0] < end]
        labels.append(IGNORED if start < 0 or "" in inside else int(bool(inside)))
    return labels


def positive(item: Example) -> bool:
    """Whether any label of an example is more likely than not."""
    return any(value > 0.5 for value in item.known.values())
