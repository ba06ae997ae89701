"""Records as lines for people: one a check or a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.exporters.record import CALL, Record

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_STYLES = {"allow": "green", "flag": "yellow", "redact": "magenta", "block": "bold red", CALL: "cyan"}
_MAX_CATEGORIES = 8
_MAX_LENGTH = 80


class ConsoleExporter:
    """Writes a line for each record; in colours where a person is looking.

    ::

        22:15:19.031 input   redact  2.1ms support@3 EMAIL_ADDRESS x2 some-model 4bf92f35
        22:15:19.544 call           513.2ms input_tokens=12 output_tokens=40 some-model 4bf92f35

    Times are UTC. A decision that was not enforced stands in brackets, detectors that could not say are named
    behind an exclamation mark, the last word is the beginning of the trace's id.

    Args:
        console: of rich, where to write; standard error unless given.

    Raises:
        MissingExtraError: rich is not installed.
        ConfigurationError: ``console`` is none.
    """

    def __init__(self, console: Console | None = None) -> None:
        try:
            from rich.console import Console
        except ImportError:
            raise MissingExtraError("ConsoleExporter", "rich", "cli") from None
        if console is not None and not isinstance(console, Console):
            raise ConfigurationError(f"console must be one of rich, not a {type(console).__name__}")
        self._console = console or Console(stderr=True)

    def export(self, batch: Sequence[Record]) -> None:
        """Write a line for each of these records."""
        from rich.text import Text

        lines = Text("\n").join([line(record) for record in batch])
        self._console.print(lines, soft_wrap=True, markup=False, highlight=False, emoji=False)

    def force_flush(self, timeout_s: float = 30.0) -> bool:
        """Flush what is written to."""
        del timeout_s
        self._console.file.flush()
        return True

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        """Flush; what is written to stays open."""
        return self.force_flush(timeout_s)


def line(record: Record) -> Text:
    """A record as one line, with its colours."""
    from rich.text import Text

    at = datetime.fromtimestamp(record.at / 1e9, UTC)
    made = Text()
    made.append(f"{at:%H:%M:%S}.{at.microsecond // 1000:03} ", "dim")
    if record.kind == CALL:
        made.append(f"{CALL:<15} ", _STYLES[CALL])
    else:
        action = record.action if record.enforced else f"({record.action})"
        made.append(f"{_plain(record.stage):<7} ")
        made.append(f"{_plain(action):<7} ", _STYLES.get(record.action, ""))
    made.append(f"{record.seconds * 1e3:7.1f}ms")
    if record.policy.name:
        made.append(f" {_plain(record.policy.name)}@{_plain(record.policy.version)}", "dim")
    for words, style in _what(record):
        made.append(f" {words}", style)
    if record.model:
        made.append(f" {_plain(record.model)}")
    if record.trace:
        made.append(f" {_plain(record.trace[:8])}", "dim")
    return made


def _what(record: Record) -> list[tuple[str, str]]:
    counts = Counter(found.category for found in record.findings)
    told = [
        (_plain(category) + (f" x{count}" if count > 1 else ""), "bold")
        for category, count in counts.most_common(_MAX_CATEGORIES)
    ]
    if len(counts) > _MAX_CATEGORIES:
        told.append((f"+{len(counts) - _MAX_CATEGORIES}", "bold"))
    told += [(f"!{_plain(run.detector)}:{run.outcome}", "red") for run in record.runs if run.failure_mode or run.error]
    told += [(f"{_plain(name)}={value:g}", "") for name, value in record.numbers.items() if name != "latency"]
    return told


def _plain(word: str) -> str:
    """A word that a terminal shows and does not obey, on one line, in any encoding."""
    shown = "".join(letter if " " < letter <= "~" else "?" for letter in word[:_MAX_LENGTH])
    return shown + "..." if len(word) > _MAX_LENGTH else shown
