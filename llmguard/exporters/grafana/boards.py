"""The files of all boards."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from llmguard.exporters.grafana.detectors import detectors
from llmguard.exporters.grafana.operations import operations
from llmguard.exporters.grafana.overview import overview
from llmguard.exporters.grafana.quality import quality


def boards() -> list[model.Dashboard]:
    """All of them, the first one first."""
    return [overview(), detectors(), quality(), operations()]


def files() -> dict[str, str]:
    """What each file says, by its name; the same each time."""
    return {
        f"{str(board.uid).removeprefix('llmguard-')}.json": json.dumps(board, cls=JSONEncoder, indent=1, sort_keys=True)
        + "\n"
        for board in boards()
    }


def write(directory: Path) -> list[Path]:
    """Writes the files.

    Args:
        directory: made if it is not there.

    Raises:
        OSError: it can't be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in files().items():
        (directory / name).write_text(text, encoding="utf-8")
        written.append(directory / name)
    return written
