"""The two windows of a fairness monitor, and how they are added up and written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from llmguard.detectors.fairness_counts import ANY, Counts, Key
from llmguard.detectors.fairness_options import COHORT
from llmguard.errors import ConfigurationError
from llmguard.semconv import OTHER

FORMAT = "llmguard-fairness"
VERSION = 1
#: So many kinds of cohorts count; further ones are left out.
MAX_DIMENSIONS = 8


class Windows(NamedTuple):
    """The window that is counted now, and the last one that was full."""

    running: Counts
    closed: Counts | None


def summed(windows: Iterable[Windows]) -> Windows:
    """New windows with the counts of all."""
    running, closed, full = Counts(), Counts(), False
    for one in windows:
        running.merge(one.running)
        if one.closed is not None:
            closed.merge(one.closed)
            full = True
    return Windows(running, closed if full else None)


def bounded(windows: Windows, most: int, references: Mapping[str, str]) -> tuple[Windows, dict[str, set[str]]]:
    """The windows with the largest cohorts under their own names, and those names by dimension.

    Args:
        windows: to be changed.
        most: names that a dimension may have; the rest is put under ``other``.
        references: by dimension the group that keeps its name beside them, however small it is.
    """
    whole = summed([windows, Windows(windows.closed or Counts(), None)]).running
    sizes: dict[str, dict[str, int]] = {}
    for key in whole.groups():
        if key[0].startswith(COHORT) and key[1] != OTHER:
            sizes.setdefault(key[0], {})[key[1]] = whole.size(key)
    kept: dict[str, set[str]] = {}
    names: dict[Key, Key | None] = {}
    largest = sorted(sizes, key=lambda dimension: (-whole.size((dimension, ANY)), dimension))
    for rank, dimension in enumerate(largest):
        groups = sizes[dimension]
        if rank >= MAX_DIMENSIONS:
            names |= {(dimension, group): None for group in (*groups, OTHER, ANY)}
            continue
        ordered = sorted(groups, key=lambda group: (-groups[group], group))
        kept[dimension] = own = {*ordered[:most], *(groups.keys() & {references.get(dimension, "")})}
        names |= {(dimension, group): (dimension, OTHER) for group in groups if group not in own}
    closed = windows.closed.renamed(names) if windows.closed is not None else None
    return Windows(windows.running.renamed(names), closed), kept


def to_body(windows: Windows, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The windows as JSON values.

    Args:
        windows: as they are.
        settings: that must be the same for counts to be added up.
    """
    closed = windows.closed.to_dict() if windows.closed is not None else None
    return {"settings": dict(settings), "running": windows.running.to_dict(), "closed": closed}


def from_body(body: Mapping[str, Any], settings: Mapping[str, Any], source: str) -> Windows:
    """The windows of `to_body`.

    Args:
        body: JSON values.
        settings: of the monitor that takes them.
        source: the file, for errors.

    Raises:
        ConfigurationError: something else was given, or the settings are others.
    """
    said = body.get("settings")
    if not isinstance(said, dict):
        raise ConfigurationError("a fairness state without settings", source=source)
    if other := sorted(key for key in said.keys() | settings.keys() if said.get(key) != settings.get(key)):
        raise ConfigurationError(
            f"the state of a monitor with other options ({', '.join(other)}): counts of the two can't be added up",
            source=source,
        )
    try:
        closed = body.get("closed")
        return Windows(Counts.from_dict(body.get("running")), None if closed is None else Counts.from_dict(closed))
    except ConfigurationError as error:
        raise ConfigurationError(f"a fairness state that can't be understood: {error}", source=source) from None
