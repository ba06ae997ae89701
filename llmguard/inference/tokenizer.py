"""Texts to windows of tokens: all of every text, cut at words, with each token's place in the text.

A text is longer than a model's window, or it is not: either way nothing of it is dropped. The file's own truncation
and padding are turned off; a window holds the card's number of tokens, and shares some with the one before. What a
text says can't become a special token: "[SEP]" in a text is four plain tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from llmguard.errors import InferenceError, MissingExtraError, ModelLoadError
from llmguard.inference.encoding import Encoder
from llmguard.inference.windows import Frame, Ints, Tokens, Window, cut, spans

if TYPE_CHECKING:
    from tokenizers import Encoding
    from tokenizers import Tokenizer as Library

    from llmguard.inference.card import TokenizerCard

#: Windows of the pairs that are asked about together: some 250 MB of them with what a model of many heads says, and
#: a minute or more of two cores.
PAIR_LIMIT = 1 << 14

#: Ids, case types and offsets of a range of tokens.
Part: TypeAlias = tuple[Ints, Ints, Ints]


class Tokenizer:
    """Cuts texts into a model's windows. Thread-safe; a text's windows don't depend on its neighbours.

    Args:
        path: a ``tokenizer.json``.
        card: what the model's card says about it.

    Raises:
        ModelLoadError: the file can't be read, frames no text with special tokens, or does not fit the card.
        MissingExtraError: ``tokenizers`` is not installed.
    """

    def __init__(self, path: Path, card: TokenizerCard) -> None:
        library = _load(path)
        if library.id_to_token(card.pad_id) is None:
            raise ModelLoadError(f"the padding token {card.pad_id} is not in its vocabulary", source=str(path))
        self._single = _frame(library, path, pair=False)
        self._pair = _frame(library, path, pair=True)
        self._capacity = card.max_tokens - self._single.count
        self._pair_capacity = card.max_tokens - self._pair.count
        if self._pair_capacity < 2:
            raise ModelLoadError(
                f"windows of {card.max_tokens} tokens have no room between {self._pair.count} special tokens",
                source=str(path),
            )
        self._overlap = card.overlap
        self._encoder = Encoder(library, cased=card.case_types)
        #: Ids are below this number.
        self.size: int = max(library.get_vocab(with_added_tokens=True).values()) + 1

    def windows(self, texts: Sequence[str]) -> list[list[Window]]:
        """The windows of each text: none for a text without a printed character, one for most, more for long ones.

        Every code point but white space lies between ``start`` and ``end`` of a window.
        """
        seen = [text for text in texts if not _blank(text)]
        found = iter(self._encoder.tokens(seen, self._capacity))
        return [[] if _blank(text) else self._windows(next(found)) for text in texts]

    def _windows(self, tokens: Tokens) -> list[Window]:
        ranges = cut(len(tokens.ids), self._capacity, self._overlap, tokens.spaced, tokens.words)
        covered = spans(tokens, ranges)
        return [
            _framed(self._single, [_slice(tokens, first, last)], start, end)
            for (first, last), (start, end) in zip(ranges, covered, strict=True)
        ]

    def pairs(self, contexts: Sequence[str], texts: Sequence[str]) -> list[list[Window]]:
        """The windows of each text beside its context: ``[CLS] context [SEP] text [SEP]``.

        A long context is cut, with the whole text beside each part; a text that leaves the context less than half of a
        window is cut too, and each of its parts meets each part of the context. An empty context is an empty segment;
        a text without a printed character has no windows. ``start``, ``end`` and ``offsets`` are of the text.

        However many texts stand beside one context, it is read once; and what makes too many windows is refused before
        any is made. So the work is linear in what is given, and in the windows.

        Raises:
            ValueError: there are not as many contexts as texts.
            InferenceError: there are more than 16,384 windows, all pairs together.
        """
        if len(contexts) != len(texts):
            raise ValueError(f"{len(contexts)} contexts and {len(texts)} texts don't pair")
        seen = [pair for pair in zip(contexts, texts, strict=True) if not _blank(pair[1])]
        both = [list(dict.fromkeys([pair[side] for pair in seen])) for side in (0, 1)]
        left, right = [dict(zip(own, self._encoder.tokens(own, 0), strict=True)) for own in both]
        plan = self._plan([(left[context], right[text]) for context, text in seen])
        made = iter([self._beside(right[text], *ranges) for (_, text), ranges in zip(seen, plan, strict=True)])
        return [[] if _blank(text) else next(made) for text in texts]

    def _plan(self, pairs: Sequence[tuple[Tokens, Tokens]]) -> list[tuple[list[tuple[int, int]], list[Part]]]:
        """For each pair where its text is cut, and the parts of its context; pairs share what is equal."""
        room = self._pair_capacity
        known: dict[tuple[int, int], list[Part]] = {}
        plan = []
        count = 0
        for context, text in pairs:
            least = max(room // 2, room - len(context.ids))
            own = cut(len(text.ids), least, self._overlap, text.spaced, text.words)
            left = room - max([last - first for first, last in own])
            key = (id(context), left)
            if key not in known:
                ranges = cut(len(context.ids), left, self._overlap, context.spaced, context.words)
                known[key] = [_slice(context, first, last, placed=False) for first, last in ranges]
            count += len(own) * len(known[key])
            if count > PAIR_LIMIT:
                raise InferenceError(
                    f"{len(pairs)} texts of {sum([text.length for _, text in pairs])} characters, beside contexts of "
                    f"up to {max([context.length for context, _ in pairs])}, make more than {PAIR_LIMIT} windows: "
                    "ask about fewer or smaller parts"
                )
            plan.append((own, known[key]))
        return plan

    def _beside(self, text: Tokens, ranges: list[tuple[int, int]], parts: list[Part]) -> list[Window]:
        windows = []
        for (first, last), (start, end) in zip(ranges, spans(text, ranges), strict=True):
            own = _slice(text, first, last)
            windows += [_framed(self._pair, [part, own], start, end) for part in parts]
        return windows


def _blank(text: str) -> bool:
    return not text or text.isspace()


def _slice(tokens: Tokens, first: int, last: int, *, placed: bool = True) -> Part:
    offsets = tokens.offsets[first:last] if placed else np.full((last - first, 2), -1, np.int32)
    return tokens.ids[first:last], tokens.cases[first:last], offsets


def _framed(frame: Frame, parts: Sequence[Part], start: int, end: int) -> Window:
    """Puts special tokens around one part or two."""
    count = frame.count + sum([len(part[0]) for part in parts])
    ids = np.empty(count, np.int32)
    types = np.empty(count, np.int32)
    offsets = np.full((count, 2), -1, np.int32)
    at = 0
    for run, (own, kinds) in enumerate(zip(frame.ids, frame.type_ids, strict=True)):
        until = at + len(own)
        ids[at:until], types[at:until] = own, kinds
        at = until
        if run < len(parts):
            own, cases, places = parts[run]
            until = at + len(own)
            ids[at:until], types[at:until], offsets[at:until] = own, frame.segments[run] + 2 * cases, places
            at = until
    return Window(start, end, ids, types, offsets)


def _load(path: Path) -> Library:
    try:
        from tokenizers import Tokenizer as Library
    except ImportError as error:
        raise MissingExtraError("a model's tokenizer", "tokenizers", "cpu") from error
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelLoadError(f"the tokenizer can't be read: {error.strerror}", source=str(path)) from None
    try:
        library = Library.from_buffer(data)
    except Exception as error:  # noqa: BLE001 - the library raises nothing else
        raise ModelLoadError(f"this is no tokenizer: {error}", source=str(path)) from None
    library.no_truncation()
    library.no_padding()
    library.encode_special_tokens = True
    return library


def _frame(library: Library, path: Path, *, pair: bool) -> Frame:
    """The special tokens that the tokenizer's template puts around one text or two, found by framing a letter."""
    try:
        encoding: Encoding = library.encode("a", "a" if pair else None)
    except Exception as error:  # noqa: BLE001 - the library raises nothing else
        raise ModelLoadError(f"the tokenizer can't encode: {error}", source=str(path)) from None
    runs: list[tuple[list[int], list[int]]] = [([], [])]
    segments: list[int] = []
    previous: int | None = None
    rows = zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, encoding.special_tokens_mask, strict=True)
    for token, kind, sequence, special in rows:
        if special:
            runs[-1][0].append(token)
            runs[-1][1].append(kind)
        elif sequence != previous:
            segments.append(kind)
            runs.append(([], []))
            previous = sequence
    if len(segments) != 1 + pair or not runs[0][0] or not all([ids for ids, _ in runs[1:]]):
        raise ModelLoadError(
            "the tokenizer's template puts no special token before, between or after texts ([CLS] and [SEP])",
            source=str(path),
        )
    return Frame(
        tuple([np.array(ids, np.int32) for ids, _ in runs]),
        tuple([np.array(kinds, np.int32) for _, kinds in runs]),
        tuple(segments),
    )
