"""What a text says once its encodings are undone: base64, hex, percent, entities, rot13, leetspeak and more.

A scan for candidates comes first, so that a text without any costs one pass. What decodes to
printable text replaces the run where it stands: an instruction is often half plain, half encoded.
"""

from __future__ import annotations

import base64
import codecs
import html
import re
from functools import cache
from html.entities import html5
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from llmguard.detectors.patterns import PatternSet
from llmguard.detectors.views import SPARSE, Edit, Edits, View

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_MARKERS = (
    "ignore|disregard|forget|override|bypass|instruction|previous|prompt|system|restriction|guideline"
    "|jailbreak|password|reveal|secret|developer|unfiltered|your rules|the rules"
)
_LEET_FROM, _LEET_TO = "013457@$!|€", "oieastasiie"
_LEET_LETTERS = {
    letter: f"[{letter}{''.join(c for c, t in zip(_LEET_FROM, _LEET_TO, strict=True) if t == letter and c != '€')}]"
    for letter in "oieast"
}
# Base64 shows what it holds. In ASCII the top bit of each byte is 0, which pins one bit in three of every
# four letters; UTF-8 of two and three bytes a letter pins the lead and the following bytes likewise.
_B = "[A-Za-z0-9+/_-]"
_LEAD_2, _MID, _LOW_2, _LOW_3 = "[w-z0-3]", "[I-LY-bo-r4-7]", "[CGKOSWaeimquy26+-]", "[DHLPTXbfjnrvz37/_]"
_BASE64 = "|".join(
    (
        f"(?:[A-Za-f][A-HQ-Xg-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589]{_B}){{5}}",
        f"{_LEAD_2}{_MID}{_LOW_3}[A-Za-f][g-v][MNcdst89]{_LOW_2}{_B}{_LEAD_2}{_MID}{_LOW_3}",
        f"(?:[4-7]{_MID}{_LOW_2}{_B}){{3}}",
        f"(?:[g-v][Oeu+-]{_LOW_2}{_B}){{3}}",
        f"(?:[g-v]{_MID}{_LOW_3}[g-v]){{3}}",
    )
)
_HEX = "(?:[2-7][0-9A-Fa-f]){10}|(?:[c-eC-E][0-9A-Fa-f](?:[89abAB][0-9A-Fa-f]){1,2}){4}"

CANDIDATES: dict[str, str] = {
    "base64": _BASE64,
    "hex": f"{_HEX}|(?:[2-7][0-9A-Fa-f][ :,]){{8}}|(?:0x[2-7][0-9A-Fa-f][ ,]){{4}}",
    "percent": "%[2-7][0-9A-Fa-f]",
    "entity": "&#[0-9xX]|&[a-zA-Z]+;",
    "escape": "\\\\u00[2-7][0-9A-Fa-f]|\\\\x[2-7][0-9A-Fa-f]",
    "tags": "[\U000e0020-\U000e007e]",
    "spaced": "[A-Za-z](?:[ ._*|-][A-Za-z]){3}[ ._*|-]",
    "rot13": "(?i)" + codecs.encode(_MARKERS, "rot13"),
    "leetspeak": "(?i)" + "".join(_LEET_LETTERS.get(letter, letter) for letter in _MARKERS),
    "leet_digit": "[A-Za-z][013457@$!|][A-Za-z]|\\b[013457@$!|][A-Za-z]{2}",
}
"""RE2 patterns, by encoding: what a text that holds it must match; both of ``leet*`` for leetspeak.

A detector that has a set of its own adds these to it and hands what matched to ``decoded``.
"""

_RUNS = {
    "escape": r"\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})(?:\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2})*",
    "hex": f"[0-9A-Fa-f]*(?:{_HEX})[0-9A-Fa-f]*|(?:(?:0x)?[0-9A-Fa-f]{{2}}[ ,:]+){{4,}}(?:0x)?[0-9A-Fa-f]{{2}}",
    "base64": f"{_B}*(?:{_BASE64}){_B}*(?:\r?\n{_B}{{8,}})*={{0,2}}",
    "percent": r"%[0-9A-Fa-f]{2}(?:%[0-9A-Fa-f]{2})*",
    "entity": r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});",
    "tags": "[\U000e0020-\U000e007e]+",
    "spaced": r"\b[A-Za-z](?:[ ._*|-]{1,3}[A-Za-z]){4,}\b",
}
_ROUNDS = 2
_LEET = str.maketrans(_LEET_FROM, _LEET_TO)
_LEET_SIGNS = frozenset("013457@$!|")
_URL_SAFE = str.maketrans("-_", "+/", "\r\n")
_NOT_HEX = str.maketrans(",:", "  ")
_LINES = str.maketrans("\t\r\n", "   ")


def _from_base64(run: str) -> bytes:
    letters = run.translate(_URL_SAFE).rstrip("=")
    return base64.b64decode(letters + "=" * (-len(letters) % 4))


def _from_hex(run: str) -> bytes:
    return bytes.fromhex(run.translate(_NOT_HEX).replace("0x", ""))


def _from_entity(run: str) -> str:
    return html.unescape(run) if run[1] == "#" else html5.get(run[1:], run)


def _unspace(run: str) -> str:
    bare = run.encode("ascii").translate(None, b"._*|-")
    if len(bare) < len(run):
        return bare.decode("ascii")
    # Wider gaps, of two or three spaces, stand between words; a run holds no NUL.
    return run.replace("   ", "\0").replace("  ", "\0").replace(" ", "").replace("\0", " ")


_DECODERS: dict[str, Callable[[str], str | bytes]] = {
    "escape": lambda run: run.encode("ascii").decode("unicode_escape"),
    "hex": _from_hex,
    "base64": _from_base64,
    "percent": unquote_to_bytes,
    "entity": _from_entity,
    "tags": lambda run: "".join(chr(ord(char) - 0xE0000) for char in run),
    "spaced": _unspace,
}


def _decode(kind: str, run: str) -> str | None:
    """What a run stands for, or None when that is no printable text."""
    try:
        plain = _DECODERS[kind](run)
        plain = plain if isinstance(plain, str) else plain.decode()
    except ValueError:
        return None
    return plain if plain != run and plain.translate(_LINES).isprintable() else None


@cache
def _candidate_set() -> PatternSet:
    return PatternSet(tuple(CANDIDATES.values()))


def candidates(content: str) -> tuple[str, ...]:
    """Names of the encodings that the text may hold, by one linear scan."""
    names = tuple(CANDIDATES)
    return tuple(names[index] for index in _candidate_set().match(content))


_SIMPLE = {kind: re.compile(_RUNS[kind]) for kind in ("escape", "percent", "entity", "tags")}
"""Runs that ``re`` finds in linear time too; it is quicker than RE2 where there are many."""


@cache
def _run_pattern(kind: str) -> Any:
    import re2

    options = re2.Options()
    options.never_capture = True
    return re2.compile((_RUNS.get(kind) or CANDIDATES[kind]).encode(), options)


def _replace(content: str, kind: str) -> tuple[str, list[Edit]]:
    """The text with the runs of one encoding written out, and the edits made."""
    parts: list[str] = []
    edits: list[Edit] = []
    done = 0
    known: dict[str, str | None] = {}
    for start, end in _runs(content, kind):
        run = content[start:end]
        plain = known[run] if run in known else known.setdefault(run, _decode(kind, run))
        if plain is not None:
            parts += (content[done:start], plain)
            edits.append((start, end, len(plain)))
            done = end
    parts.append(content[done:])
    return "".join(parts), edits


def _runs(content: str, kind: str) -> Iterator[tuple[int, int]]:
    """Where the runs of one encoding stand.

    RE2 searches UTF-8, whose offsets cost nothing; code points are counted along the way.
    """
    if kind in _SIMPLE:
        yield from (match.span() for match in _SIMPLE[kind].finditer(content))
        return
    data = content.encode()
    plain = len(data) == len(content)
    done = position = 0
    for match in _run_pattern(kind).finditer(data):
        start, end = match.span()
        if plain:
            yield start, end
            continue
        position += len(data[done:start].decode())
        first = position
        position += len(data[start:end].decode())
        done = end
        yield first, position


def _leet(content: str) -> list[tuple[int, int]]:
    """Where one of the telling words has a digit or a sign for a letter."""
    words = _runs(content, "leetspeak")
    return [(start, end) for start, end in words if not _LEET_SIGNS.isdisjoint(content[start:end])]


def _few(spans: list[tuple[int, int]], size: int) -> list[tuple[int, int]] | None:
    """The spans, or None when they are many for the size of the text."""
    return spans if len(spans) * SPARSE <= size else None


def _changed(steps: list[list[Edit]], size: int) -> list[tuple[int, int]] | None:
    """What the edits of all steps wrote, in the last text; None when they are many for its size."""
    if sum(map(len, steps)) * SPARSE > size:
        return None
    spans: list[tuple[int, int]] = []
    for edits in map(Edits, steps):
        spans = [(edits.after(start), edits.after(end)) for start, end in spans] + edits.spans()
    return sorted(spans)


def decoded(content: str, kinds: Collection[str] | None = None) -> tuple[View, ...]:
    """The text with what is encoded in it written out: base64, hex, percent, entities and the like.

    Runs that decode to printable UTF-8 are replaced where they stand, and what they say is decoded
    once more; all that is one view. Rot13 and leetspeak make one each, where a telling word is found
    in them. No view is longer than the text, and there are at most three.

    Args:
        content: the text.
        kinds: names from ``CANDIDATES`` that matched; found out when None.
    """
    kinds = candidates(content) if kinds is None else kinds
    views = []
    plain = content
    steps: list[list[Edit]] = []
    seen: dict[str, None] = {}
    todo: Collection[str] = kinds
    for _ in range(_ROUNDS):
        before = plain
        for kind in _RUNS:
            if kind in todo:
                plain, edits = _replace(plain, kind)
                if edits:
                    steps.append(edits)
                    seen[kind] = None
        if plain == before:
            break
        todo = candidates(plain)
    if seen:
        views.append(View("+".join(seen), plain, lambda: tuple(map(Edits, steps)), _changed(steps, len(plain))))
    if "rot13" in kinds:
        telling = _few(list(_runs(content, "rot13")), len(content))
        views.append(View("rot13", codecs.encode(content, "rot13"), changed=telling))
    if "leetspeak" in kinds and "leet_digit" in kinds and (telling := _leet(content)):
        views.append(View("leetspeak", content.translate(_LEET), changed=_few(telling, len(content))))
    return tuple(views)
