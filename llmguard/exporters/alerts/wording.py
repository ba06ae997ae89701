"""An alert in words that are safe to send: cleaned, in order, and shortened with a note of how much is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from llmguard.exporters.alerts.notice import NAME, SEVERITIES, SEVERITY, Group, Notice

#: What the sinks show in a place of its own.
SUMMARY, RUNBOOK = "summary", "runbook_url"
# What a person looks for first; the rest follows by name.
_FIRST = ("policy", "window", "value")
_MOST_FACTS, _MOST_ROWS = 40, 32
_LONGEST_NAME, _LONGEST_VALUE, _LONGEST_SUMMARY = 100, 1000, 1000
# The end of the year 9999.
_LAST_MOMENT = 253402300799.0
_HTTP = re.compile(r"https?://[!-~]+", re.IGNORECASE)
# Control characters (Cc), and what else ends a line (Zl, Zp).
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]")
# Lone surrogates, and turns of direction, by which a text is made to read as another one (CVE-2021-42574).
_BROKEN = re.compile("[\\ud800-\\udfff\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]")


def units(text: str) -> int:
    """How long a text is for receivers that count UTF-16 units, as Java and JavaScript do."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def clean(text: str) -> str:
    """One line of valid Unicode: a space for control characters, U+FFFD for lone surrogates and turns of direction."""
    return _BROKEN.sub("\ufffd", _CONTROL.sub(" ", text))


def shorten(text: str, most: int) -> str:
    """A text that is no longer than allowed, with a note of how many characters are left out where there is room.

    Args:
        text: valid Unicode.
        most: UTF-16 units, at least 1.
    """
    if units(text) <= most:
        return text
    kept = _start(text, most - 1)
    note = f"… ({len(text)} characters left out)"
    if len(note) * 2 <= most:
        kept = _start(text, most - len(note))
        return kept + f"… ({len(text) - len(kept)} characters left out)"
    return kept + "…"


def _start(text: str, most: int) -> str:
    kept = text[:most]
    while units(kept) > most:
        kept = kept[: len(kept) - max(1, (units(kept) - most) // 2)]
    return kept


def status(thing: Notice | Group) -> str:
    """``firing`` or ``resolved``."""
    return "resolved" if thing.resolved else "firing"


def severity(thing: Notice | Group) -> str:
    """The worst of what still fires, or of all once it is over; ``warning`` where nothing valid is said."""
    notices = thing.notices if isinstance(thing, Group) else (thing,)
    firing = [notice for notice in notices if not notice.resolved] or notices
    known = [notice.severity for notice in firing if notice.severity in SEVERITIES]
    return min(known, key=SEVERITIES.index, default="warning")


def name(notice: Notice) -> str:
    """Its ``alertname``."""
    return shorten(clean(notice.labels.get(NAME, "alert")), _LONGEST_NAME)


def summary(notice: Notice) -> str:
    """Its ``summary``, or its name where it has none."""
    return shorten(clean(notice.annotations.get(SUMMARY, "")), _LONGEST_SUMMARY) or name(notice)


def title(group: Group) -> str:
    """A line that names the first alert, how many there are, and how bad they are."""
    first = group.notices[0]
    more = f" and {len(group.notices) - 1} more" if len(group.notices) > 1 else ""
    return f"[{status(group).upper()}] {name(first)}{more} ({severity(group)})"


def heading(notice: Notice) -> str:
    """A line that says what one alert is about."""
    return f"[{status(notice).upper()}] {summary(notice)}"


def facts(notice: Notice, most: int = _MOST_FACTS) -> list[tuple[str, str]]:
    """Names and values to show: severity and times, labels, then what else is known, such as the trace.

    Args:
        notice: the alert.
        most: how many at most; a last one says how many are left out.
    """
    found = [(SEVERITY, severity(notice)), ("started", when(notice.started))]
    if notice.resolved:
        found.append(("ended", when(notice.ended)))
    told = {key: value for key, value in notice.annotations.items() if key not in (SUMMARY, RUNBOOK)}
    found += [(key, told.pop(key)) for key in _FIRST if key in told]
    found += [(key, notice.labels[key]) for key in sorted(notice.labels) if key not in (NAME, SEVERITY)]
    found += sorted(told.items())
    if len(found) > most:
        found = [*found[: most - 1], ("left out", f"{len(found) - most + 1} more")]
    return [(shorten(clean(key), _LONGEST_NAME), shorten(clean(value), _LONGEST_VALUE)) for key, value in found]


def runbook(notice: Notice) -> str:
    """The link to its runbook where that is an http URL that needs no escaping, else ``""``."""
    link = notice.annotations.get(RUNBOOK, "")
    return link if len(link) <= 1000 and _HTTP.fullmatch(link) and not set(link) & set('<>|"`\\') else ""


def left_out(count: int) -> str:
    """How a message says that it does not tell of all alerts of its group."""
    return f"{count} more {'alert is' if count == 1 else 'alerts are'} left out of this message."


def when(seconds: float) -> str:
    """A moment as RFC 3339 has it, in UTC and milliseconds.

    Args:
        seconds: since 1970; what no calendar holds is told as the first or the last moment that one does.
    """
    at = min(max(0.0, seconds), _LAST_MOMENT)
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rows(notice: Notice) -> dict[str, dict[str, str]]:
    """Its labels and annotations for receivers that take data: cleaned, 32 of each at most."""
    return {"labels": _rows(notice.labels), "annotations": _rows(notice.annotations)}


def _rows(given: Mapping[str, str]) -> dict[str, str]:
    made = {
        shorten(clean(key), _LONGEST_NAME): shorten(clean(given[key]), _LONGEST_VALUE)
        for key in sorted(given)[:_MOST_ROWS]
    }
    return {**made, "left_out": f"{len(given) - _MOST_ROWS} more"} if len(given) > _MOST_ROWS else made
