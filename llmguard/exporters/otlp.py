"""What leaves by OTLP: spans, with the content that other instrumentations put on them cleared."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from llmguard.errors import MissingExtraError
from llmguard.semconv import CONTENT_KEYS

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.util.types import AnyValue

_Item = TypeVar("_Item")

MASKED = "<masked>"
# The conventions' own words inside a message; everything else in a structure may be content.
_STRUCTURE = frozenset(
    {"role", "parts", "type", "content", "name", "id", "arguments", "response", "result", "finish_reason", "text"}
)
_MAX_DEPTH = 64


def content_key(keys: Iterable[str]) -> Callable[[str], bool]:
    """A test for attribute names that hold content.

    Args:
        keys: names, as shell patterns: ``*`` stands for anything.
    """
    match = re.compile("|".join(fnmatch.translate(key) for key in keys)).match

    def holds_content(name: str) -> bool:
        return match(name) is not None

    return holds_content


def clear_value(value: AnyValue, clear: Callable[[str], str]) -> AnyValue:
    r"""An attribute's value with every text in it cleared; what cannot be cleared becomes ``<masked>``.

    A text that is JSON is cleared leaf by leaf, for an escape hides what a detector looks for (``\n`` sticks
    to the next word, ``\u0040`` is an at sign). JSON that was cut off and holds an escape is masked whole.

    Args:
        value: a text, number, sequence or mapping.
        clear: the text in, the text without what must not leave out.
    """
    try:
        return _clear(value, clear, 0)
    except Exception:  # noqa: BLE001 - fails closed: nothing leaves uncleared
        return MASKED


def _clear(value: AnyValue, clear: Callable[[str], str], depth: int) -> AnyValue:
    if depth > _MAX_DEPTH:
        return MASKED
    if isinstance(value, str):
        return _clear_text(value, clear, depth)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        written = str(value)
        cleared = clear(written)
        return value if cleared == written else cleared
    if isinstance(value, Mapping):
        return {
            key if key in _STRUCTURE else clear(str(key)): _clear(item, clear, depth + 1) for key, item in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_clear(item, clear, depth + 1) for item in value]
    return MASKED


def _clear_text(text: str, clear: Callable[[str], str], depth: int) -> str:
    if not text.startswith(("[", "{")):
        return clear(text)
    try:
        parsed = json.loads(text)
    except ValueError:
        return MASKED if "\\" in text else clear(text)
    # Written again even when nothing changed: of a name that stands there twice, only the last was looked at.
    return json.dumps(_clear(parsed, clear, depth + 1), ensure_ascii=False, separators=(",", ":"))


class MaskingSpanExporter:
    """Clears the content on spans before another exporter gets them, on copies: processors share the spans.

    It clears the attributes of spans, of their events and links, and the status description. It fails closed:
    what ``clear`` raises on becomes ``<masked>``, and a span that cannot be copied is not exported.

    Args:
        exporter: gets the cleared spans.
        clear: the text in, the text without what must not leave out; called on the exporting thread.
        keys: names of the attributes that hold content, as shell patterns.

    Raises:
        MissingExtraError: opentelemetry-sdk is not installed.
    """

    def __init__(self, exporter: SpanExporter, clear: Callable[[str], str], keys: Iterable[str] = CONTENT_KEYS) -> None:
        try:
            import opentelemetry.sdk.trace  # noqa: F401 - fails here, not on the exporting thread
        except ImportError:
            raise MissingExtraError("MaskingSpanExporter", "opentelemetry.sdk", "otel") from None
        self._exporter = exporter
        self._clear = clear
        self._holds_content = content_key(keys)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export cleared copies."""
        return self._exporter.export([self._masked(span) for span in spans])

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the exporter."""
        return self._exporter.force_flush(timeout_millis)

    def _masked(self, span: ReadableSpan) -> ReadableSpan:
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.trace import Link, Status

        status = span.status
        if status.description:
            status = Status(status.status_code, str(clear_value(status.description, self._clear)))
        events = [
            Event(event.name, self._attributes(event.attributes, event.dropped_attributes), event.timestamp)
            for event in span.events
        ]
        links = [Link(link.context, self._attributes(link.attributes, link.dropped_attributes)) for link in span.links]
        return ReadableSpan(
            name=span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=self._attributes(span.attributes, span.dropped_attributes),
            events=_counted(events, span.dropped_events),
            links=_counted(links, span.dropped_links),
            kind=span.kind,
            status=status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def _attributes(self, attributes: Mapping[str, AnyValue] | None, dropped: int) -> Mapping[str, AnyValue]:
        from opentelemetry.attributes import BoundedAttributes

        cleared = {
            key: clear_value(value, self._clear) if self._holds_content(key) else value
            for key, value in (attributes or {}).items()
        }
        bounded = BoundedAttributes(attributes=cleared)
        bounded.dropped = dropped
        return bounded


def _counted(items: Sequence[_Item], dropped: int) -> Sequence[_Item]:
    from opentelemetry.sdk.util import BoundedList

    kept: Sequence[_Item] = BoundedList.from_seq(len(items), items)
    kept.dropped = dropped  # type: ignore[attr-defined] # where exporters read it
    return kept
