"""What a request says about itself in its headers: conversation, prompt, tenant. Only where its sender is trusted to.

Nobody's word is taken by default. A conversation's id lets one have its placeholders restored, and the names of prompts
and tenants are told to telemetry, or decide whose turn it is.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from llmguard.errors import ConfigurationError
from llmguard.guard import Guard
from llmguard.integrations.headers import Headers, named

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Names go into metrics, where a text has no place: what doesn't look like one says nothing.
_NAME = r"[\w.:/+~-]{1,64}"
_TENANT = re.compile(_NAME, re.ASCII)
_PROMPT = re.compile(rf"({_NAME})(?:\s*,\s*({_NAME})(?:\s*,\s*({_NAME}))?)?", re.ASCII)


class Callers:
    """The names of the headers that are believed.

    Args:
        guard: whose scopes are entered.
        conversation: of the conversation; each call stands by itself without it.
        prompt: of the prompt template: its name, and behind commas its version and its variant.
        tenant: of the tenant.

    Attributes:
        headers: them, in small letters.

    Raises:
        ConfigurationError: one is no name of a header.
    """

    def __init__(
        self, guard: Guard, *, conversation: str | None = None, prompt: str | None = None, tenant: str | None = None
    ) -> None:
        self._guard = guard
        self._conversation = _header("conversation", conversation)
        self._prompt = _header("prompt", prompt)
        self._tenant = _header("tenant", tenant)
        self.headers = frozenset({self._conversation, self._prompt, self._tenant} - {b""})

    @contextmanager
    def scopes(self, headers: Headers) -> Generator[None, None, None]:
        """What is checked and asked inside belongs to what the request's headers say.

        Args:
            headers: names in small letters.
        """
        if not self.headers:
            yield
            return
        with ExitStack() as stack:
            if name := self._said(headers, self._conversation):
                stack.enter_context(self._guard.conversation(name))
            if found := _PROMPT.fullmatch(self._said(headers, self._prompt)):
                called, version, variant = found.groups("")
                stack.enter_context(self._guard.prompt(called, version=version, variant=variant))
            if _TENANT.fullmatch(name := self._said(headers, self._tenant)):
                stack.enter_context(self._guard.tenant(name))
            yield

    @staticmethod
    def _said(headers: Headers, name: bytes) -> str:
        return named(headers, name).decode("latin-1").strip() if name else ""


def _header(option: str, name: str | None) -> bytes:
    if name is None:
        return b""
    if not isinstance(name, str) or _HEADER.fullmatch(name) is None:
        raise ConfigurationError(f"{option} must be the name of a header, not {name!r}")
    return name.lower().encode()
