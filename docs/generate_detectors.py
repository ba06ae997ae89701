"""Writes the table of docs/detectors.md from the registered detectors: ``python docs/generate_detectors.py``."""

from __future__ import annotations

from pathlib import Path

from llmguard.detectors.registry import available, load

PAGE = Path(__file__).with_name("detectors.md")


def table() -> str:
    """One row a detector: its page, what it finds, how it runs."""
    lines = ["| detector | what it does | scope | runs | categories |", "| --- | --- | --- | --- | --- |"]
    for name in sorted(available()):
        detector = load(name)
        what = (type(detector).__doc__ or "").strip().splitlines()[0].rstrip(".")
        categories = sorted(detector.categories)
        shown = " ".join(f"`{category}`" for category in categories[:12])
        more = f" and {len(categories) - 12} more" if len(categories) > 12 else ""
        runs = "inline" if detector.inline else "on a worker"
        lines.append(f"| [`{name}`](detectors/{name}.md) | {what} | {detector.scope} | {runs} | {shown}{more} |")
    return "\n".join(lines)


def filled(page: str) -> str:
    """The page with its table as the code has it now."""
    head, start, rest = page.partition("<!-- detectors -->\n")
    _, end, tail = rest.partition("<!-- end -->")
    return f"{head}{start}{table()}\n{end}{tail}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
