"""A text to its tokens, however long: in chunks that end before a space, in parallel, no word too long to be read.

What the library holds for one huge string is tens of times the string, so a long text is encoded in chunks. A chunk
ends before white space, where tokenizers don't join tokens: the result is that of the whole. Only where 65,536 code
points hold no space or line end is a chunk cut elsewhere, and the tokens at that place may differ.
"""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmguard.inference.windows import Flags, Ints, Tokens, case_types, code_points, spaced_tokens

if TYPE_CHECKING:
    from tokenizers import Encoding
    from tokenizers import Tokenizer as Library

#: Code points that are encoded as one string.
CHUNK = 1 << 16
#: Code points whose encodings are held at the same time.
_TOGETHER = 16 * CHUNK
#: Code points of several strings from which the library's threads are worth their start.
_PARALLEL = 1 << 15
#: A code point becomes at most four when it is taken apart (NFD, Unicode Standard Annex 15).
_EXPANSION = 4
_SURROGATE = re.compile("[\ud800-\udfff]")
_JOINERS = "\u200d\ufe0e\ufe0f"

_forked = False


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class Encoder:
    """Encodes texts with one tokenizer of the library; keeps nothing between calls.

    A WordPiece model reads no word longer than its limit (100 code points): one unknown token stands for all of it,
    and a sentence without spaces would go by unread. Such a word is encoded in pieces.

    Args:
        library: without truncation and padding.
        cased: whether case types are wanted.
    """

    def __init__(self, library: Library, *, cased: bool) -> None:
        self._library = library
        self._cased = cased
        model = library.model
        limit = getattr(model, "max_input_chars_per_word", None)
        self._word_limit: int | None = limit
        self._unknown = library.token_to_id(model.unk_token) if limit else None

    def tokens(self, texts: Sequence[str], fits: int) -> list[Tokens]:
        """The tokens of each text, in order.

        Args:
            texts: any.
            fits: texts of at most so many tokens are not going to be cut, so nobody needs to know where their words
                begin.
        """
        parts: list[list[Tokens]] = [[] for _ in texts]
        for group in _groups(texts):
            encodings = self._encode([chunk for _, _, chunk in group])
            for (index, start, chunk), encoding in zip(group, encodings, strict=True):
                whole = len(chunk) == len(texts[index])
                parts[index].append(self._read(chunk, start, encoding, fits if whole else 0))
        return [_joined(len(text), own) for text, own in zip(texts, parts, strict=True)]

    def _encode(self, chunks: list[str]) -> list[Encoding]:
        # A forked child has none of the library's threads: waiting for them would hang.
        if _forked or len(chunks) == 1 or sum([len(chunk) for chunk in chunks]) < _PARALLEL:
            return [self._library.encode(chunk, add_special_tokens=False) for chunk in chunks]
        return self._library.encode_batch(chunks, add_special_tokens=False)

    def _read(self, chunk: str, start: int, encoding: Encoding, fits: int) -> Tokens:
        ids, offsets = _arrays(encoding)
        words = _starts(encoding) if len(ids) > fits else None
        long = self._unread(chunk, ids, offsets)
        if long:
            words = _starts(encoding) if words is None else words
            ids, offsets, words = self._respelled(chunk, long, ids, offsets, words)
        cases = np.zeros(len(ids), np.int32)
        spaced = np.empty(0, np.bool_)
        if self._cased or words is not None:
            points = code_points(chunk)
            if self._cased:
                cases = case_types(points, offsets)
            if words is not None:
                spaced = spaced_tokens(points, offsets)
        return Tokens(len(chunk), ids, offsets + np.int32(start), cases, spaced, spaced if words is None else words)

    def _unread(self, chunk: str, ids: Ints, offsets: Ints) -> list[int]:
        if self._word_limit is None or self._unknown is None:
            return []
        long = (ids == self._unknown) & (offsets[:, 1] - offsets[:, 0] > self._word_limit // _EXPANSION)
        if not long.any():
            return []
        return [at for at in np.flatnonzero(long).tolist() if self._too_long(chunk[offsets[at, 0] : offsets[at, 1]])]

    def _too_long(self, word: str) -> bool:
        normalizer = self._library.normalizer
        normal = word if normalizer is None else normalizer.normalize_str(word)
        return len(normal) > (self._word_limit or 0)

    def _respelled(
        self, chunk: str, long: list[int], ids: Ints, offsets: Ints, words: Flags
    ) -> tuple[Ints, Ints, Flags]:
        """Puts the tokens of its pieces in the place of each word that was too long."""
        size = max(1, (self._word_limit or 0) // _EXPANSION)
        parts: list[tuple[Ints, Ints, Flags]] = []
        done = 0
        for at in long:
            parts.append((ids[done:at], offsets[done:at], words[done:at]))
            start, end = offsets[at].tolist()
            pieces = " ".join([chunk[low : min(low + size, end)] for low in range(start, end, size)])
            encoding = self._library.encode(pieces, add_special_tokens=False)
            own, places = _arrays(encoding)
            places = start + places - places // (size + 1)
            first = np.zeros(len(own), np.bool_)
            first[:1] = True
            parts.append((own, places, first))
            done = at + 1
        parts.append((ids[done:], offsets[done:], words[done:]))
        return (
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts]),
            np.concatenate([part[2] for part in parts]),
        )


def chunks(text: str) -> Iterator[tuple[int, str]]:
    """The text in pieces of at most `CHUNK` code points, and where each begins."""
    start = 0
    while len(text) - start > CHUNK:
        piece = text[start : start + CHUNK]
        space = max(piece.rfind(" "), piece.rfind("\n"), 0)
        size = len(piece[:space].rstrip()) or _elsewhere(text, start)
        yield start, piece[:size]
        start += size
    yield start, text[start:]


def _elsewhere(text: str, start: int) -> int:
    """Where to cut without white space: not before what belongs to the code point before it."""
    for size in range(CHUNK, CHUNK - 32, -1):
        after = text[start + size]
        if not unicodedata.combining(after) and after not in _JOINERS and text[start + size - 1] not in _JOINERS:
            return size
    return CHUNK


def _groups(texts: Sequence[str]) -> Iterator[list[tuple[int, int, str]]]:
    """Chunks with the index of their text and their place in it, as many together as are held at the same time."""
    group: list[tuple[int, int, str]] = []
    size = 0
    for index, text in enumerate(texts):
        # A lone surrogate is nothing that the library takes; it counts as one unknown code point.
        clean = text if text.isascii() else _SURROGATE.sub("\ufffd", text)
        for start, chunk in chunks(clean):
            if group and size + len(chunk) > _TOGETHER:
                yield group
                group, size = [], 0
            group.append((index, start, chunk))
            size += len(chunk)
    if group:
        yield group


def _arrays(encoding: Encoding) -> tuple[Ints, Ints]:
    ids = np.array(encoding.ids, np.int32)
    flat = itertools.chain.from_iterable(encoding.offsets)
    return ids, np.fromiter(flat, np.int32, 2 * len(ids)).reshape(-1, 2)


def _starts(encoding: Encoding) -> Flags:
    """Whether a token begins a word of the tokenizer, [n]."""
    own = np.array([-1 if word is None else word for word in encoding.word_ids], np.int64)
    starts = np.ones(len(own), np.bool_)
    starts[1:] = own[1:] != own[:-1]
    return starts


def _joined(length: int, parts: list[Tokens]) -> Tokens:
    if len(parts) == 1:
        return parts[0]
    return Tokens(
        length,
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.cases for part in parts]),
        np.concatenate([part.spaced for part in parts]),
        np.concatenate([part.words for part in parts]),
    )
