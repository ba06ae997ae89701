"""``llmguard detectors``: which detectors there are and what they find."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from llmguard.detectors.registry import available, load
from llmguard.errors import LlmGuardError


def table(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Lists the registered detectors with the categories that they find when no option is given."""
    rows = [_described(name) for name in sorted(available())]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    shown = Table("detector", "version", "scope", "categories")
    for row in rows:
        last = Styled(row["error"], "yellow") if row["error"] else Styled(", ".join(row["categories"]))
        shown.add_row(row["name"], row["version"], row["scope"], last)
    Console(markup=False, highlight=False).print(shown)


def _described(name: str) -> dict[str, Any]:
    try:
        detector = load(name, {})
    except LlmGuardError as error:
        return {"name": name, "version": "", "scope": "", "categories": [], "error": str(error)}
    categories = sorted(detector.categories)
    return {"name": name, "version": detector.version, "scope": detector.scope, "categories": categories, "error": ""}
