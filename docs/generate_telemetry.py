"""Writes the tables of docs/telemetry.md from llmguard.signals: ``python docs/generate_telemetry.py``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from llmguard import semconv, signals
from llmguard.telemetry_settings import TelemetrySettings

PAGE = Path(__file__).with_name("telemetry.md")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _names(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


def tables() -> dict[str, str]:
    """The tables by the name of their place in the page."""
    spans = [(f"`{row.name}`", row.kind, row.when, _names(row.attributes)) for row in signals.SPANS]
    events = [(f"`{row.name}`", row.severity, row.when, _names(row.attributes)) for row in signals.EVENTS]
    metrics = [
        (
            f"`{row.name}`",
            f"{row.kind}, {row.unit}",
            row.description,
            _names(row.attributes),
            " ".join(f"{bound:g}" for bound in row.buckets),
        )
        for row in signals.METRICS
    ]
    documented = dict(
        re.findall(
            r"^        (\w+): (.+?)(?=^        \w+: |^$)", TelemetrySettings.__doc__ or "", re.MULTILINE | re.DOTALL
        )
    )
    settings = [
        (f"`{name}`", f"`LLMGUARD_TELEMETRY_{name.upper()}`", " ".join(text.replace("``", "`").split()))
        for name, text in documented.items()
        if name in TelemetrySettings.__dataclass_fields__
    ]
    keys = [(f"`{key}`",) for key in semconv.CONTENT_KEYS]
    return {
        "spans": _table(("span", "kind", "when", "attributes"), spans),
        "events": _table(("event", "severity", "when", "attributes"), events),
        "metrics": _table(("metric", "kind, unit", "what", "attributes", "buckets"), metrics),
        "settings": _table(("option", "variable", "meaning"), settings),
        "keys": _table(("attribute",), keys),
    }


def filled(page: str) -> str:
    """The page with its tables as the code has them now."""
    for name, table in tables().items():
        head, start, rest = page.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition("<!-- end -->")
        page = f"{head}{start}{table}\n{end}{tail}"
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
