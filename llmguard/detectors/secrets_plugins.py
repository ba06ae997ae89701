"""detect-secrets' plugins as second opinions: their own classes, in process, each on one small window.

Only ``analyze_string`` is called, which looks at a string and nothing else: no files, no git, no
settings and none of the plugins' network verification. Their expressions backtrack, so none sees
more than the place where ours, in RE2, found that it can match.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from llmguard.detectors.secrets_values import Limits
from llmguard.errors import ConfigurationError, MissingExtraError

JWT = "JwtTokenDetector"
KEYWORD = "KeywordDetector"
_ENTROPY = frozenset({"Base64HighEntropyString", "HexHighEntropyString"})
_LONG_NAME = re.compile(r"(\w{24})\w+")
_GAP = re.compile(r"\s+")


def installed() -> Mapping[str, type[Any]]:
    """detect-secrets' plugin classes by name.

    Raises:
        MissingExtraError: detect-secrets is not installed.
    """
    try:
        from detect_secrets import plugins
        from detect_secrets.plugins.base import BasePlugin
        from detect_secrets.util.importlib import import_modules_from_package
    except ImportError:
        raise MissingExtraError("secrets", "detect_secrets", "secrets") from None

    found: dict[str, type[Any]] = {}
    for module in import_modules_from_package(plugins, lambda name: name.endswith(".base")):
        for thing in vars(module).values():
            # Abstract classes have a property where plugins have a string.
            if isinstance(thing, type) and issubclass(thing, BasePlugin) and isinstance(thing.secret_type, str):
                found[thing.__name__] = thing
    return found


class SecondOpinion:
    """Asks plugins about matches.

    Args:
        names: which plugins may be asked.
        limits: entropy limits; detect-secrets' entropy plugins get theirs.

    Raises:
        MissingExtraError: detect-secrets is not installed.
        ConfigurationError: the installed detect-secrets lacks a plugin.
    """

    __slots__ = ("_plugins",)

    def __init__(self, names: Iterable[str], limits: Limits) -> None:
        wanted = sorted(names)
        classes = installed() if wanted else {}
        missing = [name for name in wanted if name not in classes]
        if missing:
            raise ConfigurationError(f"secrets: the installed detect-secrets has no plugin {', '.join(missing)}")
        options = {"Base64HighEntropyString": limits.base64, "HexHighEntropyString": limits.hex}
        self._plugins = {
            name: classes[name](limit=options[name]) if name in options else classes[name]() for name in wanted
        }

    def __contains__(self, name: str) -> bool:
        return name in self._plugins

    def confirms(self, name: str, window: str) -> bool:
        """Whether the plugin finds a secret in ``window``: a part of one line."""
        plugin = self._plugins[name]
        if name in _ENTROPY:
            limit = plugin.entropy_limit
            return any(plugin.calculate_shannon_entropy(value) > limit for value in plugin.analyze_string(window))
        return any(True for _ in plugin.analyze_string(window))


def window(text: str, start: int, end: int, before: int) -> str:
    """The match at ``start:end`` with ``before`` characters in front of it and one after it, within its line."""
    low = max(0, start - before)
    low = max(low, text.rfind("\n", low, start) + 1, text.rfind("\r", low, start) + 1)
    high = end + 1 if end < len(text) and text[end] not in "\r\n" else end
    return text[low:high]


def assignment(lead: str, value: str, tail: str) -> str:
    """An assignment with its name, its gaps and its value shortened.

    KeywordDetector's expressions take time that grows with the square of a long name or value. What
    they ask is the name's ending, the operator, the quotes and the value's first and last character.
    """
    name = _GAP.sub(" ", _LONG_NAME.sub(r"\1", lead[-200:]))
    return f"{name}{value[:8]}{value[-1:]}{tail}"


def signed_part(token: str) -> str:
    """Header and payload of a JSON Web Token, which JwtTokenDetector decodes.

    Behind them its expression starts anew at every ``eyJ`` of a signature and runs to its end.
    """
    return ".".join(token.split(".", 2)[:2])
