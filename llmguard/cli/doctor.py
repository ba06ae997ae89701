"""``llmguard doctor``: what this machine can do for models, and why not more."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from llmguard.inference.doctor import Diagnosis, diagnose


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Says which devices, runtimes and precisions this machine has, what is missing for more, and what `auto` chooses.

    Exit code 0: a model can be run. 2: none can.
    """
    found = diagnose()
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        _print(found)
    if not any(selection.runtime for selection in found.selections):
        raise typer.Exit(2)


def _print(found: Diagnosis) -> None:
    console = Console(markup=False, highlight=False)
    cpu = found.processor
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Python", f"{found.python} on {found.system}")
    table.add_row("Packages", ", ".join(f"{name} {version}" for name, version in found.packages.items()))
    table.add_row("CPU", f"{cpu.name} ({cpu.architecture})")
    table.add_row("Features", ", ".join(sorted(cpu.features)) or "unknown on this system")
    table.add_row("Threads", f"{cpu.cores} of {found.cpus} CPUs, by affinity and quota")
    table.add_row("Providers", ", ".join(found.providers) or "none: ONNX Runtime can't be used")
    reasons = "\n".join(found.gpu_problems)
    table.add_row("GPU", Styled(reasons, "yellow") if reasons else Styled(f"usable: {found.gpus} by CUDA", "green"))
    for problem in found.problems:
        table.add_row("Problem", Styled(problem, "bold red"))
    console.print(table)
    console.print("\nWhat `auto` chooses for a model with these graphs:")
    chosen = Table("graphs", "device", "runtime", "precision", "why")
    for selection in found.selections:
        chosen.add_row(
            selection.graphs,
            selection.device,
            selection.runtime or Styled("none", "bold red"),
            selection.precision,
            selection.why,
        )
    console.print(chosen)
