"""What is to change where in JSON, as a tree: each node is a place, with what is to be done at it and below it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from llmguard.dialects import pointer
from llmguard.dialects.wire import Put
from llmguard.errors import DialectError

_NUMBER = frozenset([b"-", *[b"%d" % digit for digit in range(10)]])


@dataclass(slots=True, repr=False)
class Node:
    """What is to be done at and below one place.

    Attributes:
        path: that place.
        below: by the key or index of the member.
        text: the new string in place of a string or a number.
        json: the new value in place of any.
        inside: new strings in the JSON that the string holds.
        key: the new key of this member.
        renames: whether a member of this object gets a new key.
        done: whether the value was found.
        named: whether the key was.
    """

    path: str
    below: dict[str, Node] = field(default_factory=dict)
    text: str | None = None
    json: str | None = None
    inside: dict[str, str] = field(default_factory=dict)
    key: str | None = None
    renames: bool = False
    done: bool = False
    named: bool = False

    def __repr__(self) -> str:
        return f"Node({pointer.shown(self.path)!r})"

    def acts(self) -> bool:
        """Whether the value itself is to change."""
        return self.text is not None or self.json is not None or bool(self.inside)

    def fits(self, kind: bytes) -> bool:
        """Whether a value that begins with this byte can change so: a text is a string or a number."""
        return self.json is not None or kind == b'"' or (self.text is not None and kind in _NUMBER)


def tree(edits: Mapping[str, str], puts: Collection[Put]) -> Node:
    """The tree of all places.

    Raises:
        DialectError: one lies in another.
    """
    root = Node("")
    for path, text in edits.items():
        outer, seam, inner = path.partition("#")
        if seam:
            _node(root, outer).inside[inner] = text
        elif outer.endswith(pointer.KEY):
            place = outer.removesuffix(pointer.KEY)
            _node(root, place).key = text
            _node(root, place.rpartition("/")[0]).renames = True
        else:
            _node(root, outer).text = text
    for put in puts:
        _node(root, put.path).json = put.json
    for node in _nodes(root):
        if (node.text is not None) + (node.json is not None) + bool(node.inside) + bool(node.below) > 1:
            raise DialectError(f"{pointer.shown(node.path)}: is edited itself and within itself")
    return root


def _node(root: Node, path: str) -> Node:
    node = root
    for token in pointer.tokens(path):
        node = node.below.setdefault(token, Node(path))
    node.path = path
    return node


def _nodes(root: Node) -> Iterator[Node]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.below.values())


def check_done(root: Node) -> None:
    """Sees to it that every place was found.

    Raises:
        DialectError: one was not.
    """
    for node in _nodes(root):
        if (node.acts() and not node.done) or (node.key is not None and not node.named):
            raise DialectError(f"{pointer.shown(node.path)}: there is nothing to edit")
