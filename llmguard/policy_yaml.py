"""YAML and JSON text in, plain values out, with the line of every key that a message may name.

Read by the core schema of YAML 1.2: ``no``, ``on`` and ``2026-11-21`` are words, neither a boolean
nor a date. No tag makes an object, and what aliases expand to is bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from llmguard.errors import ConfigurationError

#: Bytes of a policy; longer lists of phrases belong into files of their own.
MAX_BYTES = 1 << 20
#: Keys and values after aliases are expanded; 1 MB without an alias holds fewer, so only a bomb gets there.
MAX_NODES = 600_000
MAX_DEPTH = 32

_TAG = "tag:yaml.org,2002:"
_MARKED_DEPTH = 4  # rules → 0 → categories → 1; below that a message names what is around it
_NOT_ASCII = re.compile("[^\x00-\x7e]")
_HALVES = re.compile("[\ud800-\udfff]")

KeyPath = tuple[str | int, ...]


class Mark(NamedTuple):
    """Where something was written: the file and its 1-based line, None when there are no lines."""

    source: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """What one source says, or what several say together.

    Attributes:
        data: the keys and values.
        marks: where each of them was written.
        files: the files it was read from, presets left out.
    """

    data: dict[str, Any]
    marks: Mapping[KeyPath, Mark] = field(default_factory=lambda: {(): Mark("")})
    files: tuple[Path, ...] = ()

    def where(self, path: KeyPath) -> Mark:
        """Where a value was written, or the nearest thing around it that has a mark."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, Mark(""))

    def error(self, message: str, path: KeyPath = ()) -> ConfigurationError:
        """An error that says where in this document it is."""
        mark = self.where(path)
        return ConfigurationError(message, source=mark.source, line=mark.line)


def from_text(text: str, source: str) -> Document:
    """Read YAML or JSON.

    Args:
        text: one document.
        source: how messages call it.

    Raises:
        ConfigurationError: it is too long, no YAML, has a tag, a key twice or a key that is no text, nests
            or expands too far, or is no mapping. Says the line.
    """
    if len(text) > MAX_BYTES:
        raise ConfigurationError(f"a policy has at most {MAX_BYTES} bytes", source=source)
    try:
        loader = _Loader(_json_as_yaml(text))
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        problem = str(error.problem)
        if problem.startswith("but "):
            problem = f"{error.context}, {problem}"
        raise ConfigurationError(f"not valid YAML: {problem}", source=source, line=line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigurationError(f"not valid YAML: {error.reason}", source=source, line=line) from None
    if root is None:
        raise ConfigurationError("the policy is empty", source=source)
    builder = _Builder(source)
    data = builder.value(root, ())
    if not isinstance(data, dict):
        raise builder.error("a policy is a mapping of keys", root)
    return Document(data, {**builder.marks, (): Mark(source, 1)})


def _json_as_yaml(text: str) -> str:
    """What JSON allows raw and YAML does not, or reads otherwise: tabs between values, characters in strings."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _NOT_ASCII.sub(lambda found: f"\\U{ord(found[0]):08x}", text.replace("\t", " "))


class _Loader(yaml.SafeLoader):
    """PyYAML's nodes, with the scalars of YAML 1.2 and a bound on the depth."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _float(word: str) -> float:
    return float(word.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _integer(word: str) -> int:
    return int(word, {"0o": 8, "0x": 16}.get(word[:2], 10))


def _boolean(word: str) -> bool:
    return {"true": True, "false": False}[word.lower()]


#: YAML 1.2.2, section 10.3.2: pattern, first characters, constructor. The first that fits wins.
_CORE: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "null": ("~|null|Null|NULL|", "~nN", lambda _: None),
    "bool": ("true|True|TRUE|false|False|FALSE", "tTfF", _boolean),
    "int": ("[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789", _integer),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
        _float,
    ),
    "merge": ("<<", "<", str),
    "str": ("$^", "", str),
}
_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first, _make) in _CORE.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), [*_first, *[""][_name != "null" :]])


class _Builder:
    """Nodes in, plain values out."""

    def __init__(self, source: str) -> None:
        self.marks: dict[KeyPath, Mark] = {}
        self._source = source
        self._nodes = 0

    def error(self, message: str, node: yaml.Node) -> ConfigurationError:
        return ConfigurationError(message, source=self._source, line=node.start_mark.line + 1)

    def value(self, node: yaml.Node, path: KeyPath, depth: int = 0) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise self.error("aliases expand too far", node)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            items = []
            for position, item in enumerate(node.value):
                self._mark((*path, position), item)
                items.append(self.value(item, (*path, position), depth + 1))
            return items
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        raise self.error(f"the tag {node.tag!r} is not read", node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    found = self.value(part, path, depth + 1)
                    if not isinstance(found, dict):
                        raise self.error("<< merges mappings alone", key)
                    merged = {**found, **merged}
        seen: dict[str, int] = {}
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                continue
            name = self.value(key, path, depth + 1)
            if not isinstance(name, str):
                raise self.error("a key must be text: put it in quotes", key)
            if name in seen:
                raise self.error(f"the key {name!r} stands twice, first on line {seen[name]}", key)
            seen[name] = key.start_mark.line + 1
            self._mark((*path, name), key)
            merged[name] = self.value(value, (*path, name), depth + 1)
        return merged

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        known = _CORE.get(node.tag.removeprefix(_TAG))
        if known is None or not node.tag.startswith(_TAG):
            raise self.error(f"the tag {node.tag!r} is not read", node)
        text = node.value
        if _HALVES.search(text):  # JSON writes a character beyond the basic plane as two halves
            try:
                text = text.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                raise self.error("half of a surrogate pair", node) from None
        try:
            return known[2](text)
        except (ValueError, KeyError):
            raise self.error(f"not a value of the kind {node.tag.removeprefix(_TAG)}", node) from None

    def _mark(self, path: KeyPath, node: yaml.Node) -> None:
        if len(path) <= _MARKED_DEPTH and (path[0] != "detectors" or len(path) < _MARKED_DEPTH):
            self.marks[path] = Mark(self._source, node.start_mark.line + 1)
