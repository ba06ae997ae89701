"""Files with what a monitor knows: JSON with a format, a version and a checksum, written aside, then put in place."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmguard.errors import ConfigurationError

_MOST_BYTES = 256 << 20
_HEAD = ("format", "version", "sha256")


def write(path: str | os.PathLike[str], form: str, version: int, body: Mapping[str, Any]) -> None:
    """Write a state aside, and put it in the file's place when it is on the disk.

    Args:
        path: of the file.
        form: name of the format, such as ``llmguard-fairness``.
        version: of the format.
        body: JSON values by name; none is called format, version or sha256.

    Raises:
        ConfigurationError: the file can't be written; an old one is as it was.
    """
    path = Path(path)
    said = {"format": form, "version": version, "sha256": _digest(body), **body}
    try:
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_canonical(said) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            Path(aside).replace(path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)
    except OSError as error:
        raise ConfigurationError(f"the {form} state can't be written: {error.strerror}", source=str(path)) from error


def read(path: str | os.PathLike[str], form: str, version: int) -> dict[str, Any]:
    """The body that `write` wrote.

    Raises:
        ConfigurationError: the file is not there, truncated, damaged, of another version, or something else.
    """
    path, source = Path(path), str(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigurationError(f"too large for a {form} state", source=source)
        said = json.loads(path.read_bytes(), parse_constant=_refuse)
    except OSError as error:
        raise ConfigurationError(f"the {form} state can't be read: {error.strerror}", source=source) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"no {form} state, or only a part of one: it is not JSON", source=source) from error
    if not isinstance(said, dict) or said.get("format") != form:
        raise ConfigurationError(f"no {form} state", source=source)
    if said.get("version") != version:
        raise ConfigurationError(
            f"a {form} state of version {said.get('version')!r}; this llmguard reads version {version}: write it again "
            "by the llmguard that is to read it",
            source=source,
        )
    body = {key: value for key, value in said.items() if key not in _HEAD}
    if _digest(body) != said.get("sha256"):
        raise ConfigurationError(f"a damaged {form} state: its checksum is another", source=source)
    return body


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(body)).hexdigest()


def _canonical(said: object) -> bytes:
    return json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sync_directory(directory: Path) -> None:
    """Put the new name on the disk, too; where a directory can't be opened (Windows) the system does it by itself."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
