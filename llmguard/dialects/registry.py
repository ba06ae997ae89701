"""All dialects by name, and the dialect of a request by its method and path.

A path that a server further on could read as another one is never passed over in silence: it is an error, so that
spelling is no way around the guard.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from llmguard.dialects import (
    anthropic_messages,
    bedrock_converse,
    gemini,
    kserve,
    llamacpp,
    mcp,
    ollama,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_moderations,
    openai_responses,
    tgi,
    triton,
)
from llmguard.dialects.wire import Dialect, Framing, Route
from llmguard.errors import ConfigurationError, RouteError, nearest

_ALL: tuple[Dialect, ...] = (
    openai_chat.CHAT,
    openai_responses.RESPONSES,
    openai_completions.COMPLETIONS,
    openai_embeddings.EMBEDDINGS,
    openai_moderations.MODERATIONS,
    openai_chat.AZURE_CHAT,
    openai_completions.AZURE_COMPLETIONS,
    openai_embeddings.AZURE_EMBEDDINGS,
    anthropic_messages.MESSAGES,
    gemini.GEMINI,
    bedrock_converse.CONVERSE,
    ollama.CHAT,
    ollama.GENERATE,
    llamacpp.COMPLETION,
    tgi.GENERATE,
    tgi.COMPAT,
    kserve.INFER,
    triton.GENERATE,
    mcp.MCP,
)

_ESCAPED_PLAIN = "%(?:4[1-9A-F]|5[0-9A]|6[1-9A-F]|7[0-9A]|3[0-9]|2D|2E|5F|7E)"
_ESCAPED_ODD = "%(?:[01][0-9A-F]|25|3B|5C|7F)"
_ODD = re.compile(rf"//|[^!-~]|[\\;?#]|%(?![0-9A-F]{{2}})|{_ESCAPED_PLAIN}|{_ESCAPED_ODD}", re.IGNORECASE)
_DOTS = frozenset({".", ".."})
_NAME = re.compile(r"\{(\w+)\}")


class Match(NamedTuple):
    """Which dialect a request speaks.

    Attributes:
        dialect: that.
        segments: what stands for the route's ``{name}``s, percent-decoded.
        route: the route that led to it.
    """

    dialect: Dialect
    segments: Mapping[str, str]
    route: Route


class _Table(NamedTuple):
    """Routes, made ready to be looked up."""

    exact: Mapping[tuple[str, str], tuple[Dialect, Route]]
    patterns: Sequence[tuple[str, re.Pattern[str], Dialect, Route]]
    loose: re.Pattern[str]


def dialects() -> tuple[Dialect, ...]:
    """All that there are, in the order in which routes are tried."""
    return _ALL


def get(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        ConfigurationError: there is none; names the nearest.
    """
    known = {dialect.name: dialect for dialect in dialects()}
    if name not in known:
        raise ConfigurationError(f"unknown dialect {name!r}{nearest(name, known)}")
    return known[name]


def match(method: str, path: str, among: tuple[Dialect, ...] | None = None) -> tuple[Dialect, Mapping[str, str]] | None:
    """The dialect of a request and what stands for the named segments of its route; None where no route fits.

    Arguments and errors are those of `find`.
    """
    found = find(method, path, among)
    return None if found is None else (found.dialect, found.segments)


def find(method: str, path: str, among: tuple[Dialect, ...] | None = None) -> Match | None:
    """The dialect of a request with the route that led to it; None where no route fits.

    Args:
        method: of HTTP.
        path: as it came over the wire: neither decoded nor normalised, without the query.
        among: the dialects that are looked through; all by default.

    Raises:
        RouteError: the path has empty, ``.`` or ``..`` segments, backslashes, parameters, or characters escaped that
            need not be; or it fits no route as it stands, but would if case, escapes, or dots, spaces and slashes at
            the end of segments did not count; or the method is not in capitals.
    """
    table = _default() if among is None else _table(among)
    found = table.exact.get((method, path))
    if found is not None:
        return Match(found[0], {}, found[1])
    if not path.isascii() or not path.startswith("/") or _ODD.search(path) is not None or _DOTS & set(path.split("/")):
        raise RouteError("the path is spelt so that servers may read it in different ways")
    if method != method.upper() or not method.isascii():
        raise RouteError("the method is not in capitals")
    for verb, pattern, dialect, route in table.patterns:
        fits = pattern.fullmatch(path) if verb == method else None
        if fits is not None:
            return Match(dialect, {name: _segment(raw) for name, raw in fits.groupdict().items()}, route)
    if "%2F" in path.upper() or table.loose.fullmatch(f"{method} {_loosened(path)}") is not None:
        raise RouteError("the path fits no route as it is spelt, but may where servers are less strict")
    return None


def plain(among: tuple[Dialect, ...] | None = None) -> Mapping[tuple[str, str], Match]:
    """What `find` says of each route that has no named segments, by its method and path."""
    table = _default() if among is None else _table(among)
    return {way: Match(dialect, {}, route) for way, (dialect, route) in table.exact.items()}


def framing(dialect: Dialect, route: Route, query: str = "") -> Framing | None:
    """How the events of an answer's stream are told apart; None where the dialect has no streams.

    It is what was asked for. What came, the response's ``Content-Type`` says: ``text/event-stream`` or
    ``application/json``; if they differ, the answer is not the one that was asked for.

    Args:
        dialect: of the request.
        route: that it came by.
        query: of its URL, as it came over the wire.

    Raises:
        RouteError: the query asks for two forms of the answer, or for one that is no JSON.
    """
    if not route.array:
        return dialect.framing
    forms = {form for key, form in parse_qsl(query, keep_blank_values=True) if key.lstrip("$").casefold() == "alt"}
    if forms == {"sse"}:
        return Framing.SSE
    if forms - {"json"}:
        raise RouteError("the query asks for an answer in a form that is not read")
    return Framing.ARRAY


@lru_cache(maxsize=1)
def _default() -> _Table:
    return _table(_ALL)


@lru_cache(maxsize=8)
def _table(among: tuple[Dialect, ...]) -> _Table:
    routes = [(dialect, route) for dialect in among for route in dialect.routes]
    plain = [(dialect, route) for dialect, route in routes if "{" not in route.path]
    named = [(dialect, route) for dialect, route in routes if "{" in route.path]
    loose = [f"{route.method} {_pattern(_loosened(route.path), named=False)}" for _, route in routes]
    return _Table(
        exact={(route.method, route.path): (dialect, route) for dialect, route in reversed(plain)},
        patterns=[(route.method, re.compile(_pattern(route.path)), dialect, route) for dialect, route in named],
        loose=re.compile("|".join(loose)) if loose else re.compile(r"(?!)"),
    )


def _pattern(path: str, *, named: bool = True) -> str:
    """A route's path as a regular expression. A name stands for one segment, or a part of one, and is not empty."""
    texts = _NAME.split(path)
    return "".join(
        (f"(?P<{text}>[^/]+)" if named else "[^/]+") if index % 2 else re.escape(text)
        for index, text in enumerate(texts)
    )


def _loosened(path: str) -> str:
    """What the most tolerant server could take the path for."""
    segments = [segment.strip(" .") for segment in unquote(path).casefold().split("/")]
    return "/".join(segments).rstrip("/")


def _segment(raw: str) -> str:
    """A named segment, decoded.

    A slash may stand in it only where Amazon's resource names have theirs; their clients escape it.
    """
    problem = "a segment of the path is spelt so that servers may read it in different ways"
    try:
        text = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable():
        raise RouteError(problem)
    if "/" in text and not (text.startswith("arn:") and all(part.strip(" .") for part in text.split("/"))):
        raise RouteError(problem)
    return text
