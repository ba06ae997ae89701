"""The detector `pii` against Presidio's AnalyzerEngine with the same recognizers, and hostile text against prose."""

from __future__ import annotations

from benchmarks.texts import CLEAN
from benchmarks.timing import medians, microseconds, row
from llmguard.detectors.pii import PiiDetector
from llmguard.detectors.pii_engine import analyzer
from llmguard.detectors.pii_nlp import engine
from llmguard.types import Text

TEN = CLEAN + (
    " Contact jane.doe@example.com, bob@mail.example.org or amy_w@test.co.uk. Cards 4111 1111 1111 1111 and "
    "5500-0000-0000-0004, phone 212-555-0123, host 192.168.10.24, my SSN is 536-22-8756, key AKIAIOSFODNN7EXAMPLE, "
    "IBAN DE89370400440532013000."
)
SIZE = 1_000_000


def hostile() -> dict[str, str]:
    """A megabyte each, without a finding but for one address at the end of some."""
    mail = " bob@example.com"
    return {
        "hyphens and an address": "a-" * (SIZE // 2) + mail,
        "dots and an address": "a." * (SIZE // 2) + mail,
        "one word": "a" * SIZE,
        "at signs": "a@" * (SIZE // 2),
        "colons": ":" * SIZE,
        "brackets": "(" * SIZE,
        "white space": " " * SIZE,
        "Cyrillic": "привет " * (SIZE // 7),
        "spaced ones": "1 " * (SIZE // 2),
        "a row of digits": "1234567890" * (SIZE // 10),
    }


def main() -> bool:
    detector = PiiDetector()
    presidio = analyzer(detector.recognizers, engine(["en"]), ["en"], 0.0)
    held = True
    for name, text, bound in (("clean", CLEAN, 300), ("ten findings", TEN, 7)):
        took = medians(
            {
                "ours": lambda text=text: detector.detect([Text(text)]),
                "presidio": lambda text=text: presidio.analyze(text, "en"),
            }
        )
        ratio = took["presidio"] / took["ours"]
        held &= row(
            f"{name}, {len(text.split())} words",
            microseconds(took["ours"]),
            f"Presidio {microseconds(took['presidio'])}: {ratio:,.0f} times",
            f">= {bound} times",
            holds=ratio >= bound,
        )
    prose = (CLEAN + " ") * (SIZE // len(CLEAN))
    calls = {name: lambda text=text: detector.detect([Text(text)]) for name, text in hostile().items()}
    took = medians({"prose": lambda: detector.detect([Text(prose)]), **calls}, rounds=5)
    row("1 MB of prose", f"{took['prose'] * 1e3:.1f} ms")
    for name in calls:
        row(f"1 MB: {name}", f"{took[name] * 1e3:.1f} ms", f"{took[name] / took['prose']:.1f} times prose")
    return held


if __name__ == "__main__":
    main()
