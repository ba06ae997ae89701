"""``llmguard eval``: how good detectors are on labelled texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text as Styled

from llmguard import Guard, TelemetrySettings
from llmguard.cli.eval_fairness import show
from llmguard.cli.policy import named
from llmguard.detectors.fairness_lexicon import read as terms
from llmguard.detectors.registry import load
from llmguard.evaluation import Report, asked_for, evaluate
from llmguard.examples import Kind, read
from llmguard.fairness_evaluation import (
    FairnessEvaluation,
    Judge,
    Options,
    detectors_judge,
    evaluate_fairness,
    policy_judge,
)
from llmguard.figures import Figures
from llmguard.suite import run_suite
from llmguard.texts import ROLE_AT
from llmguard.types import Detector, Role

_COUNTS = {"texts": "texts", "positives": "pos.", "predicted": "found"}
_EXACT = {"precision": "prec.", "recall": "recall", "f1": "F1"}
_RANKED = {
    **_COUNTS,
    **_EXACT,
    "auc": "AUC",
    "average_precision": "avg.\nprec.",
    "recall_at_1pct_fpr": "recall\n@1%FP",
    "false_positive_rate": "FP\nrate",
}
_MATCHED = {
    **_COUNTS,
    **_EXACT,
    "overlap_precision": "overlap\nprec.",
    "overlap_recall": "overlap\nrecall",
    "overlap_f1": "overlap\nF1",
}

_OF_SUITES = frozenset({"suite", "limit", "batch_size", "as_json"})
_OF_FAIRNESS = frozenset({"lexicon", "group_by", "in_context", "swaps", "minimum"})
_OF_DETECTORS = frozenset({"alias", "threshold", "options"})


def evaluation(
    context: typer.Context,
    *,
    detector: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Detector; several work together.", show_default=False)
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE.jsonl[.gz]", help="Labelled texts; several are pooled.", show_default=False),
    ] = None,
    suite: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Sets in directories by what they are for; nothing else is needed."),
    ] = None,
    categories: Annotated[str, typer.Option(metavar="A,B", help="Only these count, on both sides.")] = "",
    alias: Annotated[
        list[str] | None, typer.Option(metavar="FINDING_CATEGORY_OR_DETECTOR=FILE_CATEGORY", help="Counts as.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Lowest score that counts: 0.5 if not given, 0 for spans.", show_default=False)
    ] = None,
    role: Annotated[Role, typer.Option(help="Who the texts come from; groundedness knows by itself.")] = Role.USER,
    options: Annotated[
        str | None, typer.Option(metavar="JSON", help="The detector's options; of several, by their names.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="FILE|PRESET", help="Take the detectors' options from this policy.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many examples of each file.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts a call.")] = 32,
    fairness: Annotated[
        bool, typer.Option("--fairness", help="Figures by identity term and group; --policy alone judges, too.")
    ] = False,
    lexicon: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="Fairness: other identity terms.")] = None,
    group_by: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Fairness: also by what the rows' labels say of it.")
    ] = None,
    in_context: Annotated[
        bool, typer.Option("--in-context", help="Fairness: words as 'black' only where they mean a person.")
    ] = False,
    swaps: Annotated[int, typer.Option(min=0, help="Fairness: swaps of each term in a text.")] = 8,
    minimum: Annotated[int, typer.Option(min=1, help="Fairness: texts that a term or group needs.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measures what detectors find in labelled texts: precision, recall, F1, AUC and speed.

    docs/evaluation.md describes the file formats and defines every figure.
    """
    if suite is not None:
        _refuse(context, context.params.keys() - _OF_SUITES, "--suite chooses detectors and texts by itself")
        _suite(suite, limit=limit, batch_size=batch_size, as_json=as_json)
        return
    if not fairness:
        _refuse(context, _OF_FAIRNESS, "does nothing without --fairness")
    if not data:
        raise typer.BadParameter("name one at least, or give --suite DIR", param_hint="--data")
    aliases = _aliases(alias or [])
    names = list(dict.fromkeys(detector or []))
    if not names and not (fairness and policy):
        raise typer.BadParameter("name one at least", param_hint="--detector")
    if not names:
        _refuse(context, _OF_DETECTORS, "is for detectors; a policy alone decides by its rules")
    chosen = _options(names, options, policy) if names else {}
    examples = [example for path in data for example in read(path, limit=limit)]
    counted = tuple(filter(None, (name.strip() for name in categories.split(","))))
    wanted = asked_for(examples, counted, aliases)
    detectors: list[Detector] = [load(name, chosen.get(name, {}), wanted) for name in names]
    said: FairnessEvaluation | Report
    judged: Mapping[str, str] = {}
    with _progress() as tell:
        if fairness:
            how = Options(
                lexicon=terms(lexicon) if lexicon is not None else None,
                in_context=in_context,
                group_by=tuple(group_by or ()),
                swaps=swaps,
                minimum=minimum,
                batch_size=batch_size,
            )
            with _judge(detectors, policy, counted, aliases, threshold, role) as (judged, judge):
                said = evaluate_fairness(judge, examples, how, progress=tell)
        else:
            said = evaluate(
                detectors,
                examples,
                categories=counted,
                aliases=aliases,
                threshold=threshold,
                role=role,
                batch_size=batch_size,
                progress=tell,
            )
    if as_json:
        judges = {"judge": judged} if judged else {}
        typer.echo(json.dumps({"files": [str(path) for path in data], **judges, **said.to_dict()}, indent=2))
    elif isinstance(said, FairnessEvaluation):
        show(" + ".join(f"{name} {version}" for name, version in judged.items()), said)
    else:
        _print(said)


def _refuse(context: typer.Context, names: Collection[str], why: str) -> None:
    """An option that would change nothing is a mistake of whoever gave it."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name in names and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(why, param_hint=f"--{name.replace('_', '-')}")


def _suite(directory: Path, *, limit: int | None, batch_size: int, as_json: bool) -> None:
    with _progress() as tell:
        found = list(run_suite(directory, load, limit=limit, batch_size=batch_size, progress=tell))
    if as_json:
        typer.echo(json.dumps({"suite": str(directory), "figures": [asdict(one) for one in found]}, indent=2))
        return
    table = Table("figure", "of", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("value", "texts"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        value = "—" if one.value is None else f"{one.value:.3f}"
        table.add_row(Styled(one.figure), Styled(one.of), value, str(one.texts))
    Console(markup=False, highlight=False).print(table)


@contextmanager
def _progress() -> Generator[Callable[[int, int], None]]:
    """A bar on standard error; what it gives is told how many texts are done, and of how many."""
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*bar, console=Console(stderr=True)) as progress:
        task = progress.add_task("texts", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _judge(
    detectors: list[Detector],
    policy: str | None,
    counted: tuple[str, ...],
    aliases: Mapping[str, str],
    threshold: float | None,
    role: Role,
) -> Generator[tuple[dict[str, str], Judge]]:
    """Who judges, by name and version, and the judge: the detectors, or without any the policy."""
    if detectors:
        limit = {} if threshold is None else {"threshold": threshold}
        judge = detectors_judge(detectors, categories=counted, aliases=aliases, role=role, **limit)
        yield {one.name: one.version for one in detectors}, judge
        return
    stage = next((stage for stage, who in ROLE_AT.items() if who is role), None)
    if stage is None:
        raise typer.BadParameter(f"no stage is about texts of {role.value}", param_hint="--role")
    with Guard(named(policy), telemetry=TelemetrySettings(enabled=False), alerts=False) as guard:
        judge = policy_judge(guard, stage=stage, categories=counted)
        yield {guard.policy.name: guard.policy.version}, judge


def _aliases(pairs: list[str]) -> dict[str, str]:
    aliases = {}
    for pair in pairs:
        name, _, category = pair.partition("=")
        if not name or not category:
            raise typer.BadParameter(f"{pair!r} is not NAME=FILE_CATEGORY", param_hint="--alias")
        aliases[name] = category
    return aliases


def _options(names: list[str], written: str | None, policy: str | None) -> Mapping[str, Mapping[str, Any]]:
    if written is None:
        return {} if policy is None else named(policy).detectors
    if policy is not None:
        raise typer.BadParameter("give --options or --policy, not both", param_hint="--options")
    try:
        options = json.loads(written)
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--options") from None
    by_name = {names[0]: options} if len(names) == 1 else options
    if not isinstance(by_name, dict) or not all(isinstance(value, dict) for value in by_name.values()):
        raise typer.BadParameter(
            "must be a JSON object; of several detectors, one by name each", param_hint="--options"
        )
    if unknown := sorted(by_name.keys() - set(names)):
        raise typer.BadParameter(f"{', '.join(unknown)} is not among the detectors", param_hint="--options")
    return by_name


def _print(report: Report) -> None:
    console = Console(markup=False, highlight=False, soft_wrap=True)
    columns = _MATCHED if report.kind is Kind.SPANS else _RANKED
    title = " + ".join(f"{name} {version}" for name, version in report.detectors.items())
    console.print(f"{title} on {report.overall.texts} texts, {report.kind}, threshold {report.threshold:g}")
    table = Table("", box=None, padding=(0, 0, 0, 1), pad_edge=False)
    table.columns[0].overflow = "fold"
    for name in columns.values():
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    _row(table, "all", report.overall, columns)
    for what, parts in (("per category", report.per_category), ("per source", report.per_source)):
        if parts:
            table.add_row(Styled(f"\n{what}", "bold"))
        for name, figures in parts.items():
            _row(table, name, figures, columns)
    console.print(table, soft_wrap=False)
    if report.findings_without_span:
        console.print(f"{report.findings_without_span} findings have no span and were left out.")
    console.print(
        f"{report.texts_per_second:,.0f} texts a second in batches. Of {report.timed_texts} texts alone, the "
        f"median takes {report.p50_ms:.3f} ms and the 95th percentile {report.p95_ms:.3f} ms."
    )


def _row(table: Table, name: str, figures: Figures, columns: Mapping[str, str]) -> None:
    cells = (getattr(figures, key) for key in columns)
    table.add_row(Styled(name), *("—" if c is None else f"{c}" if isinstance(c, int) else f"{c:.3f}" for c in cells))
