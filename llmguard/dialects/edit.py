"""Write texts back into JSON: only those change, every other byte stays as it came.

Numbers, spaces, the order of keys and the way characters are escaped are the sender's, and a model, a signature or a
cache may depend on them. So the text is never parsed and printed again: one walk finds where the texts stand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from json.encoder import encode_basestring

from llmguard.dialects.edit_plan import Node, check_done, tree
from llmguard.dialects.pointer import shown
from llmguard.dialects.wire import Put
from llmguard.errors import DialectError

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_VALUE = re.compile(rb'[ \t\n\r]*+:[ \t\n\r]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")', re.DOTALL)
_SPACE = re.compile(rb"[ \t\n\r]*+")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]++")
_BRACKET = re.compile(rb'[\[\]{}]|"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(slots=True, repr=False)
class _Open:
    """An object or array that is being walked through.

    Attributes:
        node: what is to be done there.
        index: of the next member; None in an object.
        kept: keys that stay, where others don't.
        renamed: new keys, each with the number of its spot.
    """

    node: Node
    index: int | None
    kept: set[str] = field(default_factory=set)
    renamed: list[tuple[int, str]] = field(default_factory=list)


_Spot = tuple[int, int, bytes]
"""From which byte to which something else is to stand, and what."""


def rewrite(data: bytes, edits: Mapping[str, str], puts: Collection[Put] = ()) -> bytes:
    """The same JSON with other texts at some places; in time linear in its length.

    A string becomes the new string, and so does a number: ``4111111111111111`` becomes ``"[CARD]"``. A key (a place
    that ends with ``~3``) is renamed; where its object has the new one already, ``_2`` and so on follows.

    Args:
        data: JSON in UTF-8 that `strict.parse` reads.
        edits: the new text by the place of the old one, as `pointer` writes places. Places behind a ``#`` are edited
            inside of the JSON in the string, of which likewise no other character changes; only how the string that
            holds it is escaped may.
        puts: values that take the place of others, whatever those are: what is to be taken out, numbers of events.

    Raises:
        DialectError: nothing of the kind is at one of the places, or it stands there twice, or ``data`` is no JSON.
    """
    if not edits and not puts:
        return data
    root = tree(edits, puts)
    pieces: list[bytes] = []
    done = 0
    for start, end, new in _spots(data, root):
        pieces += data[done:start], new
        done = end
    check_done(root)
    return b"".join([*pieces, data[done:]])


def swap(data: bytes, path: str, text: str) -> bytes:
    """`rewrite` for the text of one member that is there, ten times as fast for events as streams have them.

    Where a key stands once in the bytes, and no backslash could spell it in another way, it is the one that is meant.

    Args:
        data: as in `rewrite`.
        path: of a string that stands there.
        text: the new one.

    Raises:
        DialectError: as in `rewrite`.
    """
    if path[-1:].isdigit():
        return rewrite(data, {path: text})  # an index is no key, but a key elsewhere may look like it
    key = b'"%s"' % path.rpartition("/")[2].encode("utf-8", "surrogatepass")
    at = data.find(key)
    found = _VALUE.match(data, at + len(key)) if at >= 0 and "~" not in path and "#" not in path else None
    if found is None or data.find(key, at + 1) >= 0 or _escapes(data, 0, at) or _escapes(data, found.end(), len(data)):
        return rewrite(data, {path: text})
    return data[: found.start(1)] + quote(text) + data[found.end() :]


def place(data: bytes, path: str) -> tuple[int, int]:
    """From which byte to which a string stands, its quotes included.

    Args:
        data: as in `rewrite`.
        path: of a string.

    Raises:
        DialectError: as in `rewrite`.
    """
    root = tree({path: ""}, ())
    spots = _spots(data, root)
    check_done(root)
    start, end, _ = spots[0]
    return start, end


def _escapes(data: bytes, start: int, end: int) -> bool:
    return data.find(b"\\", start, end) >= 0


def quote(text: str) -> bytes:
    """A JSON string that says the text: UTF-8 as it is, lone surrogates escaped."""
    quoted: str = encode_basestring(text)
    if _SURROGATE.search(quoted) is not None:
        quoted = _SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", quoted)
    return quoted.encode()


def _replacement(literal: bytes, node: Node) -> bytes:
    if node.json is not None:
        return node.json.encode()
    if node.text is not None:
        return quote(node.text)
    held = _said(literal)
    if held is None:
        raise DialectError(f"{shown(node.path)}: is no JSON string")
    return quote(rewrite(held.encode("utf-8", "surrogatepass"), node.inside).decode("utf-8", "surrogatepass"))


def _said(literal: bytes) -> str | None:
    """What a JSON string says; None if it is none, so that no error of a parser holds the text."""
    try:
        text = literal.decode("utf-8", "surrogatepass")
        return text[1:-1] if "\\" not in text else json.loads(text)
    except ValueError:
        return None


def _spots(data: bytes, root: Node) -> list[_Spot]:
    """What is to change, in the order of the text.

    Only what has edits below it is walked through; everything else is stepped over as a whole.
    """
    spots: list[_Spot] = []
    stack: list[_Open] = []
    at = _value(data, _after_space(data, 0), root, stack, spots)
    while stack:
        top = stack[-1]
        if data[at : at + 1] == (b"}" if top.index is None else b"]"):
            _name(stack.pop(), spots)
            at = _after_member(data, at + 1, stack)
            continue
        start = at
        token, end, at = _token(data, at, top)
        node = top.node.below.get(token)
        if top.node.renames:
            _rename(top, token, (start, end), spots)
        at = _value(data, at, node, stack, spots)
    return spots


def _value(data: bytes, at: int, node: Node | None, stack: list[_Open], spots: list[_Spot]) -> int:
    """Deals with the value that begins here; where to go on: behind it, or at its first member."""
    kind = data[at : at + 1]
    if node is not None and node.below and kind in (b"{", b"["):
        stack.append(_Open(node, None if kind == b"{" else 0))
        return _after_space(data, at + 1)
    end = _end(data, at)
    if node is not None and node.acts() and node.fits(kind):
        if node.done:
            raise DialectError(f"{shown(node.path)}: stands there twice")
        node.done = True
        spots.append((at, end, _replacement(data[at:end], node)))
    return _after_member(data, end, stack)


def _rename(top: _Open, token: str, place: tuple[int, int], spots: list[_Spot]) -> None:
    """Notes the new key of a member, or that its key stays; what a new one is in the end, its siblings decide."""
    node = top.node.below.get(token)
    if node is None or node.key is None or top.index is not None:
        top.kept.add(token)
        return
    if node.named:
        raise DialectError(f"{shown(node.path)}: stands there twice")
    node.named = True
    top.renamed.append((len(spots), node.key))
    spots.append((*place, b""))


def _name(top: _Open, spots: list[_Spot]) -> None:
    """Gives the members of an object their new keys, no two of them the same."""
    counts: dict[str, int] = {}
    for spot, key in top.renamed:
        unique, number = key, counts.get(key, 1)
        while unique in top.kept:
            number += 1
            unique = f"{key}_{number}"
        counts[key] = number
        top.kept.add(unique)
        spots[spot] = (*spots[spot][:2], quote(unique))


def _token(data: bytes, at: int, top: _Open) -> tuple[str, int, int]:
    """The key or index of the member that begins here, where the key ends, and where its value begins."""
    if top.index is not None:
        top.index += 1
        return str(top.index - 1), at, at
    end = _end_of_string(data, at)
    key = _said(data[at:end])
    if key is None:
        raise DialectError(f"no JSON string at byte {at}")
    at = _after_space(data, end)
    if data[at : at + 1] != b":":
        raise DialectError(f"no JSON at byte {at}")
    return key, end, _after_space(data, at + 1)


def _after_member(data: bytes, at: int, stack: list[_Open]) -> int:
    """Where the next member begins, or where the bracket stands that closes."""
    at = _after_space(data, at)
    if not stack or data[at : at + 1] in (b"}", b"]"):
        return at
    if data[at : at + 1] != b",":
        raise DialectError(f"no JSON at byte {at}")
    return _after_space(data, at + 1)


def _after_space(data: bytes, at: int) -> int:
    match = _SPACE.match(data, at)
    return at if match is None else match.end()


def _end_of_string(data: bytes, at: int) -> int:
    match = _STRING.match(data, at)
    if match is None:
        raise DialectError(f"no JSON string at byte {at}")
    return match.end()


def _end(data: bytes, at: int) -> int:
    """Where the value that begins here ends."""
    kind = data[at : at + 1]
    if kind == b'"':
        return _end_of_string(data, at)
    if kind not in (b"{", b"["):
        match = _SCALAR.match(data, at)
        if match is None:
            raise DialectError(f"no JSON at byte {at}")
        return match.end()
    depth = 0
    for token in _BRACKET.finditer(data, at):
        mark = data[token.start()]
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
            if depth == 0:
                return token.end()
    raise DialectError(f"no JSON at byte {at}")
