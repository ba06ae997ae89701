"""Write strings back into JSON: only those change, every other byte stays as it came.

Numbers, spaces, the order of keys and the way characters are escaped are the sender's, and a model, a signature or a
cache may depend on them. So the text is never parsed and printed again: one walk finds where the strings stand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from llmguard.dialects import pointer
from llmguard.errors import DialectError

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SPACE = re.compile(rb"[ \t\n\r]*+")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]++")
_BRACKET = re.compile(rb'[\[\]{}]|"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class _Node:
    """What is to be done at and below one place."""

    path: str
    below: dict[str, _Node] = field(default_factory=dict)
    text: str | None = None
    inside: dict[str, str] = field(default_factory=dict)
    done: bool = False


@dataclass(slots=True)
class _Open:
    """An object or array that is being walked through; ``index`` is None in an object."""

    node: _Node
    index: int | None


def rewrite(data: bytes, edits: Mapping[str, str]) -> bytes:
    """The same JSON with other strings at some places; in time linear in its length.

    Args:
        data: JSON in UTF-8 that `strict.parse` reads.
        edits: the new string by the place of the old one, as `pointer` writes places. Places behind a ``#`` are edited
            inside of the JSON in the string, of which likewise no other character changes; only how the string that
            holds it is escaped may.

    Raises:
        DialectError: there is no string at one of the places, or it stands there twice, or ``data`` is no JSON.
    """
    if not edits:
        return data
    root = _tree(edits)
    pieces: list[bytes] = []
    done = 0
    for start, end, node in _found(data, root):
        if node.done:
            raise DialectError(f"{node.path}: stands there twice")
        node.done = True
        pieces += data[done:start], _replacement(data[start:end], node)
        done = end
    _check_done(root)
    return b"".join([*pieces, data[done:]])


def quote(text: str) -> bytes:
    """A JSON string that says the text: UTF-8 as it is, lone surrogates escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    if _SURROGATE.search(quoted) is not None:
        quoted = _SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", quoted)
    return quoted.encode()


def _tree(edits: Mapping[str, str]) -> _Node:
    root = _Node("")
    for path, text in edits.items():
        outer, seam, inner = path.partition("#")
        node = root
        for token in pointer.tokens(outer):
            node = node.below.setdefault(token, _Node(outer))
        node.path = outer
        if seam:
            node.inside[inner] = text
        else:
            node.text = text
    _check_tree(root)
    return root


def _nodes(root: _Node) -> Iterator[_Node]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.below.values())


def _check_tree(root: _Node) -> None:
    for node in _nodes(root):
        if (node.text is not None) + bool(node.inside) + bool(node.below) > 1:
            raise DialectError(f"{node.path}: is edited itself and within itself")


def _check_done(root: _Node) -> None:
    for node in _nodes(root):
        if not node.done and not node.below:
            raise DialectError(f"{node.path}: there is no string to edit")


def _replacement(literal: bytes, node: _Node) -> bytes:
    if node.text is not None:
        return quote(node.text)
    held = _said(literal)
    if held is None:
        raise DialectError(f"{node.path}: is no JSON string")
    return quote(rewrite(held.encode("utf-8", "surrogatepass"), node.inside).decode("utf-8", "surrogatepass"))


def _said(literal: bytes) -> str | None:
    """What a JSON string says; None if it is none, so that no error of a parser holds the text."""
    try:
        text = literal.decode("utf-8", "surrogatepass")
        return text[1:-1] if "\\" not in text else json.loads(text)
    except ValueError:
        return None


def _found(data: bytes, root: _Node) -> Iterator[tuple[int, int, _Node]]:
    """The strings to edit, in the order of the text: start, end, and what is to be done there.

    Only what has edits below it is walked through; everything else is stepped over as a whole.
    """
    at = _after_space(data, 0)
    if root.text is not None or root.inside:
        yield at, _end_of_string(data, at), root
        return
    if data[at : at + 1] not in (b"{", b"["):
        return
    stack = [_Open(root, None if data[at : at + 1] == b"{" else 0)]
    at = _after_space(data, at + 1)
    while stack:
        top = stack[-1]
        if data[at : at + 1] == (b"}" if top.index is None else b"]"):
            stack.pop()
            at = _after_member(data, at + 1, stack)
            continue
        token, at = _token(data, at, top)
        node = top.node.below.get(token)
        kind = data[at : at + 1]
        if node is None or kind not in (b'"', b"{", b"["):
            at = _after_member(data, _end(data, at), stack)
        elif kind == b'"':
            end = _end_of_string(data, at)
            if not node.below:
                yield at, end, node
            at = _after_member(data, end, stack)
        elif node.below:
            stack.append(_Open(node, None if kind == b"{" else 0))
            at = _after_space(data, at + 1)
        else:
            at = _after_member(data, _end(data, at), stack)


def _token(data: bytes, at: int, top: _Open) -> tuple[str, int]:
    """The key or index of the member that begins here, and where its value begins."""
    if top.index is not None:
        top.index += 1
        return str(top.index - 1), at
    end = _end_of_string(data, at)
    key = _said(data[at:end])
    if key is None:
        raise DialectError(f"no JSON string at byte {at}")
    at = _after_space(data, end)
    if data[at : at + 1] != b":":
        raise DialectError(f"no JSON at byte {at}")
    return key, _after_space(data, at + 1)


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
