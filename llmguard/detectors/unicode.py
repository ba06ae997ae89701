"""Characters that make a text say one thing to a reader and another to a model.

Invisible, tag and bidirectional control characters, zero-width splits, words that mix scripts to look
like other words, stacked marks and control characters. What scripts and emoji need is left alone:
joiners in Persian, Indic scripts and emoji, flags, variation selectors, one leading byte order mark,
direction marks among right-to-left letters.

References: CVE-2021-42574 (Trojan Source), Unicode UTS 39 (security mechanisms), UTR 36, UTS 51 (emoji).
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import TYPE_CHECKING

from llmguard.detectors.patterns import PatternSet
from llmguard.detectors.views import CONTROLS, INVISIBLE, MARKS, confusables, has_controls
from llmguard.types import Finding, Scope, Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_JOINING = "\u0590-\u10ff\u1700-\u1aaf\ua800-\uabff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U00011000-\U00011fff"
_UNSPACED = "\u0e00-\u109f\u1100-\u11ff\u1780-\u18af\u2e80-\u9fff\uac00-\ud7ff\uff00-\uffef\U00020000-\U0003ffff"
_FLAG = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"

_ODD = re.compile(
    f"(?P<flag>{_FLAG})|(?P<tag>[\U000e0000-\U000e007f]+)|(?P<selector>[{_SELECTORS}]+)|(?P<bidi>[{_BIDI}])"
    f"|(?P<control>[{CONTROLS}]+)|(?P<stack>[{MARKS}]{{4,}})|(?P<hidden>[{INVISIBLE}]+)"
)
_CONTROL = re.compile(f"[{CONTROLS}]+")
_RTL = re.compile("[\u0590-\u061b\u061d-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
_JOINS = re.compile(f"[{_JOINING}]")
_BREAKS = re.compile(f"[{_UNSPACED}]")
_BIDI_OR_LINE = re.compile("[\u202a-\u202e\u2066-\u2069]|[\n\u2029]")

# Greek letters that stand at a word's edge in ordinary science: TNFα, IFNγ, sinα.
_SYMBOLS = frozenset("αβγδεζηθκλμνξπρστφχψω")
_CYRILLIC_TWINS = frozenset("aceopxyABCEHKMOPTXaceopxyi")


def _lookalikes() -> str:
    """Letters of other scripts that look like an ASCII letter, as the inside of a character class."""
    plain = ("LATIN", "MATHEMATICAL", "DOUBLE-STRUCK", "MODIFIER", "SCRIPT")
    found = (
        char
        for char, target in confusables().items()
        if target.isalpha() and char.isalpha() and not unicodedata.name(char).startswith(plain)
    )
    return "".join(sorted(found))


_LOOKALIKES = _lookalikes()
_FIRM = "".join(char for char in _LOOKALIKES if char not in _SYMBOLS)
_MIXED = re.compile(f"[A-Za-z][{_LOOKALIKES}]|[{_LOOKALIKES}][A-Za-z]")
_TWINS = frozenset(_LOOKALIKES)
_CYRILLIC_OWN = re.compile(f"[{''.join(char for char in map(chr, range(0x400, 0x530)) if char not in _TWINS)}]")


# RE2 patterns that match every text with a finding and few without: ordinary uses are told by their neighbours.
_EMOJI = "\\p{So}\\p{Sk}\ufe0e\ufe0f"
_PLAIN_HIDDEN = "\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u3164\uffa0\ufff0-\ufffb"
_SUSPECT = (
    f"[{CONTROLS}{_BIDI}\u00ad\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0080-\U000e00ff\U000e01f0-\U000e0fff]",
    f"[{MARKS}]{{4}}",
    f"[{INVISIBLE}][{INVISIBLE}]|(?s:.)\ufeff|(?:^|[^\\pM])\u034f",
    f"(?:^|[\x00-\u024f\u1e00-\u1eff\\pZ])[{_SELECTORS}]",
    f"(?:^|[^{_UNSPACED}])[{_PLAIN_HIDDEN}](?:$|[^{_UNSPACED}])",
    f"(?:^|[^{_JOINING}{_EMOJI}])[\u200c\u200d]|[{_EMOJI}][\u200c\u200d](?:$|\\P{{So}})",
)
_MIX = f"[A-Za-z][{_FIRM}]|[{_LOOKALIKES}][A-Za-z]|[A-Za-z][{_LOOKALIKES}]\\pL"


class UnicodeDetector:
    """Finds characters and words that deceive the eye.

    It has no options: a policy's rules choose categories and thresholds. Scores: 0.9 and more where no
    honest text has it, about 0.5 where pasted text may, 0.3 for soft hyphens and stray direction marks.
    """

    name = "unicode"
    version = "1"
    scope = Scope.DOCUMENT
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
        self._set = PatternSet([*_SUSPECT, _MIX])

    def __reduce__(self) -> tuple[type[UnicodeDetector], tuple[()]]:
        return UnicodeDetector, ()

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """Findings for each text; an ASCII text is only looked at for control characters."""
        return [self._one(text.content) for text in texts]

    def _one(self, content: str) -> list[Finding]:
        if content.isascii():
            return [_control(content, hit) for hit in _CONTROL.finditer(content)] if has_controls(content) else []
        hits = self._set.match(content)
        mixed = len(_SUSPECT) in hits
        found = list(_odd(content)) if len(hits) > mixed else []
        if mixed:
            found.extend(_mixed(content))
            found.sort(key=lambda finding: finding.span or (0, 0))
        return found


def _odd(content: str) -> Iterator[Finding]:
    """Findings about single characters and runs of them."""
    rtl: bool | None = None
    unbalanced: frozenset[int] = frozenset()
    for hit in _ODD.finditer(content):
        finding: Finding | None = None
        match hit.lastgroup:
            case "hidden":
                finding = _hidden(content, hit)
            case "selector":
                finding = _selector(content, hit)
            case "bidi":
                if rtl is None:
                    rtl, unbalanced = _RTL.search(content) is not None, _unbalanced(content)
                finding = _bidi(hit, rtl, unbalanced)
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
    if not before or before.isspace() or (before.isalpha() and _latin(before)):
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


def _unbalanced(content: str) -> frozenset[int]:
    """Positions of embeddings, overrides and isolates that are not closed in their line, and of stray closers."""
    wrong: set[int] = set()
    open_: list[tuple[int, bool]] = []
    for hit in _BIDI_OR_LINE.finditer(content):
        char = hit[0]
        if char in "\n\u2029":
            wrong.update(position for position, _ in open_)
            open_.clear()
        elif char in "\u202c\u2069":
            if open_ and open_[-1][1] == (char == "\u2069"):
                open_.pop()
            else:
                wrong.add(hit.start())
        else:
            open_.append((hit.start(), char >= "\u2066"))
    wrong.update(position for position, _ in open_)
    return frozenset(wrong)


def _bidi(hit: re.Match[str], rtl: bool, unbalanced: frozenset[int]) -> Finding | None:
    char = hit[0]
    if char in "\u202d\u202e":
        return Finding("BIDI_CONTROL", 0.95, hit.span(), reasons=("text direction overridden", "CVE-2021-42574"))
    if hit.start() in unbalanced and (rtl or char in "\u202b\u2067"):
        return Finding("BIDI_CONTROL", 0.9, hit.span(), reasons=("an unclosed direction change", "CVE-2021-42574"))
    if rtl:
        return None
    if char in "\u200e\u200f\u061c":
        return Finding("BIDI_CONTROL", 0.3, hit.span(), reasons=("a direction mark without right-to-left text",))
    return Finding("BIDI_CONTROL", 0.5, hit.span(), reasons=("a direction change without right-to-left text",))


def _mixed(content: str) -> Iterator[Finding]:
    """Words that mix ASCII letters with letters that look like ASCII letters."""
    cyrillic: bool | None = None
    done = 0
    for hit in _MIXED.finditer(content):
        if hit.start() < done:
            continue
        start, end = hit.span()
        while start > done and content[start - 1].isalpha():
            start -= 1
        while end < len(content) and content[end].isalpha():
            end += 1
        done = end
        score = _word(content[start:end])
        if score == _EDGE:
            if cyrillic is None:
                cyrillic = _CYRILLIC_OWN.search(content) is not None
            # "Windowsа" in Russian text is inflection; in English text it is a homoglyph.
            score = 0.0 if cyrillic else 0.8
        if score:
            yield Finding("MIXED_SCRIPT", score, (start, end), reasons=("letters of two scripts that look alike",))


_EDGE = -1.0


def _word(word: str) -> float:
    """The score of a word of mixed letters; ``_EDGE`` when a single foreign part stands at its edge."""
    foreign = [char for char in word if not _latin(char)]
    switches = sum(_latin(left) != _latin(right) for left, right in pairwise(word))
    if all(char in _TWINS for char in foreign):
        if switches > 1:
            return 0.9
        if len(foreign) == 1 and foreign[0] in _SYMBOLS:
            return 0.0
        return _EDGE if "\u0400" <= foreign[0] <= "\u052f" else 0.8
    cyrillic = all("\u0400" <= char <= "\u052f" for char in foreign)
    inner = [char for char in word if _latin(char)]
    return 0.5 if cyrillic and switches > 1 and all(char in _CYRILLIC_TWINS for char in inner) else 0.0


def _latin(char: str) -> bool:
    return char < "\u0250" or "\u1e00" <= char <= "\u1eff"
