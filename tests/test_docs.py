"""Tables in the docs are what the code says, and examples in them run."""

import importlib.util
import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType

import pytest

from llmguard.detectors.registry import available

DOCS = Path("docs")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What a line prints stands behind it, or, where that is too long, below it.
EXPECTED = re.compile(r"^ *print\(.*\)(?: *|\n)# (.*)$", re.MULTILINE)
#: Pages that no other test runs, and what they need beside the core.
PAGES = {
    "audit": (),
    "drift_kernels": ("numba",),
    "kernels": ("numba",),
    "detectors/consistency": (),
    "detectors/own": (),
    "detectors/runaway": ("numba",),
    "detectors/uncertainty": ("numba",),
}


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run_and_print_what_the_comments_say(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in PAGES[page]:
        pytest.importorskip(package)
    blocks = BLOCK.findall((DOCS / f"{page}.md").read_text(encoding="utf-8"))
    assert blocks
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # what it defines can be pickled
    for block in blocks:
        printed = StringIO()
        with redirect_stdout(printed):
            exec(compile(block, f"docs/{page}.md", "exec"), vars(module))  # noqa: S102 - the page is ours
        assert printed.getvalue().splitlines() == EXPECTED.findall(block)


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
