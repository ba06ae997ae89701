"""``llmguard drift``: saved states of drift monitors looked at, merged and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from llmguard.detectors import drift_report
from llmguard.detectors.drift_scores import compared
from llmguard.detectors.drift_state import State

app = typer.Typer(
    name="drift", no_args_is_help=True, help="Show, merge and compare the saved states of drift monitors."
)

_File = Annotated[Path, typer.Argument(help="A file of DriftMonitor.save.", show_default=False)]


@app.command()
def report(
    before: _File,
    after: _File,
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file to write.")],
) -> None:
    """Writes Evidently's report of what two monitors have seen."""
    drift_report.between(State.load(before), State.load(after)).save_html(out)
    typer.echo(f"{out}: {after} against {before}")


@app.command()
def merge(
    states: Annotated[list[Path], typer.Argument(help="Files of DriftMonitor.save.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")],
) -> None:
    """Makes one state of those of many workers or machines."""
    merged = State.merged([State.load(path) for path in states])
    merged.save(out)
    calls = ", ".join(f"{name} {table.calls}" for name, table in merged.tables.items())
    typer.echo(f"{out}: {len(states)} states ({calls or 'nothing seen'})")


@app.command()
def show(state: _File) -> None:
    """Prints each feature of a state, and how far its last windows are from the reference."""
    table = Table("feature", "calls", "missing", "mean", "median", "reference", "statistics")
    for row in compared(State.load(state)):
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)
