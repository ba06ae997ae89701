"""Tables in the docs are what the code says, and examples in them run."""

import importlib.util
from pathlib import Path

from llmguard.detectors.registry import available

DOCS = Path("docs")


def test_the_table_of_detectors_is_what_is_registered() -> None:
    spec = importlib.util.spec_from_file_location("generate_detectors", DOCS / "generate_detectors.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    page = (DOCS / "detectors.md").read_text(encoding="utf-8")
    assert generator.filled(page) == page, "run: make docs"


def test_every_detector_has_a_page() -> None:
    for name in available():
        assert (DOCS / "detectors" / f"{name}.md").is_file(), name
