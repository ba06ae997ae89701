"""The commands of ``llmguard`` put together, and how errors end them."""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any

import typer
import typer.core

import llmguard
from llmguard.cli import alerts, audit, detectors, drift, models, policy
from llmguard.cli.check import check
from llmguard.cli.doctor import doctor
from llmguard.cli.eval import evaluation
from llmguard.cli.serve import serve
from llmguard.errors import DetectorError, LlmGuardError


class Commands(typer.core.TyperGroup):
    """Ends every error of ours with one line: 2 when what was asked for is wrong, 1 when a detector failed."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was asked for."""
        try:
            return super().invoke(ctx)
        except LlmGuardError as error:
            typer.echo(f"llmguard: {error}", err=True)
            raise typer.Exit(1 if isinstance(error, DetectorError) else 2) from None


# Tracebacks with local variables would show texts.
app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(check)
app.command("eval")(evaluation)
app.command("detectors")(detectors.table)
app.command()(doctor)
app.command()(serve)
app.add_typer(policy.app, name="policy")
app.add_typer(models.app, name="models")
app.add_typer(drift.app, name="drift")
app.add_typer(audit.app, name="audit")
app.add_typer(alerts.app, name="alerts")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmguard {llmguard.__version__}")
        raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Guards LLM calls: looks at every text before and after, redacts or blocks by a policy."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Texts hold any Unicode; a terminal that can't show it must not stop the answer.
            stream.reconfigure(errors="backslashreplace")
