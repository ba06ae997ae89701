"""Two windows side by side as Evidently shows them."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmguard.detectors.drift_state import State
from llmguard.detectors.drift_summary import Summary
from llmguard.errors import ConfigurationError, MissingExtraError

# Rows that stand for a window; a sketch's own error is that of some thousand.
_ROWS = 5000


@dataclass(frozen=True, slots=True)
class Report:
    """Values of each feature before and after, as a state has them.

    A state holds no calls, so the rows stand for the distribution: quantiles at even steps, names in proportion. Within
    a row nothing belongs together.

    Attributes:
        before: summaries of the reference by feature.
        after: summaries of what is compared with it, by feature.
    """

    before: dict[str, Summary]
    after: dict[str, Summary]

    def frames(self) -> tuple[Any, Any]:
        """Both as data frames of at most 5000 rows, a column a feature.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtraError("a drift report", "pandas", "drift") from None
        frames = []
        for side in (self.before, self.after):
            columns = {name: pd.Series(_rows(summary)) for name, summary in side.items()}
            frames.append(pd.DataFrame(columns))
        return frames[0], frames[1]

    def run(self) -> Any:
        """Evidently's snapshot of its data drift preset.

        Raises:
            MissingExtraError: evidently is not installed.
        """
        try:
            from evidently import DataDefinition, Dataset
            from evidently import Report as Evidently
            from evidently.presets import DataDriftPreset
        except ImportError:
            raise MissingExtraError("a drift report", "evidently", "drift") from None
        words = [name for name, summary in self.before.items() if summary.names is not None]
        numbers = [name for name in self.before if name not in words]
        definition = DataDefinition(numerical_columns=numbers, categorical_columns=words)
        before, after = [Dataset.from_pandas(frame, data_definition=definition) for frame in self.frames()]
        return Evidently([DataDriftPreset()]).run(after, before)

    def save_html(self, path: str | Path) -> None:
        """Write Evidently's page; an old file is replaced only by a whole one.

        Raises:
            ConfigurationError: the file can't be written.
            MissingExtraError: evidently is not installed.
        """
        path = Path(path)
        made = self.run()
        try:
            handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".html", dir=path.parent)
            os.close(handle)
            try:
                made.save_html(aside)
                Path(aside).replace(path)
            except BaseException:
                Path(aside).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise ConfigurationError(
                f"the drift report can't be written: {error.strerror}", source=str(path)
            ) from error


def windows(state: State) -> Report:
    """The reference of a state and its last one or two windows.

    Raises:
        ConfigurationError: no feature has both.
    """
    before, after = {}, {}
    for key, table in state.tables.items():
        for name, column in table.columns.items():
            if column.reference is not None and column.reference.n and column.recent.n:
                before[_title(key, name)], after[_title(key, name)] = column.reference, column.recent
    if not before:
        raise ConfigurationError("there is nothing to report yet: no feature has a reference and calls after it")
    return Report(before, after)


def between(before: State, after: State) -> Report:
    """All that two monitors have seen, the features that both have.

    Raises:
        ConfigurationError: there is no such feature, or one has other bins in the other state.
    """
    first, second = _seen(before), _seen(after)
    shared = [name for name in first if name in second]
    if not shared:
        raise ConfigurationError("the two states have no feature in common that both have seen values of")
    for name in shared:
        if first[name].layout != second[name].layout:
            raise ConfigurationError(f"the feature {name!r} is measured in two ways: its bins are not the same")
    return Report({name: first[name] for name in shared}, {name: second[name] for name in shared})


def _seen(state: State) -> dict[str, Summary]:
    return {
        _title(key, name): column.seen
        for key, table in state.tables.items()
        for name, column in table.columns.items()
        if column.seen.n
    }


def _title(key: str, name: str) -> str:
    """A feature's name, with the prompt and version where tables are kept by them."""
    prompt = key.partition(" ")[2]
    return f"{name} ({prompt})" if prompt else name


def _rows(summary: Summary) -> Any:
    count = min(summary.n, _ROWS)
    if summary.names is None:
        return summary.quantiles((np.arange(count) + 0.5) / count)
    names = np.array([summary.names[place] for place in range(len(summary.counts))], object)
    ends = np.cumsum(summary.counts) / summary.n
    return names[np.searchsorted(ends, (np.arange(count) + 0.5) / count)]
