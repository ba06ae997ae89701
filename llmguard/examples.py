"""Labelled texts, and the files that hold them: one JSON object a line."""

from __future__ import annotations

import enum
import gzip
import json
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llmguard.errors import ConfigurationError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

_SURROGATES = re.compile("[\ud800-\udfff]")

Span = tuple[int, int, str]


class Kind(enum.StrEnum):
    """What an example says about its text."""

    CLASSIFICATION = "classification"
    SPANS = "spans"
    GROUNDEDNESS = "groundedness"


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text.

    Attributes:
        text: what detectors look at; hidden from ``repr``.
        kind: which of the fields below count.
        source: where it comes from; figures are given for each source.
        label: 1 when the text should be found, for classification and groundedness.
        labels: 0 or 1 by category, for those that the file knows.
        spans: (start, end, category) in half-open code points, for spans.
        context: what the text must keep to, for groundedness; hidden from ``repr``.
        facts: the strings in the file's ``labels``, by name, such as whom a text is about; hidden from ``repr``.
    """

    text: str = field(repr=False)
    kind: Kind
    source: str = ""
    label: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    spans: frozenset[Span] = frozenset()
    context: str = field(default="", repr=False)
    facts: Mapping[str, str] = field(default_factory=dict, repr=False)


def read(path: str | os.PathLike[str], *, limit: int | None = None) -> list[Example]:
    """The examples of a file with one JSON object a line, packed if its name ends in ``.gz``.

    Args:
        path: the file.
        limit: read no more than this many examples.

    Raises:
        ConfigurationError: the file is missing, broken, empty or mixes kinds; names file and line.
    """
    path = Path(path)
    packed = path.suffix == ".gz"
    examples: list[Example] = []
    number = 0
    try:
        with gzip.open(path) if packed else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if len(examples) == limit:
                    break
                if line.strip():
                    try:
                        examples.append(_example(line, path.name.partition(".")[0]))
                        one_kind(examples[:1] + examples[-1:])
                    except ValueError as error:
                        raise ConfigurationError(str(error), source=str(path), line=number) from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise ConfigurationError("the gzip data is broken after this line", source=str(path), line=number) from None
    except OSError as error:
        raise ConfigurationError(f"can't be read: {error.strerror}", source=str(path)) from None
    if not examples:
        raise ConfigurationError("there is no example in this file", source=str(path))
    return examples


def _example(line: bytes, source: str) -> Example:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("not JSON that can be read: nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - a broken line, not a wrong argument
    text, source = _string(record, "text"), _string(record, "source", source)
    if "spans" in record:
        return Example(text, Kind.SPANS, source, spans=_spans(record["spans"], len(text)))
    if "label" not in record:
        raise ValueError("has neither 'label' nor 'spans'")
    if not _is_label(record["label"]):
        raise ValueError("'label' must be 0 or 1")
    if "context" in record:
        return Example(text, Kind.GROUNDEDNESS, source, record["label"], context=_string(record, "context"))
    labels = record.get("labels") or {}
    if not isinstance(labels, dict):
        raise ValueError("'labels' must be an object of 0 or 1 by category")  # noqa: TRY004 - likewise
    # Files keep other facts about the text in there as well; only 0 and 1 can be labels.
    known = {category: int(value) for category, value in labels.items() if _is_label(value)}
    facts = {name: _string(labels, name) for name, value in labels.items() if isinstance(value, str)}
    return Example(text, Kind.CLASSIFICATION, source, int(record["label"]), known, facts=facts)


def _string(record: Mapping[str, object], key: str, default: str | None = None) -> str:
    value = record.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"{key!r} must be a string")  # noqa: TRY004 - a broken line, not a wrong argument
    # JSON can spell lone surrogates and detectors must not get any; one for one, so offsets stay.
    return _SURROGATES.sub("�", value)


def _is_label(value: object) -> bool:
    return isinstance(value, int) and value in (0, 1)


def _spans(spans: object, length: int) -> frozenset[Span]:
    found = set()
    for span in spans if isinstance(spans, list) else [None]:
        match span:
            case {"start": int(start), "end": int(end), "category": str(category)}:
                if not 0 <= start < end <= length:
                    raise ValueError(f"span [{start}, {end}) is empty or outside the text of {length} code points")
                found.add((start, end, category))
            case _:
                raise ValueError("'spans' must be a list of objects with 'start', 'end' and 'category'")
    return frozenset(found)


def one_kind(examples: Iterable[Example]) -> Kind:
    """The kind that all of them are of.

    Raises:
        ConfigurationError: there are none, or they are of several kinds.
    """
    kinds = list(dict.fromkeys(example.kind for example in examples))
    if len(kinds) != 1:
        raise ValueError(f"examples of one kind can be evaluated together, not {' and '.join(kinds)}")
    return kinds[0]
