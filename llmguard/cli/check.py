"""``llmguard check``: one text through a guard."""

from __future__ import annotations

import json
import re
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from llmguard.cli.policy import named
from llmguard.guard import Guard
from llmguard.types import Action, Decision, Role, Stage

_BLOCKED = 3
_STYLES = {Action.ALLOW: "green", Action.FLAG: "yellow", Action.REDACT: "cyan", Action.BLOCK: "red"}
_SURROGATES = re.compile("[\ud800-\udfff]")


def check(
    text: Annotated[str, typer.Argument(help="The text, or - to read it from standard input.", show_default=False)],
    policy: Annotated[
        str | None, typer.Option(metavar="FILE|PRESET", help="Policy file or preset; the default preset if not given.")
    ] = None,
    stage: Annotated[Stage, typer.Option(help="When in a call the text is looked at.")] = Stage.INPUT,
    role: Annotated[Role | None, typer.Option(help="Who the text comes from; follows from the stage.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Looks at one text and says what the policy makes of it.

    Exit code 0: the text may go on (allow, flag, redact). 3: it is blocked. 2: something is wrong
    with the command or the policy.
    """
    with Guard(named(policy), alerts=False) as guard:
        decision = guard.check(_read(text), stage=stage, role=role)
    if as_json:
        typer.echo(json.dumps(_values(decision), indent=2))
    else:
        _print(decision)
    if decision.blocked:
        raise typer.Exit(_BLOCKED)


def _read(argument: str) -> str:
    if argument == "-":
        data = sys.stdin.buffer.read()
        text = data.decode("utf-8", "replace")
        broken = text.count("�") - data.count("�".encode())
    else:
        text, broken = _SURROGATES.subn("�", argument)  # how Python hands on arguments that are not UTF-8
    if broken:
        typer.echo(f"llmguard: the text is not UTF-8: {broken} U+FFFD stand for what could not be decoded", err=True)
    return text


def _cleared(decision: Decision) -> str | None:
    """The text as it may be shown: where a policy that is not enforced would change it, that is nothing."""
    if decision.enforced or decision.action.severity < Action.REDACT.severity:
        return decision.text
    return None


def _values(decision: Decision) -> dict[str, Any]:
    return {
        "action": decision.action,
        "enforced": decision.enforced,
        "stage": decision.stage,
        "text": _cleared(decision),
        "findings": [
            {
                "detector": finding.detector,
                "category": finding.category,
                "score": finding.score,
                "span": finding.span,
                "action": finding.action,
                "reasons": finding.reasons,
            }
            for finding in decision.findings
        ],
        "coverage": decision.coverage,
        "unknown": decision.unknown,
        "timings": dict(decision.timings),
        "seconds": decision.seconds,
        "policy": decision.policy._asdict(),
    }


def _print(decision: Decision) -> None:
    console = Console(markup=False, highlight=False, soft_wrap=True)
    policy = " ".join(filter(None, decision.policy[:2]))
    console.print(
        Styled.assemble(
            (decision.action.upper(), f"bold {_STYLES[decision.action]}"),
            "" if decision.enforced else " (not enforced)",
            f" at stage {decision.stage} by policy {policy} in {decision.seconds * 1e3:.2f} ms",
        )
    )
    if decision.unknown:
        console.print(Styled(f"Could not say: {', '.join(decision.unknown)}", "bold red"))
    if any(share < 1 for share in decision.coverage):
        console.print(Styled(f"Coverage: {', '.join(f'{share:.0%}' for share in decision.coverage)}", "bold red"))
    if decision.findings:
        table = Table("detector", "category", "score", "span", "action", "reasons")
        for column in table.columns:
            column.overflow = "fold"
        for found in decision.findings:
            span = "all" if found.span is None else f"{found.span[0]}-{found.span[1]}"
            row = (found.detector, found.category, f"{found.score:.2f}", span, found.action, "\n".join(found.reasons))
            table.add_row(*(Styled(_visible(cell)) for cell in row))
        console.print(table, soft_wrap=False)
    text = _cleared(decision)
    if decision.blocked:
        console.print("Nothing goes on.")
    elif text is None:
        console.print("The text goes on as it came in, since the policy is not enforced; it is not shown here.")
    else:
        console.print(Styled(_visible(text)))


def _visible(text: str) -> str:
    """The text with everything that could drive a terminal, or hide on it, escaped."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
