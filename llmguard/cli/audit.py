"""``llmguard audit``: audit logs verified, shown, copied, and freed of a conversation."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from llmguard.errors import ConfigurationError
from llmguard.exporters import audit_erasure, audit_keys, audit_read
from llmguard.exporters.audit_verify import verify as verified
from llmguard.exporters.record import from_dict

app = typer.Typer(
    name="audit",
    no_args_is_help=True,
    help="Verify, show and copy audit logs. Keys come from LLMGUARD_AUDIT_SIGNING_KEY, _PUBLIC_KEY, _ENCRYPTION_KEY.",
)

_is_head = re.compile(r"[0-9]{1,18}:[0-9a-f]{64}").fullmatch

_Log = Annotated[Path, typer.Argument(help="The directory of an audit log.", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]


def _head(written: str) -> tuple[int, str]:
    if _is_head(written) is None:
        raise ConfigurationError("--head must be SEQUENCE:HASH, as verify prints it")
    n, _, hashed = written.partition(":")
    return int(n), hashed


@app.command()
def verify(
    log: _Log,
    public_key: Annotated[
        list[str] | None, typer.Option(help="That checkpoints are signed by, in base64; may be repeated.")
    ] = None,
    head: Annotated[str, typer.Option(help="SEQUENCE:HASH that an earlier run printed: must still be there.")] = "",
    as_json: _Json = False,
) -> None:
    """Reads all of a log; ends with 1 and names each line that was changed, removed, moved, doubled or cut off."""
    found = verified(log, public_keys=public_key or (), head=_head(head) if head else None)
    if as_json:
        said = {name: getattr(found, name) for name in found.__slots__ if name != "problems"}
        typer.echo(json.dumps({**said, "problems": [problem._asdict() for problem in found.problems]}, indent=2))
    else:
        for problem in found.problems:
            typer.echo(str(problem))
        signed = f"{found.signed} of {found.checkpoints} checkpoints signed by a known key"
        typer.echo(
            f"{log}: {'as it was written' if found.ok else f'{len(found.problems)} problems'}: {found.records} records"
            f" ({found.erased} erased) in {found.files} files; {signed}; head {found.head[0]}:{found.head[1]}"
        )
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def show(
    log: _Log,
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="How many.")] = 20,
    conversation: Annotated[str, typer.Option(help="Only the records of this conversation.")] = "",
    as_json: _Json = False,
) -> None:
    """Prints the last entries of a log; it does not verify."""
    entries = audit_read.last(log, last, conversation=conversation)
    if as_json:
        for entry in entries:
            typer.echo(json.dumps(entry._asdict()))
        return
    table = Table("sequence", "at", "kind", "stage", "action", "policy", "findings", "model", "conversation")
    for n, kind, said in entries:
        if kind != "record" or said is None:
            table.add_row(str(n), "", kind if said is not None else f"{kind}, erased")
            continue
        try:
            seen = from_dict(said)
        except ValueError as error:
            raise ConfigurationError(f"sequence {n}: {error}: verify the log", source=str(log)) from None
        at = datetime.fromtimestamp(seen.at / 1e9, UTC).isoformat(" ", "milliseconds")
        found = ", ".join(sorted({f"{one.detector}/{one.category}" for one in seen.findings}))
        policy = f"{seen.policy.name} {seen.policy.version}"
        table.add_row(str(n), at, seen.kind, seen.stage, seen.action, policy, found, seen.model, seen.conversation)
    Console(markup=False, highlight=False).print(table)


@app.command()
def export(log: _Log, out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")]) -> None:
    """Writes all records in the clear to a file, a line of JSON each; it does not verify."""
    typer.echo(f"{out}: {audit_read.copy(log, out)} records")


@app.command()
def erase(log: _Log, conversation: Annotated[str, typer.Argument(help="Its id.", show_default=False)]) -> None:
    """Takes the records of a conversation out; the log says that this was done, and verifies."""
    typer.echo(f"{log}: {audit_erasure.erase(log, conversation)} records erased")


@app.command()
def key() -> None:
    """Prints a new key for signing, its public half, and one for encryption."""
    signing, encryption = audit_keys.new_key(), audit_keys.new_key()
    for name, value in (
        (audit_keys.SIGNING_KEY, signing),
        (audit_keys.PUBLIC_KEY, audit_keys.public_key(signing)),
        (audit_keys.ENCRYPTION_KEY, encryption),
    ):
        typer.echo(f"{name}={base64.b64encode(value).decode()}")
