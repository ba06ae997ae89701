"""What is wrong with the sinks of a policy, as far as that is seen without any of its secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from llmguard.errors import nearest
from llmguard.exporters.alerts.sinks import KINDS, keys

#: What a sink of each kind takes as ``env:NAME`` or ``file:PATH`` alone.
SECRETS: Mapping[str, frozenset[str]] = {
    "alertmanager": frozenset({"authorization"}),
    "email": frozenset({"password"}),
    "opsgenie": frozenset({"api_key"}),
    "pagerduty": frozenset({"routing_key"}),
    "slack": frozenset({"url"}),
    "teams": frozenset({"url"}),
    "webhook": frozenset({"secret", "authorization"}),
}
WAY_OUT = "into an environment variable or a file, and say env:NAME or file:PATH here"
_is_name = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}").fullmatch
_is_kept_apart = re.compile(r"(env|file):.+").fullmatch


def problems(sinks: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each thing that is wrong: the keys that lead to it, and what it is. No value of a setting but its kind is shown.

    Args:
        sinks: their settings, by name.
    """
    for name, settings in sinks.items():
        if not _is_name(name):
            yield (name,), "the name of a sink has letters, digits, - and _, a letter first, at most 64 of them"
        kind = settings.get("kind")
        if "kind" not in settings:
            yield (name,), f"needs the key 'kind': one of {', '.join(KINDS)}"
        elif kind not in KINDS:
            yield (name, "kind"), f"unknown word {kind!r}{nearest(str(kind), KINDS)}"
        else:
            known = keys(kind)
            for key, value in settings.items():
                values = value if isinstance(value, list | tuple) else [value]
                if key not in known:
                    yield (name, key), f"a sink of this kind has no such key{nearest(key, known)}"
                elif key in SECRETS[kind] and not all(map(_is_pointed_to, values)):
                    yield (name, key), f"is a secret, which a policy never holds: put it {WAY_OUT}"
                elif any([has_password(one) for one in values]):
                    yield (name, key), f"holds a password: put the whole URL {WAY_OUT}"


def has_password(written: object) -> bool:
    """Whether a setting is a URL with somebody's name or password before its host."""
    return isinstance(written, str) and "@" in re.split(r"[/?#]", written.partition("://")[2])[0]


def _is_pointed_to(value: object) -> bool:
    # What is empty is no secret: the sink itself says whether it needs one.
    return value in ("", None) or (isinstance(value, str) and _is_kept_apart(value) is not None)
