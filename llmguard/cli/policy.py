"""``llmguard policy``: what may stand in a policy, and whether one is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from llmguard.guard import Guard
from llmguard.policy import Policy
from llmguard.policy_source import PRESETS

app = typer.Typer(no_args_is_help=True, help="Look at policies: their schema, a file, a preset.")


def named(policy: str | None) -> Policy:
    """The policy of a file or a preset.

    Args:
        policy: a word without a suffix or a separator names a preset, as in ``extends``; None is the
            default preset.
    """
    if policy is None:
        return Policy.preset("default")
    path = Path(policy)
    return Policy.load(path) if path.suffix or len(path.parts) > 1 else Policy.preset(policy)


@app.command()
def schema() -> None:
    """Prints the JSON Schema of policy files, for editors."""
    typer.echo(json.dumps(Policy.json_schema(), indent=2))


@app.command()
def check(file: Annotated[Path, typer.Argument(help="A policy file.", show_default=False)]) -> None:
    """Loads a policy, all that it extends and its detectors; says what it is, or what is wrong where."""
    with Guard(Policy.load(file), alerts=False) as guard:
        policy = guard.policy
    name, version, digest = policy.ref
    who = ", ".join(policy.detector_names) or "no detector"
    typer.echo(f"{file}: policy {name!r} version {version!r} ({digest}): {len(policy.rules)} rules for {who}")


@app.command()
def show(preset: Annotated[str, typer.Argument(help="default, strict or observe.", show_default=False)]) -> None:
    """Prints a preset as it is written."""
    Policy.preset(preset)
    typer.echo((PRESETS / f"{preset}.yaml").read_text("utf-8"), nl=False)
