"""The text of a card in, plain values out: YAML without its traps.

A card comes from strangers: its size and depth are bounded, an alias, a tag or a key that stands twice is refused,
and every message says the line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from llmguard.errors import ModelLoadError

#: Bytes of a card; one with figures for hundreds of sources has a tenth of it.
MAX_BYTES = 1 << 20
MAX_DEPTH = 16


def parse(text: str, source: str) -> dict[str, Any]:
    """Read a mapping.

    Args:
        text: YAML.
        source: how messages call it.

    Raises:
        ModelLoadError: it is too long, no YAML, nests too deep, holds an alias, a tag or a key twice, or is no mapping.
    """
    if len(text) > MAX_BYTES:
        raise ModelLoadError(f"a card has at most {MAX_BYTES} bytes", source=source)
    try:
        data = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader with more limits
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        raise ModelLoadError(f"not valid YAML: {error.problem}", source=source, line=line) from None
    except yaml.YAMLError as error:
        reason = getattr(error, "reason", "unreadable")
        raise ModelLoadError(f"not valid YAML: {reason}", source=source) from None
    if not isinstance(data, dict):
        raise ModelLoadError("a card is a mapping of keys", source=source)
    return data


def write(data: Mapping[str, Any]) -> str:
    """The card's text: keys in their order, every character readable."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _error(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that knows neither aliases nor dates, and refuses a key that stands twice."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _error("a card has no aliases", event.start_mark)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            problem = f"nested deeper than {MAX_DEPTH} levels"
            raise _error(problem, event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error("a key must be a word", key.start_mark)
            if key.value in seen:
                raise _error(f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, without aliases and with short lists on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _list(dumper: _Dumper, data: list[Any]) -> yaml.Node:
    short = all(isinstance(item, str | int | float) for item in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=short)


_Dumper.add_representer(list, _list)

# A version "2026-11-21" is a word, and so are the label "on" and the language "no". What is written is quoted
# nevertheless, for readers that take them for a date and a boolean.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("timestamp", "bool")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
