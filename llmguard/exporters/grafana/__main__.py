"""``python -m llmguard.exporters.grafana DIRECTORY``: writes the dashboards there."""

from __future__ import annotations

import sys
from pathlib import Path

from llmguard.errors import LlmGuardError, MissingExtraError


def main(arguments: list[str]) -> int:
    """Writes them, and prints where.

    Returns:
        The exit code: 2 when what was asked for is wrong.
    """
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m llmguard.exporters.grafana DIRECTORY\n")
        return 2
    try:
        for path in _written(Path(arguments[0])):
            sys.stdout.write(f"{path}\n")
    except OSError as error:
        sys.stderr.write(f"llmguard: {arguments[0]}: can't be written: {error.strerror}\n")
        return 2
    except LlmGuardError as error:
        sys.stderr.write(f"llmguard: {error}\n")
        return 2
    return 0


def _written(directory: Path) -> list[Path]:
    try:
        from llmguard.exporters.grafana import boards
    except ImportError as error:
        raise MissingExtraError("the dashboards", error.name or "grafana_foundation_sdk", "grafana") from None
    return boards.write(directory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
