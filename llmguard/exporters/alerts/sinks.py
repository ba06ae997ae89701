"""Makes the sink that a policy describes."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from llmguard.errors import ConfigurationError, nearest
from llmguard.exporters.alerts.sink import Sink

#: Each is a module beside this one, with the keys that it knows and a function that makes the sink.
KINDS = ("alertmanager", "email", "opsgenie", "pagerduty", "slack", "teams", "webhook")


def build(name: str, settings: Mapping[str, Any]) -> Sink:
    """The sink that a policy describes.

    Args:
        name: by which rules and errors call it.
        settings: its ``kind``, and the keys of that kind. A secret is ``env:NAME`` or ``file:PATH``.

    Raises:
        ConfigurationError: a kind or a key is unknown, a value is wrong, a secret is written out or cannot be found.
            No message shows a URL or a secret.
    """
    if not isinstance(settings, Mapping):
        raise ConfigurationError(f"sink {name!r} must be a mapping with a kind, not {type(settings).__name__}")
    kind = settings.get("kind")
    if kind is None:
        raise ConfigurationError(f"sink {name!r}: 'kind' is missing (known: {', '.join(KINDS)})")
    if kind not in KINDS:
        hint = nearest(kind, KINDS) if isinstance(kind, str) else f" (known: {', '.join(KINDS)})"
        raise ConfigurationError(f"sink {name!r}: unknown kind {kind!r}{hint}")
    from llmguard.exporters.alerts.settings import Settings  # HTTP and TLS, which policies without sinks need not load

    sink: Sink = _module(kind).made(Settings(name, settings, keys(kind)))
    return sink


def keys(kind: str) -> frozenset[str]:
    """The keys that a kind knows."""
    return frozenset({"kind", *_module(kind).KEYS})


def _module(kind: str) -> Any:
    return importlib.import_module(f"llmguard.exporters.alerts.{kind}")
