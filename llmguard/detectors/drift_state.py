"""What a `DriftMonitor` knows, apart from how it came to know it: to be saved, restored, merged and compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmguard.detectors import state_file
from llmguard.detectors.drift_bins import Layout
from llmguard.detectors.drift_summary import REST, Summary, count
from llmguard.errors import ConfigurationError

FORMAT = "llmguard-drift"
VERSION = 1
#: The reference is made of a monitor's own first calls; else the origin says which reference was given.
OWN = "own"
# Those of many workers are put together, each of which has few.
_MOST_NAMES = 1 << 16


@dataclass(slots=True)
class Column:
    """One feature.

    Attributes:
        seen: all values so far, those of an own reference included.
        recent: those of the last one or two windows.
        reference: what they are compared with, once it is there.
    """

    seen: Summary
    recent: Summary
    reference: Summary | None = None


@dataclass(slots=True)
class Table:
    """The features of one kind of observation, such as ``input``.

    Attributes:
        columns: by name.
        origin: of the reference: `OWN`, or what tells one given reference from another.
        calls: how many there were.
    """

    columns: dict[str, Column] = field(default_factory=dict)
    origin: str = OWN
    calls: int = 0


@dataclass(slots=True)
class State:
    """All tables of a monitor, by name, and what its learners have learnt, by name."""

    tables: dict[str, Table] = field(default_factory=dict)
    learnt: dict[str, Any] = field(default_factory=dict)

    def digest(self) -> str:
        """Tells this state from others by all that is exact in it; sketches drop values by chance."""
        body = self._body()
        for table in body["tables"].values():
            for column in table["columns"].values():
                for side in ("seen", "recent", "reference"):
                    (column[side] or {}).pop("sketch", None)
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write it aside, and put it in the file's place when it is on the disk.

        Raises:
            ConfigurationError: the file can't be written; an old one is as it was.
        """
        # A file holds names in the order of the alphabet; which version of a prompt came before which must not be lost.
        state_file.write(path, FORMAT, VERSION, {**self._body(), "order": list(self.tables)})

    @classmethod
    def load(cls, path: str | Path) -> State:
        """Read what `save` wrote.

        Raises:
            ConfigurationError: it is not there, truncated, damaged, of another version, or something else.
        """
        body = state_file.read(path, FORMAT, VERSION)
        try:
            order = {str(name): None for name in [*body.get("order", ()), *body["tables"]]}
            tables = {name: _table_from_json(body["tables"][name]) for name in order}
            return cls(tables, dict(body["learnt"]))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ConfigurationError(f"a {FORMAT} state that can't be understood", source=str(path)) from error

    @classmethod
    def merged(cls, states: Iterable[State]) -> State:
        """The state of one monitor that has seen what all of these have.

        Counts and moments are those that it would have, to the last digit; quantiles are within their sketch's error.

        Raises:
            ConfigurationError: there are none, or they don't fit: other features, or other references.
        """
        merged: State | None = None
        for state in states:
            if merged is None:
                merged = cls(learnt=dict(state.learnt))
            if state.learnt != merged.learnt:
                raise ConfigurationError(
                    "two states have learnt topics of their own, which can't be told to be the same: give all monitors "
                    "one saved reference"
                )
            for name, table in state.tables.items():
                if name not in merged.tables:
                    merged.tables[name] = Table(origin=table.origin)
                _add(name, merged.tables[name], table)
        if merged is None:
            raise ConfigurationError("there is no drift state to merge: give at least one")
        return merged

    def _body(self) -> dict[str, Any]:
        return {
            "tables": {name: _table_to_json(table) for name, table in self.tables.items()},
            "learnt": self.learnt,
        }


def seen_in(table: Table) -> dict[str, Summary]:
    """All values of a table so far, by feature: what others are compared with."""
    return {name: column.seen for name, column in table.columns.items()}


def _add(name: str, merged: Table, table: Table) -> None:
    if merged.origin != table.origin:
        raise ConfigurationError(f"the states' references for {name!r} are not the same one, so they can't be merged")
    merged.calls += table.calls
    for feature, column in table.columns.items():
        held = merged.columns.get(feature)
        if held is None:
            # Names are shared by a feature's summaries, so the new ones share a list of their own.
            names = list(column.seen.names) if column.seen.names is not None else None
            empty = Summary(column.seen.layout, names, fine=column.seen.fine)
            held = merged.columns[feature] = Column(empty, empty.copy())
        held.seen.merge(column.seen)
        held.recent.merge(column.recent)
        if column.reference is None:
            continue
        if held.reference is None:
            held.reference = Summary(held.seen.layout, held.seen.names, fine=held.seen.fine)
            held.reference.merge(column.reference)
        elif merged.origin == OWN:
            held.reference.merge(column.reference)


def _table_to_json(table: Table) -> dict[str, Any]:
    columns = {}
    for name, column in table.columns.items():
        layout = column.seen.layout
        columns[name] = {
            "layout": [layout.kind, layout.low, layout.high],
            "fine": column.seen.fine,
            "names": column.seen.names,
            "seen": column.seen.to_json(),
            "recent": column.recent.to_json(),
            "reference": column.reference.to_json() if column.reference is not None else None,
        }
    return {"origin": table.origin, "calls": table.calls, "columns": columns}


def _table_from_json(said: Mapping[str, Any]) -> Table:
    columns = {}
    for name, one in said["columns"].items():
        kind, low, high = one["layout"]
        layout, fine = Layout(kind, float(low), float(high)), bool(one["fine"])
        names = [str(name) for name in one["names"]] if one["names"] is not None else None
        if (kind == "category") != (names is not None):
            raise ValueError("names where there are none, or none")
        if names is not None and (names[:1] != [REST] or not len(set(names)) == len(names) <= _MOST_NAMES):
            raise ValueError("names that no feature has")
        seen, recent, reference = [
            Summary.from_json(one[part], layout, names, fine=fine) if one[part] is not None else None
            for part in ("seen", "recent", "reference")
        ]
        if seen is None or recent is None:
            raise ValueError("nothing seen")
        columns[str(name)] = Column(seen, recent, reference)
    return Table(columns, str(said["origin"]), count(said["calls"]))
