"""A pattern of the ``regex`` module, translated to RE2 over proxies so that it never misses a match.

The translation over-approximates: wherever the pattern matches a text, the translation matches the
text's proxy at the same start. Look-arounds of one character at an edge are kept, other look-arounds are
dropped, a back-reference becomes the group it refers to, and a large counted repetition is opened
upwards, since RE2 keeps states for each count. What is not known here is not translated: the caller
then runs the pattern itself on every text.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from llmguard.detectors.pii_ahead import lifted, unambiguous
from llmguard.detectors.pii_classes import CONSUMING, Untranslatable, members, spelled

OPEN_FROM = 40
_RUN_FROM = 24
_RUN_KINDS = 80
_AT = {
    ops.AT_BOUNDARY: r"\b",
    ops.AT_NON_BOUNDARY: r"\B",
    ops.AT_BEGINNING_STRING: r"\A",
    ops.AT_END_STRING: r"\z",
    ops.AT_BEGINNING: "(?m:^)",
    ops.AT_END: "(?m:$)",
}
REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)
ASSERTS = (ops.ASSERT, ops.ASSERT_NOT)
_SAMPLE = (
    b"Please send the three reports of 2024 to everyone in the department before Friday, and tell them that "
    b"the well-known supplier confirmed 15 deliveries for February; nothing else changed on page 7 of it."
)

Nodes = Sequence[tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Translation:
    """What RE2 looks for in place of a pattern.

    Attributes:
        finder: in RE2's syntax; matches at every start of a true match, but for the three attributes below.
        confirm: the pattern to run at a start, in the ``regex`` module's syntax.
        needs: in RE2's syntax; each must match somewhere in the text if the pattern is to match at all.
        before: the finder's match begins one character before the start, unless the start is 0.
        floating: in the ``regex`` module's syntax; a match of each must begin at or after the start. These
            look-aheads are gone from ``confirm``.
        running: likewise; the first match of each at or after the start must be one of its group.
        lookback: when not 0, the finder finds where the leading characters end; the start lies at most so
            many characters before.
        lead: when ``lookback`` is not 0, what the leading characters can be.
        run: the finder finds whole runs of the characters of the pattern; matches lie inside.
    """

    finder: str
    confirm: str
    needs: tuple[str, ...] = ()
    before: bool = False
    floating: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    lookback: int = 0
    lead: bytes = b""
    run: bool = False


def parsed(pattern: str, flags: int) -> Any:
    """The tree of a pattern as the ``regex`` module compiles it with ``flags``.

    Raises:
        Untranslatable: it has something that is not known here, or can match the empty string.
    """
    import regex

    if flags & (regex.VERBOSE | regex.ASCII | regex.LOCALE | regex.REVERSE | regex.WORD | regex.VERSION1):
        raise Untranslatable
    # The `regex` module takes a global `(?i)` anywhere; beside the flag it says nothing new.
    source = pattern.replace("(?i)", "") if flags & regex.IGNORECASE else pattern
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            tree = parser.parse(source, flags=0)
    except (re.error, OverflowError, RecursionError):
        raise Untranslatable from None
    if tree.state.flags & ~re.UNICODE or tree.getwidth()[0] == 0:
        raise Untranslatable
    return tree


class Emitter:
    """Writes nodes of one pattern as RE2 and gathers what they consume."""

    def __init__(self, flags: int, rare: bool) -> None:
        self.flags = flags
        self.rare = rare
        self.zero_width = False
        self.chars: set[str] = set()
        self._groups: dict[int, str] = {}

    def write(self, nodes: Nodes) -> str:
        """The nodes in RE2's syntax."""
        return "".join(self._node(op, value) for op, value in nodes)

    def _node(self, op: Any, value: Any) -> str:
        if op in CONSUMING:
            inside = members(op, value, self.flags, self.rare).inside
            self.chars |= inside
            return spelled(inside)
        if op is ops.BRANCH:
            return "(?:" + "|".join(self.write(branch) for branch in value[1]) + ")"
        if op is ops.SUBPATTERN and not value[1] and not value[2]:
            text = f"(?:{self.write(value[3])})"
            if value[0] is not None:
                self._groups[value[0]] = text
            return text
        if op is ops.ATOMIC_GROUP:
            return f"(?:{self.write(value)})"
        if op in REPEATS:
            return self._repeat(*value)
        if op is ops.GROUPREF and value in self._groups:
            return self._groups[value]
        self.zero_width = True
        if op is ops.AT and value in _AT:
            return _AT[value]
        if op in ASSERTS:
            return ""
        raise Untranslatable

    def _repeat(self, low: int, high: Any, nodes: Nodes) -> str:
        body = f"(?:{self.write(nodes)})"
        if high is ops.MAXREPEAT or high > OPEN_FROM:
            return body + ("*" if low == 0 else f"{{{min(low, OPEN_FROM)},}}")
        return f"{body}{{{low},{high}}}"


def _unwrap(nodes: Nodes) -> Nodes:
    """Take off a group that stands at the head or at the tail."""
    flat = list(nodes)
    for end in (0, -1):
        while flat and flat[end][0] is ops.SUBPATTERN and not flat[end][1][1] and not flat[end][1][2]:
            inner = list(flat[end][1][3])
            flat = [*inner, *flat[1:]] if end == 0 else [*flat[:-1], *inner]
    return flat


def _beside(op: Any, nodes: Nodes, edge: str, flags: int, rare: bool) -> str:
    """What may stand beside a match for a look-around of one character to hold, or "" when it is not one."""
    branches = nodes[0][1][1] if len(nodes) == 1 and nodes[0][0] is ops.BRANCH else [nodes]
    single = [branch[0] for branch in branches if len(branch) == 1 and branch[0][0] in CONSUMING]
    if not single or (op is ops.ASSERT and len(single) < len(branches)):
        return ""
    sides = [members(kind, value, flags, rare) for kind, value in single]
    if op is ops.ASSERT:
        return spelled(frozenset().union(*(side.inside for side in sides)))
    return f"(?:{edge}|{spelled(frozenset.intersection(*(side.outside for side in sides)))})"


def _lookback(nodes: Nodes, pattern: str, flags: int, rare: bool) -> Translation | None:
    """For a pattern that begins with many of one class, as a host name does: look for where they end."""
    width, emitter = 0, Emitter(flags, rare)
    for index, (op, value) in enumerate(nodes):
        if op not in REPEATS or value[1] is ops.MAXREPEAT:
            return None
        low, high, body = value
        emitter.write(body)
        if emitter.zero_width:
            return None
        single = len(body) == 1 and body[0][0] in CONSUMING
        width += high * (1 if single else parser.SubPattern(parser.State(), list(body)).getwidth()[1])
        if single and low >= 1 and high > OPEN_FROM:
            kind, what = body[0]
            last = spelled(members(kind, what, flags, rare).inside)
            finder = last + Emitter(flags, rare).write(nodes[index + 1 :])
            lead = "".join(sorted(emitter.chars)).encode()
            return Translation(finder, pattern, lookback=width, lead=lead)
        if width > 2 * OPEN_FROM:
            return None
    return None


def _hits(pattern: str) -> int:
    """How often ``pattern`` would send us to look on a stretch of plain prose."""
    import re2

    return sum(1 for _ in re2.finditer(pattern.encode(), _SAMPLE))


class _Head(NamedTuple):
    """The nodes at the start that consume nothing.

    Attributes:
        rest: what follows them.
        length: how many they are.
        asserts: how many of them are look-arounds.
        anchor: the anchors among them.
        needs: what must stand somewhere.
        ahead: what of it stands at the start, and is no longer than ``OPEN_FROM``.
    """

    rest: Nodes
    length: int
    asserts: int
    anchor: str
    needs: tuple[str, ...]
    ahead: tuple[str, ...]


def _head(nodes: Nodes, flags: int, rare: bool, *, grouped: bool) -> _Head:
    """The head of a pattern; where nothing is ``grouped`` for a reference, also in a group behind anchors."""
    length = asserts = 0
    anchor = ""
    needs: list[str] = []
    ahead: list[str] = []
    while True:
        op, value = nodes[0]
        if length and not grouped and op is ops.SUBPATTERN and not value[1] and not value[2]:
            nodes = [*value[3], *nodes[1:]]
            continue
        if op not in (ops.AT, *ASSERTS):
            break
        if op is ops.AT:
            anchor += Emitter(flags, rare).write([(op, value)])
        elif op is ops.ASSERT:
            needs.append(Emitter(flags, rare).write(value[1]))
            # A longer one would be read to its end from each start anew.
            if value[0] > 0 and value[1].getwidth()[1] <= OPEN_FROM:
                ahead.append(needs[-1])
        length, asserts, nodes = length + 1, asserts + (op in ASSERTS), nodes[1:]
    return _Head(nodes, length, asserts, anchor, tuple(needs), tuple(ahead))


def _in_runs_with(pattern: str, flags: int, ending: str, *, rare: bool) -> Translation:
    """Runs of what the pattern consumes, if ``ending`` stands in them."""
    emitter = Emitter(flags, rare)
    emitter.write(list(parsed(pattern, flags)))
    some = spelled(emitter.chars)
    return Translation(f"{some}*{ending}{some}*", pattern, run=True)


def translate(pattern: str, flags: int, *, rare: bool, ending: str = "") -> Translation:
    """Translate ``pattern`` as the ``regex`` module compiles it with ``flags``.

    Args:
        pattern: in the ``regex`` module's syntax.
        flags: what it is compiled with.
        rare: whether the translation has to hold for texts with the code points that ``pii_proxy.RARE`` is
            about; without them it is closer.
        ending: in RE2's syntax; what must stand in a match, or at its end, for the recognizer's check to pass. It may
            take in one character after the match.

    Raises:
        Untranslatable: the pattern can match the empty string, or has something that is not known here.
    """
    tree = parsed(pattern, flags)
    if ending:
        return _in_runs_with(pattern, flags, ending, rare=rare)
    referring = re.search(r"\\[1-9]|\(\?P=", pattern) is not None
    nodes = list(tree) if referring else _unwrap(list(tree))

    before = after = ""
    if nodes[0][0] in ASSERTS and nodes[0][1][0] < 0:
        before = _beside(nodes[0][0], nodes[0][1][1], r"\A", flags, rare)
    if nodes[-1][0] in ASSERTS and nodes[-1][1][0] > 0:
        after = _beside(nodes[-1][0], nodes[-1][1][1], r"\z", flags, rare)

    head = _head(nodes, flags, rare, grouped=referring)
    if head.length == 0 and (found := _lookback(nodes, pattern, flags, rare)):
        return found
    emitter = Emitter(flags, rare)
    core = head.anchor + emitter.write(head.rest)
    low = min(tree.getwidth()[0], OPEN_FROM)
    if head.length == 0 and not emitter.zero_width and low >= _RUN_FROM and len(emitter.chars) <= _RUN_KINDS:
        first = Emitter(flags, rare).write(nodes[:1])
        return Translation(f"{spelled(emitter.chars)}{{{low},}}", pattern, (first,), run=True)
    finder = before + core + after
    if head.ahead and not before:
        finder = min([finder, *(head.anchor + inner for inner in head.ahead)], key=_hits)
    confirm, floating, running = lifted(pattern, flags, head.asserts)
    return Translation(finder, unambiguous(confirm), head.needs, bool(before), floating, running)
