"""What a provider says about its answer: the model, an id, why it ended, tokens. Never what the answer is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from llmguard import semconv
from llmguard.prices import Tokens

if TYPE_CHECKING:
    from opentelemetry.util.types import AnyValue

_MAX_FINISH = 128
_MAX_TOKENS = 2**53
# Callers and servers may write anything where a name is expected, so only what looks like one is taken.
# An address of a person is none, nor is anything with white space; a key without any passes for a name.
_name = re.compile(r"(?!.*\w@\w[\w-]*\.\w)[\w.:/@+~=|-]{1,128}", re.ASCII).fullmatch
_host = re.compile(r"[A-Za-z0-9_.:%/\[\]-]{1,255}").fullmatch
_code = re.compile(r"[A-Za-z0-9_.:-]{1,64}").fullmatch


class Said(Protocol):
    """What a response, or an event of a stream, says beside its texts: `dialects.wire.Body` and `Event` do."""

    @property
    def model(self) -> str:
        """That answers, or ""."""
        ...

    @property
    def id(self) -> str:
        """Of the response, or ""."""
        ...

    @property
    def finish(self) -> Sequence[str]:
        """The provider's finish reasons."""
        ...

    @property
    def usage(self) -> Tokens | None:
        """Tokens so far, where it says them."""
        ...

    @property
    def error(self) -> str:
        """The provider's error code or type, or ""."""
        ...


class Count(NamedTuple):
    """Tokens; see `prices.Tokens`."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None


class Heard:
    """What was said so far.

    Attributes:
        model: that answers, or "".
        id: of the response, or "".
        finish: the provider's finish reasons.
        tokens: that it counted; None until it says some.
        error: value of ``error.type``, or "".
    """

    __slots__ = ("error", "finish", "id", "model", "tokens")

    def __init__(self) -> None:
        self.model = ""
        self.id = ""
        self.finish: list[str] = []
        self.tokens: Count | None = None
        self.error = ""

    def add(self, said: Said) -> None:
        """Take in what a response or an event says; what came later holds, but counts of single events are added up."""
        if said.model:
            self.model = name(said.model)
        if said.id:
            self.id = said.id if _name(said.id) else ""
        if said.finish:
            room = _MAX_FINISH - len(self.finish)
            self.finish += [reason if _code(reason) else semconv.OTHER for reason in said.finish[:room]]
        if said.usage is not None:
            before = self.tokens or Count()
            self.tokens = _merged(before, said.usage)
            if getattr(said.usage, "further", False):
                self.tokens = self.tokens._replace(output=_sum(before.output, said.usage.output))
        if said.error:
            self.error = code(said.error)

    def attributes(self) -> dict[str, AnyValue]:
        """All of it as attributes of a span."""
        said: dict[str, AnyValue] = {
            semconv.RESPONSE_ID: self.id,
            semconv.RESPONSE_MODEL: self.model,
            semconv.FINISH_REASONS: self.finish,
        }
        said = {key: value for key, value in said.items() if value}
        if self.tokens is not None:
            keys = (semconv.INPUT_TOKENS, semconv.OUTPUT_TOKENS, semconv.CACHED_TOKENS, semconv.REASONING_TOKENS)
            said |= {key: count for key, count in zip(keys, self.tokens, strict=True) if count is not None}
        return said


def name(said: str) -> str:
    """The name of a model, or ``other`` for what is no name; "" stays ""."""
    return said if not said or _name(said) else semconv.OTHER


def host(said: str) -> str:
    """The address of a server, or ``other`` for what is none, as a URL with a password in it; "" stays ""."""
    return said if not said or _host(said) else semconv.OTHER


def code(said: str) -> str:
    """Value of ``error.type`` for a provider's code, which may be a sentence; "" stays ""."""
    return said if not said or _code(said) else semconv.OTHER_ERROR


def _merged(before: Count, now: Tokens) -> Count:
    fresh = (now.input, now.output, now.cached, now.reasoning)
    return Count(*[old if not _counts(new) else new for old, new in zip(before, fresh, strict=True)])


def _sum(before: int | None, now: int | None) -> int | None:
    return (before or 0) + now if now is not None and _counts(now) else before


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKENS
