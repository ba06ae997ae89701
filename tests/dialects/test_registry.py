"""Names and routes of dialects, and the ways in which a path is no way around them."""

import doctest
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.dialects import registry
from llmguard.dialects.wire import Framing, Route
from llmguard.errors import ConfigurationError, RouteError


@dataclass(frozen=True)
class Routed:
    """A dialect as far as the registry looks at one."""

    name: str
    routes: tuple[Route, ...]


CHAT = Routed("chat", (Route("POST", "/v1/chat/completions"), Route("POST", "/")))
MODEL = Routed(
    "model",
    (
        Route("POST", "/v1beta/models/{model}:generate", stream=False),
        Route("POST", "/v1beta/models/{model}:stream", stream=True),
        Route("POST", "/model/{model}/converse"),
        Route("POST", "/v2/models/{model}/versions/{version}/infer"),
    ),
)
AMONG: Any = (CHAT, MODEL)


@pytest.mark.parametrize(
    ("path", "name", "segments"),
    [
        ("/v1/chat/completions", "chat", {}),
        ("/", "chat", {}),
        ("/v1beta/models/m-1.5:generate", "model", {"model": "m-1.5"}),
        ("/model/a.b-v1%3A0/converse", "model", {"model": "a.b-v1:0"}),
        ("/model/a.b-v1:0/converse", "model", {"model": "a.b-v1:0"}),
        ("/model/arn%3Aaws%3Abedrock%3Aeu%3A1%3Ax%2Fy/converse", "model", {"model": "arn:aws:bedrock:eu:1:x/y"}),
        ("/v2/models/m/versions/1/infer", "model", {"model": "m", "version": "1"}),
    ],
)
def test_routes_that_fit(path: str, name: str, segments: dict[str, str]) -> None:
    found = registry.match("POST", path, AMONG)
    assert found is not None
    assert (found[0].name, found[1]) == (name, segments)


def test_the_route_says_whether_it_streams() -> None:
    found = [registry.find("POST", f"/v1beta/models/m:{verb}", AMONG) for verb in ("generate", "stream")]
    assert [match and match.route.stream for match in found] == [False, True]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chat/completions"),
        ("OPTIONS", "/v1/chat/completions"),
        ("GET", "/V1/chat/completions"),
        ("POST", "/v1/chat/completions/x"),
        ("POST", "/v1/chat"),
        ("POST", "/v1/chat/completionsx"),
        ("POST", "/x/v1/chat/completions"),
        ("POST", "/v1beta/models/:generate"),
        ("POST", "/v1beta/models/a/b:generate"),
        ("POST", "/v2/models/m/versions/infer"),
        ("POST", "/files/a%3Ab"),
    ],
)
def test_other_requests_fit_no_route(method: str, path: str) -> None:
    assert registry.match(method, path, AMONG) is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "//v1/chat/completions"),
        ("POST", "/v1//chat/completions"),
        ("POST", "/v1/./chat/completions"),
        ("POST", "/x/../v1/chat/completions"),
        ("POST", "/v1/%2e%2e/v1/chat/completions"),
        ("POST", "/v1/chat%2Fcompletions"),
        ("POST", "/v1/chat%2fcompletions"),
        ("POST", "/v1/chat%252Fcompletions"),
        ("POST", "/v1/chat%5Ccompletions"),
        ("POST", "/v1\\chat\\completions"),
        ("POST", "/v1/ch%61t/completions"),
        ("POST", "/%761/chat/completions"),
        ("POST", "/V1/chat/completions"),
        ("POST", "/v1/chat/Completions"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/v1/chat/completions."),
        ("POST", "/v1/chat/completions%20"),
        ("POST", "/v1/chat/completions/%20"),
        ("POST", "/v1/chat/completions%00"),
        ("POST", "/v1/chat/completions%0d%0a"),
        ("POST", "/v1/chat/completions;a=b"),
        ("POST", "/v1/chat/completions%3Ba"),
        ("POST", "/v1/chat/completions?a=b"),
        ("POST", "/v1/chat/completions#a"),
        ("POST", "/v1/chat/completions%"),
        ("POST", "/v1/chat/completions%zz"),
        ("POST", "/v1/chat/completions "),
        ("POST", "/v1/chat/completions\n"),
        ("POST", "/v1/chat/ｃompletions"),
        ("POST", "/v1/chat/completion\u017f"),  # a long s, which folds to an s
        ("POST", "http://elsewhere/v1/chat/completions"),
        ("POST", "v1/chat/completions"),
        ("POST", "*"),
        ("POST", ""),
        ("POST", "/%20"),
        ("post", "/v1/chat/completions"),
        ("PoST", "/v1/chat/completions"),
        ("PO\u017fT", "/v1/chat/completions"),
        ("POST", "/v1beta/models/m%3Agenerate"),
        ("POST", "/v1beta/models/m:Generate"),
        ("POST", "/v1beta/Models/m:generate"),
        ("POST", "/v1beta/models/%2e%2e:generate"),
        ("POST", "/model/a%2Fb/converse"),
        ("POST", "/model/a%2F..%2Fb/converse"),
        ("POST", "/model/arn%3A%2F%20.%20%2Fb/converse"),
        ("POST", "/model/arn%3A%2F%2Fb/converse"),
        ("POST", "/model/%FF/converse"),
        ("POST", "/model/\u212a/converse"),  # the Kelvin sign, which folds to a k
        ("POST", "/model/%E2%80%AE/converse"),
        ("POST", "/model/%C2%A0/converse"),
    ],
)
def test_a_tricky_spelling_is_refused(method: str, path: str) -> None:
    with pytest.raises(RouteError):
        registry.match(method, path, AMONG)


@given(st.text(max_size=12), st.sampled_from(["/v1/chat/completions", "/model/m/converse"]), st.integers(0, 20))
def test_no_character_put_in_leads_elsewhere_in_silence(junk: str, path: str, at: int) -> None:
    spelt = path[:at] + junk + path[at:]
    try:
        found = registry.find("POST", spelt, AMONG)
    except RouteError:
        return
    if found is not None and "{" not in found.route.path:
        assert spelt in {route.path for route in CHAT.routes}


@given(st.lists(st.integers(0, 40), max_size=6))
def test_escaping_any_characters_is_refused(at: list[int]) -> None:
    path = "/v1/chat/completions"
    spelt = "".join(f"%{ord(char):02X}" if index in at and index else char for index, char in enumerate(path))
    if spelt == path:
        assert registry.match("POST", spelt, AMONG) is not None
    else:
        with pytest.raises(RouteError):
            registry.match("POST", spelt, AMONG)


def test_an_unknown_name_names_the_nearest() -> None:
    first = registry.dialects()[0].name
    assert registry.get(first).name == first
    with pytest.raises(ConfigurationError, match=f"did you mean '{first}'"):
        registry.get(f"{first}x")


def test_every_route_leads_to_its_dialect_and_no_two_share_one() -> None:
    routes = [(route.method, route.path) for dialect in registry.dialects() for route in dialect.routes]
    assert len(set(routes)) == len(routes)
    for dialect in registry.dialects():
        for route in dialect.routes:
            path = route.path.replace("{", "").replace("}", "")
            found = registry.find(route.method, path)
            assert found is not None, path
            assert (found.dialect, found.route) == (dialect, route), path


def test_names_are_unique() -> None:
    names = [dialect.name for dialect in registry.dialects()]
    assert len(set(names)) == len(names)


def test_the_table_in_the_docs_is_what_there_is() -> None:
    rows = ["| dialect | routes | stream | provider | operation |", "| --- | --- | --- | --- | --- |"]
    for dialect in registry.dialects():
        paths = [f"`{route.path}`" for route in dialect.routes]
        routes = ", ".join(paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")
        cells = (f"`{dialect.name}`", routes, dialect.framing or "none", dialect.provider, dialect.operation)
        rows.append(f"| {' | '.join(cells)} |")
    page = Path("docs/dialects.md").read_text(encoding="utf-8")
    table = page.partition("<!-- table -->\n")[2].partition("<!-- /table -->")[0]
    assert table == "\n".join(["", *rows, "", ""])


def test_the_examples_in_the_docs() -> None:
    failed, tried = doctest.testfile("../../docs/dialects.md", module_relative=True, encoding="utf-8")
    assert (failed, tried > 0) == (0, True)


GEMINI_STREAM = "/v1beta/models/m:streamGenerateContent"


@pytest.mark.parametrize(
    ("path", "query", "framing"),
    [
        (GEMINI_STREAM, "", Framing.ARRAY),
        (GEMINI_STREAM, "alt=json", Framing.ARRAY),
        (GEMINI_STREAM, "key=k&alt=sse", Framing.SSE),
        (GEMINI_STREAM, "%24alt=sse", Framing.SSE),
        (GEMINI_STREAM, "altitude=sse", Framing.ARRAY),
        ("/v1/chat/completions", "alt=json", Framing.SSE),
        ("/api/chat", "", Framing.NDJSON),
        ("/model/m/converse-stream", "", Framing.AWS),
        ("/v1/embeddings", "", None),
    ],
)
def test_how_a_stream_is_framed(path: str, query: str, framing: Framing | None) -> None:
    found = registry.find("POST", path)
    assert found is not None
    assert registry.framing(found.dialect, found.route, query) is framing


@pytest.mark.parametrize(
    "query", ["alt=proto", "alt=sse&alt=json", "alt=sse&$alt=json", "alt=", "alt=json;alt=sse", "alt=SSE"]
)
def test_a_stream_that_may_be_framed_in_two_ways_is_an_error(query: str) -> None:
    found = registry.find("POST", GEMINI_STREAM)
    assert found is not None
    with pytest.raises(RouteError):
        registry.framing(found.dialect, found.route, query)
