"""Characters that make a text say one thing to a reader and another to a model.

Invisible, tag and bidirectional control characters, zero-width splits, words that mix scripts to look
like other words, stacked marks and control characters. What scripts and emoji need is left alone:
joiners in Persian, Indic scripts and emoji, flags, variation selectors, one leading byte order mark,
direction marks among right-to-left letters.

References: Unicode UTS 39 (security mechanisms), UTR 36, UTS 51 (emoji).
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from llmguard.detectors import unicode_live
from llmguard.detectors.patterns import PatternSet
from llmguard.detectors.unicode_bidi import BIDI, RTL, judge, unbalanced
from llmguard.detectors.unicode_near import Near
from llmguard.detectors.unicode_words import MIXED, latin, mixed_words
from llmguard.detectors.views import CONTROLS, INVISIBLE, MARKS, has_controls
from llmguard.types import Finding, Scope, Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_JOINING = "\u0590-\u10ff\u1700-\u1aaf\ua800-\uabff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U00011000-\U00011fff"
_UNSPACED = "\u0e00-\u109f\u1100-\u11ff\u1780-\u18af\u2e80-\u9fff\uac00-\ud7ff\uff00-\uffef\U00020000-\U0003ffff"
_FLAG = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"

_ODD = re.compile(
    f"(?P<flag>{_FLAG})|(?P<tag>[\U000e0000-\U000e007f]+)|(?P<selector>[{_SELECTORS}]+)|(?P<bidi>[{BIDI}])"
    f"|(?P<control>[{CONTROLS}]+)|(?P<stack>[{MARKS}]{{4,}})|(?P<hidden>[{INVISIBLE}]+)"
)
_CONTROL = re.compile(f"[{CONTROLS}]+")
_JOINS = re.compile(f"[{_JOINING}]")
_BREAKS = re.compile(f"[{_UNSPACED}]")

# RE2 patterns that match every text with a finding and few without: ordinary uses are told by their neighbours.
# Symbols by blocks rather than by category, since RE2's Unicode may be newer or older than Python's: these are old.
_PICTURES = (
    "\u2600-\u266e\u2670-\u2767\u2b00-\u2b2f\U0001f300-\U0001f3fa\U0001f400-\U0001f64f\U0001f680-\U0001f6d7"
    "\U0001f90c-\U0001f9ff\U0001faf0-\U0001faf6"
)
_EMOJI = f"{_PICTURES}\U0001f3fb-\U0001f3ff\ufe0e\ufe0f"
_MARKED = "\u0300-\u036f\u0591-\u05bd"
_PLAIN_HIDDEN = "\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u3164\uffa0\ufff0-\ufffb"
_SUSPECT = (
    f"[{CONTROLS}{BIDI}\u00ad\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]",
    f"[{MARKS}]{{4}}",
    f"[{INVISIBLE}][{INVISIBLE}]|(?s:.)\ufeff|(?:^|[^{_MARKED}])\u034f",
    f"(?:^|[\x00-\u024f\u1e00-\u1eff\\pZ])[{_SELECTORS}]",
    f"(?:^|[^{_UNSPACED}])[{_PLAIN_HIDDEN}](?:$|[^{_UNSPACED}])",
    f"(?:^|[^{_JOINING}{_EMOJI}])[\u200c\u200d]|[{_EMOJI}][\u200c\u200d](?:$|[^{_PICTURES}])",
    MIXED,
)
_TURNS, _MIXES = 0, len(_SUSPECT) - 1


class UnicodeDetector:
    """Finds characters and words that deceive the eye.

    It has no options: a policy's rules choose categories and thresholds. Scores: 0.9 and more where no
    honest text has it, about 0.5 where pasted text may, 0.3 for soft hyphens and stray direction marks.
    """

    name = "unicode"
    version = "2"
    scope = Scope.SPAN
    categories = frozenset(
        {
            "INVISIBLE_CHARACTER",
            "TAG_CHARACTER",
            "BIDI_CONTROL",
            "MIXED_SCRIPT",
            "ZERO_WIDTH_SPLIT",
            "CONTROL_CHARACTER",
            "STACKED_MARKS",
        }
    )
    inline = True

    def __init__(self) -> None:
        self._set = PatternSet(_SUSPECT)

    def __reduce__(self) -> tuple[type[UnicodeDetector], tuple[()]]:
        return UnicodeDetector, ()

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """Findings for each text; an ASCII text is only looked at for control characters."""
        return [self._one(text.content) for text in texts]

    def settled(self, text: str) -> int:
        """Up to where the findings are final (`types.Incremental`): in prose to the beginning of the last word.

        Direction marks and words that letters to come may explain hold at most twice ``NEAR`` code points back, a
        direction change that is not closed holds the rest of its line.
        """
        hits = [] if text.isascii() else self._set.match(text)
        return unicode_live.settled(text, bidi=_TURNS in hits, mixed=_MIXES in hits)

    def context(self, text: str, start: int) -> int:
        """From where to look for what starts at or after ``start`` (`types.Incremental`)."""
        return unicode_live.context(text, start)

    def _one(self, content: str) -> list[Finding]:
        if content.isascii():
            return [_control(content, hit) for hit in _CONTROL.finditer(content)] if has_controls(content) else []
        hits = self._set.match(content)
        mixed = _MIXES in hits
        found = list(_odd(content)) if len(hits) > mixed else []
        if mixed:
            found.extend(mixed_words(content))
            found.sort(key=lambda finding: finding.span or (0, 0))
        return found


def _odd(content: str) -> Iterator[Finding]:
    """Findings about single characters and runs of them."""
    near = Near(RTL, content)
    wrong: frozenset[int] | None = None
    for hit in _ODD.finditer(content):
        finding: Finding | None = None
        match hit.lastgroup:
            case "hidden":
                finding = _hidden(content, hit)
            case "selector":
                finding = _selector(content, hit)
            case "bidi":
                wrong = unbalanced(content) if wrong is None else wrong
                finding = judge(hit, near.has(*hit.span()), wrong)
            case "tag":
                finding = Finding("TAG_CHARACTER", 1.0, hit.span(), reasons=("tag characters outside a flag",))
            case "control":
                finding = _control(content, hit)
            case "stack":
                finding = Finding("STACKED_MARKS", 0.8, hit.span(), reasons=("four or more marks on one letter",))
        if finding is not None:
            yield finding


def _around(content: str, hit: re.Match[str]) -> tuple[str, str]:
    start, end = hit.span()
    return content[start - 1 : start] if start else "", content[end : end + 1]


def _control(content: str, hit: re.Match[str]) -> Finding:
    before, after = _around(content, hit)
    if before.isalnum() and after.isalnum():
        return Finding("CONTROL_CHARACTER", 0.8, hit.span(), reasons=("a control character inside a word",))
    return Finding("CONTROL_CHARACTER", 0.5, hit.span(), reasons=("a control character",))


def _selector(content: str, hit: re.Match[str]) -> Finding | None:
    """Variation selectors: one after a symbol, digit or ideograph is normal; more carry hidden data."""
    before, _ = _around(content, hit)
    start, end = hit.span()
    if end - start > 1:
        return Finding("INVISIBLE_CHARACTER", 0.95, (start, end), reasons=("a run of variation selectors",))
    if not before or before.isspace() or (before.isalpha() and latin(before)):
        return Finding("INVISIBLE_CHARACTER", 0.4, (start, end), reasons=("a variation selector with no base",))
    return None


def _hidden(content: str, hit: re.Match[str]) -> Finding | None:
    before, after = _around(content, hit)
    run = hit[0]
    if len(run) == 1 and _ordinary(run, before, after, hit.start()):
        return None
    split = before.isalnum() and after.isalnum()
    if run == "\u00ad":
        category = "ZERO_WIDTH_SPLIT" if split else "INVISIBLE_CHARACTER"
        return Finding(category, 0.3, hit.span(), reasons=("a soft hyphen",))
    if len(run) >= 8:
        return Finding("INVISIBLE_CHARACTER", 0.95, hit.span(), reasons=("a long run of invisible characters",))
    if split:
        return Finding("ZERO_WIDTH_SPLIT", 0.9, hit.span(), reasons=("a word split by invisible characters",))
    return Finding("INVISIBLE_CHARACTER", 0.5, hit.span(), reasons=("an invisible character",))


def _ordinary(char: str, before: str, after: str, start: int) -> bool:
    """Whether scripts, emoji or editors put this invisible character there."""
    if char == "\ufeff":
        return start == 0
    if char in "\u200c\u200d":
        if before and _JOINS.match(before):
            return True
        emoji = before and (unicodedata.category(before) in {"So", "Sk"} or before in "\ufe0e\ufe0f")
        return bool(emoji and after and unicodedata.category(after) == "So")
    if char == "\u034f":
        return bool(before) and unicodedata.category(before)[0] == "M"
    if char == "\u00ad":
        return False
    return any(near and _BREAKS.match(near) is not None for near in (before, after))
