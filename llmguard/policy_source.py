"""Where a policy comes from: a file, a preset or a mapping, with all that it extends merged in."""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmguard import policy_alerts_merge
from llmguard.errors import ConfigurationError, nearest
from llmguard.policy_yaml import MAX_BYTES, Document, KeyPath, Mark, from_text

PRESETS = Path(__file__).parent / "presets"

_LABEL = "llmguard/presets/"
_SUFFIXES = (".yaml", ".yml", ".json")
_NOT_INHERITED = ("name", "version")

_Layers = list[tuple[Path, Document]]


def from_mapping(data: object, source: str = "") -> Document:
    """A document of a mapping that Python made.

    Raises:
        ConfigurationError: ``data`` is no mapping.
    """
    if not isinstance(data, Mapping):
        raise ConfigurationError(f"a policy is a mapping of keys, not {type(data).__name__}", source=source)
    return Document(dict(data), {(): Mark(source)})


def from_file(path: Path, source: str = "") -> Document:
    """Read one policy file, without what it extends.

    Args:
        path: a file in UTF-8 of at most 1 MB.
        source: how messages call it; its path by default.

    Raises:
        ConfigurationError: it can't be read, or `from_text` does not accept what it says.
    """
    source = source or str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"the policy file can't be read: {error.strerror}", source=source) from None
    if len(raw) > MAX_BYTES:
        raise ConfigurationError(f"a policy has at most {MAX_BYTES} bytes", source=source)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigurationError("the policy file is not UTF-8", source=source, line=line) from None
    document = from_text(text, source)
    return Document(document.data, document.marks, () if is_preset(source) else (path,))


def preset_names() -> list[str]:
    """The policies that come with llmguard."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset(name: str) -> Document:
    """Read a preset, without what it extends.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if name not in preset_names():
        raise ConfigurationError(f"unknown preset {name!r}{nearest(name, preset_names())}")
    return from_file(*_preset_path(name))


def is_preset(source: str) -> bool:
    """Whether a mark points into a file that comes with llmguard."""
    return source.startswith(_LABEL)


def resolve(document: Document, base: Path) -> Document:
    """Merge what a document extends into it.

    Rules: its own come first, then those of what it extends, in order. Options of detectors are
    merged key by key; of alerts see `policy_alerts_merge`. Of everything else the first to say something
    wins; name and version are never inherited.

    Args:
        document: what was read.
        base: the folder that relative paths start from.

    Raises:
        ConfigurationError: an extended policy is missing, broken, or part of a circle.
    """
    label = document.where(()).source
    start = document.files[0] if document.files else PRESETS / Path(label).name if is_preset(label) else Path()
    return _merge([layer for _, layer in _lineage(document, base, {start.resolve(): label or "the policy"}, {})])


def _preset_path(name: str) -> tuple[Path, str]:
    return PRESETS / f"{name}.yaml", f"{_LABEL}{name}.yaml"


def _lineage(document: Document, base: Path, trail: dict[Path, str], known: dict[Path, _Layers]) -> _Layers:
    """The document and all that it extends, each once; a shared one stands after all that share it."""
    layers: _Layers = [(next(reversed(trail)), document)]
    for position, name in enumerate(_extended(document)):
        at: KeyPath = ("extends", position)
        path, label = _locate(document, name, base, at)
        real = path.resolve()
        if real in trail:
            circle = [*trail.values()][[*trail].index(real) :]
            raise document.error(f"extends goes in a circle: {' -> '.join([*circle, label])}", at)
        if not path.is_file():
            raise document.error(f"extends {name!r}: there is no file {label!r}", at)
        if real not in known:
            known[real] = _lineage(from_file(path, label), path.parent, {**trail, real: label}, known)
        layers += known[real]
    last = {path: position for position, (path, _) in enumerate(layers)}
    return [layer for position, layer in enumerate(layers) if last[layer[0]] == position]


def _extended(document: Document) -> list[str]:
    value = document.data.get("extends") or []
    names = [value] if isinstance(value, (str, Path)) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, (str, Path)) for name in names):
        raise document.error("extends takes the name of a preset, a path, or a list of them", ("extends",))
    return [str(name) for name in names]


def _locate(document: Document, name: str, base: Path, at: KeyPath) -> tuple[Path, str]:
    if name in preset_names():
        return _preset_path(name)
    if not name.endswith(_SUFFIXES) and not re.search(r"[/\\]", name):
        raise document.error(f"extends an unknown preset {name!r}{nearest(name, preset_names())}", at)
    folder = Path(document.where(()).source).parent
    return base / name, os.path.normpath(folder / name)


def _merge(layers: Sequence[Document]) -> Document:
    data: dict[str, Any] = {}
    marks: dict[KeyPath, Mark] = {(): layers[0].where(())}
    rules: list[Any] = []
    detectors: dict[str, dict[str, Any]] = {}
    for layer in layers:
        own = _part(layer, "rules", (list, tuple), "a list")
        for path, mark in layer.marks.items():
            if path[:1] == ("rules",) and len(path) > 1:
                marks["rules", int(path[1]) + len(rules), *path[2:]] = mark
            else:
                marks.setdefault(path, mark)
        for position in range(len(own)):
            marks.setdefault(("rules", len(rules) + position), layer.where(("rules", position)))
        rules += own
        for name, options in dict(_part(layer, "detectors", (Mapping,), "a mapping of names to options")).items():
            if options is not None and not isinstance(options, Mapping):
                raise layer.error(f"detectors.{name} must be a mapping of options", ("detectors", name))
            detectors[name] = {**(options or {}), **detectors.get(name, {})}
        for key, value in layer.data.items():
            if layer is layers[0] or key not in _NOT_INHERITED:
                data.setdefault(key, value)
    data |= {"rules": rules, "detectors": detectors}
    if (alerts := policy_alerts_merge.merged(layers)) is not None:
        data[policy_alerts_merge.KEY], theirs = alerts
        marks = {path: mark for path, mark in marks.items() if path[:1] != (policy_alerts_merge.KEY,)} | theirs
    data.pop("extends", None)
    return Document(data, marks, tuple(file for layer in layers for file in layer.files))


def _part(layer: Document, key: str, kinds: tuple[type, ...], what: str) -> Any:
    value = layer.data.get(key)
    if value is not None and not isinstance(value, kinds):
        raise layer.error(f"{key} must be {what}", (key,))
    return value or ()
