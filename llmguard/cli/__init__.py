"""The command line, ``llmguard …``; it holds no logic of its own."""

from __future__ import annotations

import sys

from llmguard.errors import MissingExtraError

_NEEDED = frozenset({"typer", "rich"})


def run() -> None:
    """Runs the command line, or says in one line what to install for it."""
    try:
        from llmguard.cli.main import app
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _NEEDED:
            raise
        sys.stderr.write(f"llmguard: {MissingExtraError('the command line', package, 'cli')}\n")
        sys.exit(2)
    app()
