"""The tables of ``llmguard eval --fairness``."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from llmguard.fairness_evaluation import FairnessEvaluation
from llmguard.fairness_figures import BiasFigures, FlipFigures

_AUCS = {"subgroup_auc": "subgroup\nAUC", "bpsn_auc": "BPSN\nAUC", "bnsp_auc": "BNSP\nAUC"}
_FLIPS = ("texts", "swaps", "flip\nrate", "interval", "mean |score\ndifference|", "interval", "mean score\ndifference")


def show(judge: str, found: FairnessEvaluation) -> None:
    """Print what an evaluation found.

    Args:
        judge: what was evaluated, in words.
        found: of it.
    """
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{judge} on {found.texts} texts, {found.positives} positive, AUC {_cell(found.auc)}{_of(found.auc_interval)}"
    )
    table = _table(("texts", "pos.", *_AUCS.values()))
    for what, parts in (("per term", found.terms), ("per group", found.groups)):
        _rows(table, what, {name: _bias(own) for name, own in parts.items()})
    console.print(table, soft_wrap=False)
    for auc, worst in found.worst.items():
        console.print(f"worst {' '.join(_AUCS[auc].split())}: {worst.auc:.3f} ({worst.term}){_of(worst.interval)}")
    if found.flips is None:
        console.print("No text could be swapped.")
        return
    console.print()
    table = _table(_FLIPS)
    table.add_row("all", *_flips(found.flips))
    _rows(table, "per term", {name: _flips(own) for name, own in found.flips_by_term.items()})
    console.print(table, soft_wrap=False)


def _table(columns: tuple[str, ...]) -> Table:
    table = Table("", box=None, padding=(0, 0, 0, 1), pad_edge=False)
    table.columns[0].overflow = "fold"
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    return table


def _rows(table: Table, what: str, rows: Mapping[str, tuple[str, ...]]) -> None:
    if rows:
        table.add_row(Styled(f"\n{what}", "bold"))
    for name, cells in rows.items():
        table.add_row(Styled(name), *cells)


def _bias(own: BiasFigures) -> tuple[str, ...]:
    return str(own.texts), str(own.positives), *(_cell(getattr(own, auc)) for auc in _AUCS)


def _flips(own: FlipFigures) -> tuple[str, ...]:
    return (
        *(str(own.texts), str(own.swaps)),
        *(_cell(own.flip_rate), _interval(own.flip_interval)),
        *(_cell(own.mean_absolute_difference), _interval(own.absolute_difference_interval)),
        f"{own.mean_difference:+.3f}",
    )


def _cell(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"


def _of(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f", interval {_interval(interval)}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "—" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
