"""Texts that cost more than they say: too long, loops, repetition, few characters, gibberish, encoded blobs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llmguard.detectors.gibberish import gibberish
from llmguard.detectors.runs import GRAM, STRIDE, blobs, loops, samples
from llmguard.errors import ConfigurationError
from llmguard.types import Finding, Scope, Text

#: Code points below which only the length is looked at: statistics of less say nothing.
_SHORT = 200
_BLOCK = 2_048
#: Word trigrams that a block must hold for a share of them to mean anything.
_TRIGRAMS = 30
#: Bytes of UTF-8 a token: about what byte-level BPE vocabularies of 100,000 entries take for English
#: (OpenAI's rule of thumb); other scripts need more bytes a character and more tokens a character alike.
_TOKEN_BYTES = 4
_MANY = 1 << 16


class TokenStatistics(NamedTuple):
    """Numbers about one text.

    Attributes:
        tokens: an estimate: bytes of UTF-8 by four, rounded up.
        characters: code points.
        entropy: Shannon entropy of the code points, in bits each; 0.0 for an empty text.
        type_token_ratio: distinct words by words, split at white space; 1.0 without words. It falls with length.
        repetition: share of the word trigrams that occurred before in the text (``seq-rep-3`` of
            Welleck et al. 2019, arXiv:1908.04319); 0.0 without trigrams.
    """

    tokens: int
    characters: int
    entropy: float
    type_token_ratio: float
    repetition: float


def statistics(content: str) -> TokenStatistics:
    """The statistics of one text, in time linear in its length (for short ones of other scripts n log n)."""
    words = content.split()
    return TokenStatistics(
        tokens=_tokens(content),
        characters=len(content),
        entropy=_entropy(content),
        type_token_ratio=len(set(words)) / len(words) if words else 1.0,
        repetition=_repetition(words)[0],
    )


class TokenStatsDetector:
    """Finds floods, loops and blobs by counting; docs/detectors/token_stats.md has the formulas.

    ``EXCESSIVE_LENGTH``: more tokens than ``max_tokens``. ``LOOP``: a stretch that repeats itself.
    ``REPETITION``: a stretch most of whose word trigrams occurred before in it. ``LOW_ENTROPY``: a
    text of very few different characters. ``HIGH_ENTROPY``: a long run of base64, base32 or hex.
    ``GIBBERISH``: letters in an order that no language has.

    A score is 0.5 at the threshold and nears 1 beyond it.

    Args:
        max_tokens: estimated tokens above which a text is too long. The default leaves room for an
            answer in a context of 128,000 tokens.
        loop_length: code points that a loop must cover.
        loop_repeats: how many times it must say the same.
        repetition: share of repeated word trigrams in 2,048 code points, in (0, 1].
        low_entropy: bits a character below which a text of 200 code points or more is too plain.
        high_entropy: bits a character from which a run of base64 counts as a blob.
        blob_length: code points that a blob must have.
        gibberish: share of the pairs of letters in 512 code points that are rare in every language with Latin letters.

    Raises:
        ConfigurationError: an option has a wrong type or is out of range.
    """

    name = "token_stats"
    version = "2"
    scope = Scope.DOCUMENT
    categories = frozenset({"EXCESSIVE_LENGTH", "GIBBERISH", "HIGH_ENTROPY", "LOOP", "LOW_ENTROPY", "REPETITION"})
    inline = True

    def __init__(
        self,
        *,
        max_tokens: int = 100_000,
        loop_length: int = 240,
        loop_repeats: int = 4,
        repetition: float = 0.5,
        low_entropy: float = 2.5,
        high_entropy: float = 4.9,
        blob_length: int = 180,
        gibberish: float = 0.15,
    ) -> None:
        self._max_tokens = _whole("max_tokens", max_tokens, 1)
        self._loop_length = _whole("loop_length", loop_length, 240)
        self._loop_repeats = _whole("loop_repeats", loop_repeats, 2)
        self._repetition = _real("repetition", repetition, 0.05, 1.0)
        self._low = _real("low_entropy", low_entropy, 0.0, 8.0)
        self._high = _real("high_entropy", high_entropy, 1.0, 6.0)
        self._blob_length = _whole("blob_length", blob_length, STRIDE + GRAM)
        self._gibberish = _real("gibberish", gibberish, 0.05, 1.0)
        self._collisions = 2.0**-self._low

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """What stands out in each text."""
        return [self._find(text.content) for text in texts]

    def _find(self, content: str) -> list[Finding]:
        size = len(content)
        found: list[Finding] = []
        # A code point is at most four bytes, so at most one estimated token.
        if size > self._max_tokens and (tokens := _tokens(content)) > self._max_tokens:
            found.append(Finding("EXCESSIVE_LENGTH", 1.0 - self._max_tokens / (2.0 * tokens), None))
        if size < _SHORT:
            return found
        # Shannon's entropy is never below the collision entropy, -log2 of the sum of squared shares,
        # and merging characters lowers both: the low bytes alone clear nearly every text.
        data = content.encode("ascii") if content.isascii() else content.encode("utf-32-le", "surrogatepass")[::4]
        counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
        # Not a dot product: it would release the GIL, which costs more than it takes.
        collisions = int(np.add.reduce(counts * counts))
        if collisions > self._collisions * size * size and (bits := _entropy(content)) < self._low:
            found.append(Finding("LOW_ENTROPY", 1.0 - bits / (2.0 * self._low), None))
        repeats, solid = samples(content)
        if repeats:
            for run in loops(content, repeats, self._loop_length, self._loop_repeats):
                score = 1.0 - self._loop_length / (2.0 * (run[1] - run[0]))
                found.append(Finding("LOOP", score, run))
            found += self._repetitive(content, repeats)
        if solid:
            for score, run in blobs(content, solid, self._blob_length, self._high):
                found.append(Finding("HIGH_ENTROPY", score, run))
        spans = [finding.span for finding in found if finding.span]
        for share, run in gibberish(content, self._gibberish, spans):
            found.append(Finding("GIBBERISH", 1.0 - self._gibberish / (2.0 * share), run))
        return found

    def _repetitive(self, content: str, repeats: list[int]) -> Iterable[Finding]:
        """Blocks that repeat themselves, neighbours joined; only those where every fourth sample recurs are counted."""
        recurring: dict[int, int] = {}
        for start in repeats:
            recurring[start // _BLOCK] = recurring.get(start // _BLOCK, 0) + 1
        joined: list[tuple[int, int, float]] = []
        known: dict[str, tuple[float, int]] = {}  # a text that loops has the same block over and over
        for block, count in recurring.items():
            begin, end = block * _BLOCK, min(len(content), (block + 1) * _BLOCK)
            if 4 * count * STRIDE < end - begin:
                continue
            words = content[begin:end]
            share, trigrams = known[words] if words in known else known.setdefault(words, _repetition(words.split()))
            if share < self._repetition or trigrams < _TRIGRAMS:
                continue
            if joined and joined[-1][1] == begin:
                before = joined.pop()
                begin, share = before[0], max(before[2], share)
            joined.append((begin, end, share))
        room = 1.0 - self._repetition
        for begin, end, share in joined:
            score = 0.5 + 0.5 * (share - self._repetition) / room if room else 1.0
            yield Finding("REPETITION", score, (begin, end))


def _tokens(content: str) -> int:
    size = len(content) if content.isascii() else len(content.encode("utf-8", "surrogatepass"))
    return -(-size // _TOKEN_BYTES)


def _repetition(words: list[str]) -> tuple[float, int]:
    """Share of the trigrams that occurred before, and how many trigrams there are."""
    total = len(words) - 2
    if total < 1:
        return 0.0, 0
    return 1.0 - len(set(zip(words, words[1:], words[2:], strict=False))) / total, total


def _entropy(content: str) -> float:
    if not content:
        return 0.0
    counts: npt.NDArray[Any]
    if content.isascii():
        counts = np.bincount(np.frombuffer(content.encode("ascii"), np.uint8))
    else:
        points = np.frombuffer(content.encode("utf-32-le", "surrogatepass"), np.uint32)
        counts = np.bincount(points) if len(points) > _MANY else np.unique(points, return_counts=True)[1]
    shares = counts[counts > 0] / len(content)
    return float(max(0.0, -(shares * np.log2(shares)).sum()))


def _whole(option: str, value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"token_stats: {option} must be a whole number of at least {least}, not {value!r}")
    return value


def _real(option: str, value: object, least: float, most: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ConfigurationError(f"token_stats: {option} must be a number, not {value!r}")
    if not least <= value <= most:
        raise ConfigurationError(f"token_stats: {option} must be in [{least}, {most}], not {value!r}")
    return float(value)
