"""What a policy says of one sink, read key by key; secrets come from the environment or a file alone."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from llmguard.errors import ConfigurationError, nearest
from llmguard.exporters.alerts.http import TIMEOUT_S, Sender
from llmguard.exporters.alerts.reach import Reach
from llmguard.exporters.alerts.sink_check import WAY_OUT, has_password
from llmguard.exporters.alerts.tls import tls_context

#: What every sink that posts over HTTP understands.
HTTP_KEYS = frozenset({"allow", "ca_file", "insecure", "proxy", "timeout_s"})
_LONGEST_SECRET = 65_536
_is_variable = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*").fullmatch


class Settings:
    """The settings of one sink.

    Args:
        sink: its name in the policy.
        given: what is written there.
        known: the keys that its kind has.

    Raises:
        ConfigurationError: a key is unknown; names the nearest.
    """

    def __init__(self, sink: str, given: Mapping[str, Any], known: Collection[str]) -> None:
        self.sink = sink
        self._given = given
        for key in given:
            if key not in known:
                raise ConfigurationError(f"{self.what(key)} is no setting of this kind{nearest(str(key), known)}")

    def what(self, key: str) -> str:
        """How errors call a setting."""
        return f"sink {self.sink!r}: {key!r}"

    def text(self, key: str, default: str | None = None) -> str:
        """A text, written out or as ``env:NAME`` or ``file:PATH``.

        Args:
            key: its name.
            default: what it is where it is not said; None where it must be.
        """
        value = self._given.get(key, default)
        if value is None:
            raise ConfigurationError(f"{self.what(key)} is missing")
        if not isinstance(value, str) or (not value and default is None):
            raise ConfigurationError(f"{self.what(key)} must be a text, not {type(value).__name__}")
        return self._resolved(key, value)

    def secret(self, key: str, default: str | None = None) -> str:
        """A secret, which the policy only points to.

        Args:
            key: its name.
            default: ``""`` where it may be left out.
        """
        value = self._given.get(key, default)
        if value is None:
            raise ConfigurationError(f"{self.what(key)} is missing: say env:NAME or file:PATH")
        return value if value == "" and default == "" else self._pointed(key, value)

    def secrets(self, key: str) -> list[str]:
        """One secret or several."""
        value = self._given.get(key)
        if not value:
            raise ConfigurationError(f"{self.what(key)} is missing: say env:NAME or file:PATH")
        return [self._pointed(key, each) for each in (value if isinstance(value, list | tuple) else [value])]

    def url(self, key: str, default: str | None = None) -> str:
        """A URL; one with a password in it is a secret."""
        self._no_password(key, self._given.get(key))
        return self.text(key, default)

    def base(self, key: str, default: str | None = None) -> str:
        """A URL that a path is put behind."""
        return self._without_query(key, self.url(key, default))

    def bases(self, key: str) -> list[str]:
        """One such URL or several."""
        for each in self.texts(key, resolve=False):
            self._no_password(key, each)
        return [self._without_query(key, each) for each in self.texts(key)]

    def _without_query(self, key: str, url: str) -> str:
        if "?" in url or "#" in url:
            raise ConfigurationError(f"{self.what(key)} must end with its path: no ? and no #")
        return url

    def _no_password(self, key: str, written: object) -> None:
        if has_password(written):
            raise ConfigurationError(f"{self.what(key)} holds a password: put the whole URL {WAY_OUT}")

    def texts(self, key: str, *, resolve: bool = True) -> list[str]:
        """A list of texts, or one; none where it is not said.

        Args:
            key: its name.
            resolve: put in what ``env:NAME`` and ``file:PATH`` stand for.
        """
        value = self._given.get(key, [])
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            raise ConfigurationError(f"{self.what(key)} must be a text or a list of texts")
        return [self._resolved(key, each) for each in value] if resolve else list(value)

    def flag(self, key: str) -> bool:
        """True or false; false where it is not said."""
        value = self._given.get(key, False)
        if not isinstance(value, bool):
            raise ConfigurationError(f"{self.what(key)} must be true or false, not {type(value).__name__}")
        return value

    def number(self, key: str, default: float, least: float, most: float) -> float:
        """A number in a range."""
        value = self._given.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ConfigurationError(f"{self.what(key)} must be a number from {least:g} to {most:g}")
        return float(value)

    def choice(self, key: str, known: Collection[str], default: str) -> str:
        """One of several words."""
        value = self._given.get(key, default)
        if not isinstance(value, str) or value not in known:
            raise ConfigurationError(f"{self.what(key)} must be one of {', '.join(sorted(known))}")
        return value

    def reach(self) -> Reach:
        """Which addresses the sink may go to."""
        return Reach(self.texts("allow"), self.what("allow"))

    def ca_file(self) -> str:
        """The path of certificates to trust, which ``file:PATH`` means, too; ``""`` where the system's are."""
        given = self._given.get("ca_file")
        path = given[5:] if isinstance(given, str) and given.startswith("file:") else self.text("ca_file", "")
        if path:
            # Tried here, where the sink is known that an error names.
            tls_context(path, self.what("ca_file"))
        return path

    def timeout_s(self) -> float:
        """How long one message may take."""
        return self.number("timeout_s", TIMEOUT_S, 0.1, 60.0)

    def sender(self, url: str, key: str = "url") -> Sender:
        """What posts to a URL under this sink's settings.

        Args:
            url: where to.
            key: how errors call it.
        """
        return Sender(
            url,
            self.reach(),
            self.what(key),
            timeout_s=self.timeout_s(),
            insecure=self.flag("insecure"),
            ca_file=self.ca_file(),
            proxy=self.url("proxy", ""),
        )

    def _pointed(self, key: str, value: object) -> str:
        if not isinstance(value, str) or not value.startswith(("env:", "file:")):
            raise ConfigurationError(f"{self.what(key)} is a secret, which a policy never holds: put it {WAY_OUT}")
        found = self._resolved(key, value)
        if not found.isascii() or not found.isprintable():
            raise ConfigurationError(f"{self.what(key)}: the secret must be one line of printable ASCII")
        return found

    def _resolved(self, key: str, value: str) -> str:
        kind, _, name = value.partition(":")
        if kind == "env":
            if not _is_variable(name):
                # What is no name may be the secret itself.
                raise ConfigurationError(f"{self.what(key)}: env: takes the name of a variable, such as env:SLACK_URL")
            if not (found := os.environ.get(name, "").strip()):
                raise ConfigurationError(f"{self.what(key)}: the environment variable {name!r} is not set or is empty")
            return found
        if kind == "file":
            return self._read(key, Path(name))
        return value

    def _read(self, key: str, path: Path) -> str:
        try:
            with path.open("rb") as file:
                found = file.read(_LONGEST_SECRET + 1)
            text = found.decode("utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{self.what(key)}: the file {str(path)!r} cannot be read: {type(error).__name__}"
            ) from None
        if not text or len(found) > _LONGEST_SECRET:
            raise ConfigurationError(f"{self.what(key)}: the file {str(path)!r} is empty or too large")
        return text
