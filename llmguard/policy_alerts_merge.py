"""The alerts of a policy and of what it extends, as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from llmguard.policy_yaml import Document, KeyPath, Mark

KEY = "alerts"
_LISTS = ("rules", "inhibit", "silences")


def merged(layers: Sequence[Document]) -> tuple[dict[str, Any], dict[KeyPath, Mark]] | None:
    """What all layers say of alerts, and where; None where none says anything.

    Lists follow one another, the policy's own first. A rule replaces those of the same name further down, a sink the
    one of the same name. Of everything else the first to say something wins.

    Args:
        layers: the policy, then what it extends, each once.

    Raises:
        ConfigurationError: a part of it is not of its kind.
    """
    data: dict[str, Any] = {}
    marks: dict[KeyPath, Mark] = {}
    for layer in layers:
        said = layer.data.get(KEY)
        if isinstance(said, BaseModel):
            said = {name: getattr(said, name) for name in said.model_fields_set}
        said = _part(layer, (KEY,), said, Mapping, "a mapping")
        if said is not None:
            marks.setdefault((KEY,), layer.where((KEY,)))
        for key, value in (said or {}).items():
            _take(layer, (KEY, key), (KEY, key), marks)
            if key in _LISTS:
                _extend(data, marks, layer, key, value)
            elif key == "sinks":
                names = _part(layer, (KEY, key), value, Mapping, "a mapping of names to settings")
                sinks = data.setdefault(key, {})
                for name, settings in (names or {}).items():
                    if name not in sinks:
                        sinks[name] = settings
                        _take(layer, (KEY, key, name), (KEY, key, name), marks)
            else:
                data.setdefault(key, value)
    return (data, marks) if marks else None


def _extend(data: dict[str, Any], marks: dict[KeyPath, Mark], layer: Document, key: str, value: object) -> None:
    before = data.setdefault(key, [])
    known = {_name(rule) for rule in before} if key == "rules" else set()
    for index, item in enumerate(_part(layer, (KEY, key), value, (list, tuple), "a list") or ()):
        if _name(item) is None or _name(item) not in known:
            _take(layer, (KEY, key, index), (KEY, key, len(before)), marks)
            before.append(item)


def _name(rule: object) -> str | None:
    name = rule.get("alert") if isinstance(rule, Mapping) else getattr(rule, "alert", None)
    return name if isinstance(name, str) else None


def _part(layer: Document, path: KeyPath, value: Any, kinds: Any, what: str) -> Any:
    if value is not None and not isinstance(value, kinds):
        raise layer.error(f"{'.'.join(map(str, path))} must be {what}", path)
    return value


def _take(layer: Document, start: KeyPath, to: KeyPath, marks: dict[KeyPath, Mark]) -> None:
    marks.setdefault(to, layer.where(start))
    for path, mark in layer.marks.items():
        if path[: len(start)] == start and (len(start) > 2 or path[2:] == ()):
            marks.setdefault((*to, *path[len(start) :]), mark)
