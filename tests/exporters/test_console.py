"""What a person sees: one plain line a record, that no name can break out of."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest
from fakes import Words
from records import called, made
from rich.console import Console

from llmguard import ConfigurationError, Guard
from llmguard.exporters.console import ConsoleExporter
from llmguard.exporters.processor import Processor
from llmguard.exporters.record import Found, Record
from llmguard.types import PolicyRef


def written(*records: Record, **options: Any) -> str:
    file = io.StringIO()
    exporter = ConsoleExporter(Console(file=file, **options))
    exporter.export(records)
    assert exporter.shutdown()
    return file.getvalue()


def test_lines() -> None:
    assert written(made(1), called(2)).splitlines() == [
        "22:15:19.000 input   redact      2.0ms p@1 BAD !other:error some-model 00000000",
        "22:15:19.000 call              500.0ms input_tokens=12 m",
    ]


def test_a_decision_that_was_not_enforced() -> None:
    assert " (block)  " in written(made(action="block", enforced=False))


def test_categories_are_counted_and_bounded() -> None:
    findings = tuple(Found("d", f"C{number % 10}", 1.0, None, "flag", ()) for number in range(11))
    assert " C0 x2 C1 C2 C3 C4 C5 C6 C7 +2 " in written(made(findings=findings))


def test_no_colours_without_a_terminal() -> None:
    assert "\x1b" not in written(made())
    assert "\x1b[35mredact" in written(made(), force_terminal=True, color_system="standard", no_color=False)


@pytest.mark.parametrize(
    "name", ["\x1b[31mred", "a\nb", "[bold]x[/bold]", ":smile:", "\u202eevil", "ü\ud800", "x" * 9999]
)
def test_names_break_out_of_nothing(name: str) -> None:
    found = Found(name, name, 1.0, None, "flag", ())
    text = written(made(policy=PolicyRef(name, name, ""), findings=(found,), trace=name), color_system=None, width=20)
    assert len(text.splitlines()) == 1
    assert text.isascii()
    assert text.rstrip("\n").isprintable()
    assert len(text) < 500
    if name.startswith("["):
        assert name in text


def test_an_encoding_that_knows_little() -> None:
    file = io.TextIOWrapper(io.BytesIO(), "ascii")
    ConsoleExporter(Console(file=file)).export([made(model="ü", tenant="ü")])


def test_standard_error_by_default() -> None:
    script = (
        "from records import made; from llmguard.exporters.console import ConsoleExporter as E; E().export([made()])"
    )
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {script}"]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert (ran.stdout, len(ran.stderr.splitlines())) == ("", 1)


def test_what_is_no_console() -> None:
    with pytest.raises(ConfigurationError, match="console must be one of rich"):
        ConsoleExporter(sys.stderr)  # type: ignore[arg-type]


def test_no_text_is_shown() -> None:
    file = io.StringIO()
    processor = Processor(ConsoleExporter(Console(file=file)))
    policy = {"name": "p", "version": "1", "rules": [{"detector": "words", "action": "block"}]}
    with Guard(policy, detectors=[Words("words", "canary-4711")], monitors=[processor]) as guard:
        guard.check("my canary-4711")
    assert processor.shutdown()
    assert " block " in file.getvalue()
    assert "canary-4711" not in file.getvalue()
