"""What receivers of alerts publish of what they take, as schemas."""

from __future__ import annotations

import functools
import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema

_FOLDER = Path(__file__).parents[1] / "data" / "alerts"


def check(name: str, payload: Any) -> None:
    """Raise where a payload is not what this receiver takes, or holds what no UTF-8 is.

    Args:
        name: of the schema.
        payload: bytes of JSON, or what they stand for.
    """
    payload = json.loads(payload) if isinstance(payload, bytes) else payload
    json.dumps(payload, ensure_ascii=False).encode("utf-8")
    _validator(name).validate(payload)


@functools.cache
def _validator(name: str) -> Any:
    schema = json.loads((_FOLDER / f"{name}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=_FORMATS)


_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@_FORMATS.checks("uri", raises=ValueError)
def _is_uri(value: object) -> bool:
    if not isinstance(value, str):
        return True
    return value.isascii() and value.isprintable() and " " not in value and bool(urlsplit(value).netloc)


def texts(payload: Any) -> list[str]:
    """All texts in a payload, names included."""
    if isinstance(payload, dict):
        return [text for pair in payload.items() for part in pair for text in texts(part)]
    if isinstance(payload, list):
        return [text for part in payload for text in texts(part)]
    return [payload] if isinstance(payload, str) else []
