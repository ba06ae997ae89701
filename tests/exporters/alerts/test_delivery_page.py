"""The example of docs/alert_delivery.md runs."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "alert_delivery.md"


def test_the_example_runs() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(block, str(PAGE), "exec"), {"__name__": "page"})  # noqa: S102 - the page is ours
    assert printed.getvalue().splitlines() == ["7 % of the prompts are blocked", "True"]
