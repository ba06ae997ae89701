"""``llmguard alerts``: a policy's rules for Prometheus, what waits to be delivered, and whether a sink works."""

from __future__ import annotations

import json
import secrets
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from llmguard.cli.policy import named
from llmguard.errors import ConfigurationError, nearest
from llmguard.exporters.alerts import outbox_claims
from llmguard.exporters.alerts.notice import NAME, SEVERITY, Group, Notice
from llmguard.exporters.alerts.outbox import Outbox
from llmguard.exporters.alerts.outbox_damage import UNREADABLE
from llmguard.exporters.alerts.outbox_path import outbox_path
from llmguard.exporters.alerts.outbox_rows import Message
from llmguard.exporters.alerts.prometheus_rules import rule_file
from llmguard.exporters.alerts.sink import DELIVERED
from llmguard.exporters.alerts.sinks import build

app = typer.Typer(
    no_args_is_help=True,
    help="Alerts: a policy's rules for Prometheus, what waits to be delivered, and whether a sink works.",
)

_Policy = Annotated[str, typer.Option("--policy", "-p", help="The policy file whose outbox it is.")]
_Outbox = Annotated[Path | None, typer.Option("--outbox", help="The outbox itself, where no policy is at hand.")]
_Sink = Annotated[str, typer.Option("--sink", help="Only what is for this sink.")]


class Format(StrEnum):
    """How rule files are written."""

    YAML = "yaml"
    JSON = "json"


@app.command()
def rules(
    policy: Annotated[str, typer.Argument(help="A policy file, or the name of a preset.", show_default=False)],
    form: Annotated[Format, typer.Option("--format", help="How it is written.")] = Format.YAML,
) -> None:
    """Prints the rules of a policy's alerts as a rule file of Prometheus; says of each that can't be one why."""
    said = named(policy)
    written = rule_file([one.rule for one in said.alerts.rules], said.ref, said.alerts.every_s)
    for name, problem in written.left_out:
        typer.echo(f"llmguard: the alert {name!r} is left out: {problem}", err=True)
    typer.echo(written.as_yaml() if form is Format.YAML else written.as_json(), nl=False)


@app.command("list")
def listed(
    policy: _Policy = "",
    outbox: _Outbox = None,
    dead: Annotated[bool, typer.Option("--dead", help="Only what nobody tries any more.")] = False,
    sink: _Sink = "",
    limit: Annotated[int, typer.Option(min=1, help="How many, the oldest first.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, a message a line.")] = False,
) -> None:
    """Lists what waits to be delivered or is dead, and the sinks that don't work."""
    opened = _opened(policy, outbox)
    messages = opened.messages(dead=True if dead else None, sink=sink, limit=limit)
    if as_json:
        for one in messages:
            typer.echo(json.dumps(one.as_dict()))
        return
    table = Table("id", "sink", "state", "severity", "alerts", "attempts", "due", "created", "reason")
    for one in messages:
        state = f"{'outdated, ' if one.outdated else ''}{'dead' if one.dead else 'waiting'}"
        due = "" if one.dead else _when(one.due)
        told = (one.id, one.sink, state, one.severity, _alerts(one), str(one.attempts), due, _when(one.created))
        table.add_row(*told, one.reason)
    console = Console(markup=False, highlight=False)
    if messages:
        console.print(table)
    try:
        states = outbox_claims.sinks(opened.file)
    except (*UNREADABLE, OSError) as error:
        raise ConfigurationError(f"can't be read: {error}", source=str(opened.path)) from None
    for known in states:
        said = f"{known.name}: {known.waiting} waiting, {known.dead} dead"
        if known.gone:
            said += f"; gone: {known.gone}; `retry --all --sink {known.name}` tries it again"
        elif known.streak:
            said += f"; failed {known.streak} times in a row, left alone until {_when(known.paused)}"
        typer.echo(said)
    if lost := opened.dropped():
        typer.echo(f"{lost} messages had to make room for newer ones")


@app.command()
def retry(
    ids: Annotated[list[str] | None, typer.Argument(help="Of the messages.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are not outdated.")] = False,
    policy: _Policy = "",
    outbox: _Outbox = None,
    sink: _Sink = "",
) -> None:
    """Has messages tried again, also dead ones, by the processes that deliver; a sink that was gone is so no more."""
    if bool(ids) is every:
        raise ConfigurationError("give the ids of messages, or --all")
    opened = _opened(policy, outbox)
    try:
        count = outbox_claims.retry(opened.file, time.time(), ids=ids or (), sink=sink)
    except (*UNREADABLE, OSError) as error:
        raise ConfigurationError(f"can't be written: {error}", source=str(opened.path)) from None
    typer.echo(f"{opened.path}: {count} messages are tried again")
    if ids and not count:
        raise typer.Exit(1)


@app.command()
def test(
    sink: Annotated[str, typer.Argument(help="Its name in the policy.", show_default=False)],
    policy: Annotated[str, typer.Option("--policy", "-p", help="A policy file.")],
) -> None:
    """Sends one notice that says it is a test, that it is over right after, and says what the receiver made of it."""
    said = named(policy)
    known = said.alerts.sinks
    if sink not in known:
        raise ConfigurationError(f"there is no sink {sink!r}{nearest(sink, known)}", source=policy)
    made = build(sink, known[sink])
    now = time.time()
    labels = {NAME: "Test", SEVERITY: "info", "test": secrets.token_hex(4)}
    annotations = {"summary": "A test of llmguard's alerts. Nothing is wrong.", "policy": said.name}
    worked = True
    try:
        for ended in (0.0, now):
            group = Group(f"test-{labels['test']}", labels, (Notice(labels, annotations, now, ended),))
            verdict = made.send(f"msg_{secrets.token_hex(16)}", group, time.time())
            what = "that it is over" if ended else "a test notice"
            typer.echo(f"{sink}: {what}: {verdict.outcome}{f': {verdict.reason}' if verdict.reason else ''}")
            worked = worked and verdict.outcome == DELIVERED
            if not worked:
                break
            time.sleep(made.pause_s)
    finally:
        made.close()
    if not worked:
        raise typer.Exit(1)


def _opened(policy: str, outbox: Path | None) -> Outbox:
    if bool(policy) is bool(outbox):
        raise ConfigurationError("give --policy FILE, or --outbox FILE")
    if outbox is None:
        said = named(policy)
        outbox = outbox_path(said.alerts.outbox, said.name)
    if not outbox.exists():
        raise ConfigurationError("there is no such outbox: nothing has been told yet", source=str(outbox))
    return Outbox(outbox)


def _alerts(one: Message) -> str:
    try:
        names = sorted({notice.labels.get(NAME, "") for notice in one.group.notices})
    except ValueError:
        return "unreadable"
    return f"{', '.join(names)}: {'over' if one.over else 'firing'}"


def _when(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        return f"{at:.0f}"
