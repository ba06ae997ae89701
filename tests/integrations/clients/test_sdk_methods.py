"""Every method of the providers' clients, called behind a guard: none sends a text but over a guarded route.

The clients are walked, so a method that a new version brings is called, too. Whatever is sent arrives at a transport
that remembers it; whoever opens a socket instead is found as well.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import io
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import httpx
import pytest
from asgi_calls import Model, call
from fakes import Pieces

from llmguard import Guard
from llmguard.dialects import pointer, registry, strict
from llmguard.errors import LlmGuardError
from llmguard.integrations.asgi import GuardMiddleware
from llmguard.integrations.proxy import Proxy
from llmguard.integrations.upstream import Upstream

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")
genai = pytest.importorskip("google.genai")

# Methods that a client is about to drop warn, and so do answers of a shape that it did not ask for.
pytestmark = pytest.mark.filterwarnings("ignore")

SECRET = "abbbc"
RULES = [
    {"detector": "pieces", "stage": ["input", "output", "tool_call", "tool_result", "context"], "action": "redact"}
]
TURNS = [{"role": "user", "type": "message", "content": SECRET}]
IMAGE = {"image_bytes": "YQ==", "mime_type": "image/png"}
#: What is tried for a parameter that has to be given, until a call is made or refused.
VALUES: list[Any] = [SECRET, TURNS, TURNS[0], SECRET.encode(), [SECRET], 7]
#: Likewise for those that need more of a form, by their names.
OWN: dict[str, Sequence[Any]] = {
    "max_tokens": [7],
    "stream": [True],
    "name": ["files/m", "batches/m", "projects/p/locations/l/batchPredictionJobs/7"],
    "src": ["files/m", "gs://bucket/m", {"file_name": "files/m"}],
    "reference_images": [[{"reference_image": IMAGE, "reference_id": 7}]],
    "image": [IMAGE, SECRET.encode()],
    "upscale_factor": ["x2"],
    "source": [{"prompt": SECRET, "person_image": IMAGE}, {"prompt": SECRET, "image": IMAGE}],
    "training_dataset": [{"gcs_uri": "gs://bucket/m"}, {"examples": [{"text_input": SECRET, "output": SECRET}]}],
    "sample_response": [{"parts": [{"text": SECRET}]}],
    "example": [{}],
    "parent": ["projects/p/locations/l"],
    "operation": [genai.types.GenerateVideosOperation(name="models/m/operations/o")],
    "file": [SECRET.encode(), io.BytesIO(SECRET.encode()), "files/m"],
    "files": [[SECRET.encode()], {"m": SECRET}],
    "path": ["/workspace/m"],
    "config": [None, {"mime_type": "text/plain"}],
    "media_id": ["fileSearchStores/s/media/m"],
}
TEXTS = {"prompt", "messages", "input", "instructions", "content", "text"}
_OPTIONS = frozenset({"extra_headers", "extra_query", "extra_body", "timeout", "idempotency_key", "betas"})
#: Methods that make no call of their own, or none with what can be given here; each with what it does.
LOCAL = {
    "aclose": "closes",
    "chats.create": "makes a chat, whose messages go out as `models.generate_content`",
    "messages.thread": "makes a thread, whose messages go out as `messages.create`",
    "qs.": "builds queries",
    "timeout.": "is a number of seconds",
    "webhooks.": "reads what a provider sent",
    "files.prepare": "reads files; what it makes of them goes out as `files.upload`",
    "artifacts.for_result": "wants an answer of an agent, whose call is refused",
    "files.register_files": "wants credentials of Google Cloud; it sends places of files",
}


class Wire:
    """What went over the wire, and who went past it."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.past: list[str] = []

    def to(self, library: Any) -> Any:
        """A transport of ``httpx`` or ``httpx2`` that remembers what it is given."""

        def answer(request: Any) -> Any:
            request.read()
            self.sent.append(request)
            return library.Response(400, json={"error": {"message": "no", "type": "invalid_request_error"}})

        return library.MockTransport(answer)

    def connect(self, *_: Any) -> Any:
        self.past.append("a socket")
        raise OSError("no way out")


@pytest.fixture
def wire(monkeypatch: Any) -> Wire:
    made = Wire()
    monkeypatch.setattr(socket.socket, "connect", made.connect)
    monkeypatch.setattr(socket, "getaddrinfo", made.connect)
    return made


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard({"name": "p", "rules": RULES}, detectors=[Pieces()]) as made:
        yield made


def clients(name: str, wire: Wire) -> list[Any]:
    """The package's clients, which send over the wire."""
    if name == "openai":
        http = httpx.Client(transport=wire.to(httpx))
        return [openai.OpenAI(api_key="k", admin_api_key="k", webhook_secret="k", max_retries=0, http_client=http)]
    if name == "anthropic":
        library = importlib.import_module(anthropic.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
        http = library.Client(transport=wire.to(library))
        return [anthropic.Anthropic(api_key="k", max_retries=0, http_client=http)]
    sends = {"client_args": {"transport": wire.to(httpx)}, "async_client_args": {"transport": wire.to(httpx)}}
    return [genai.Client(api_key="k", vertexai=vertex, http_options=sends) for vertex in (False, True)]


def methods(service: Any, package: str, path: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public methods of a client's services, and of the services in them."""
    for name in sorted(dir(type(service))):
        held = inspect.getattr_static(type(service), name)
        if name.startswith(("_", "with_")):
            continue
        if isinstance(held, (cached_property, property)):
            try:
                inner = getattr(service, name)
            except (LlmGuardError, ValueError, AttributeError):
                continue  # refused as a whole
            if type(inner).__module__.startswith(package) and path.count(".") < 6:
                yield from methods(inner, package, f"{path}.{name}")
        elif inspect.isfunction(held) and path:
            yield f"{path}.{name}"[1:], getattr(service, name)


def fillings(method: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Arguments for all parameters that have to be given, and for those that hold a text, in several ways."""
    given = {
        name: parameter
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and name not in _OPTIONS
    }
    needed = {name for name, parameter in given.items() if parameter.default is inspect.Parameter.empty}
    asked = {"input", "messages", "model"}
    for names in [needed | more & given.keys() for more in (set(), asked, {*TEXTS, "stream"}, {*given})]:
        for at, value in enumerate(VALUES):
            ids = {name for name in names if name.endswith(("_id", "_name", "model")) or name == "id"}
            own = {name: OWN[name][at % len(OWN[name])] for name in names & OWN.keys()}
            yield {**dict.fromkeys(sorted(names), value), **dict.fromkeys(sorted(ids), "m"), **own}


def tried(method: Callable[..., Any], wire: Wire) -> str:
    """What came of calling a method in several ways: sent, refused, or the errors of its own checks."""
    errors = {}
    for named in fillings(method):
        before = len(wire.sent)
        try:
            used(method(**named))
        except Exception as error:  # noqa: BLE001 - a client may say no in any way
            if isinstance(error, LlmGuardError) or "guarded wire format" in str(error):
                return "refused"
            errors[f"{type(error).__name__}: {error}"[:120]] = None
        if len(wire.sent) > before:
            return "sent"
    return "; ".join(errors)


def used(result: Any) -> None:
    """Whatever a call gives back, used so that it calls: awaited, entered, iterated over."""

    async def wait() -> Any:
        got = await result if inspect.isawaitable(result) else result
        return [one async for one in got] if hasattr(got, "__aiter__") else got

    if inspect.isawaitable(result) or hasattr(result, "__aiter__"):
        result = asyncio.run(wait())
    if hasattr(result, "__enter__"):
        with result as entered:
            list(entered)
    elif hasattr(result, "__next__"):
        list(result)


def of_the_guard(path: str) -> bool:
    """Whether a request to that path is read."""
    return any([registry.find(method, path) is not None for method in ("POST", "GET")])


def looked_at(method: str, target: str, body: bytes) -> list[str]:
    """The strings of a request but for those that are told as uncovered."""
    found = registry.find(method, target)
    assert found is not None
    value = strict.parse(body)
    holes = tuple([f"{hole}/" for hole in found.dialect.request(value, found.segments).uncovered])
    return [text for place, text in pointer.strings(value) if not f"{place}/".startswith(holes)]


@pytest.mark.parametrize("name", ["openai", "anthropic", "genai"])
def test_no_method_sends_a_text_but_over_a_guarded_route(name: str, wire: Wire, guard: Guard) -> None:
    package = "google" if name == "genai" else name
    outcomes: dict[str, set[str]] = {}
    for client in clients(name, wire):
        for path, method in methods(guard.wrap(client), package):
            if not path.endswith("close"):
                outcomes.setdefault(path, set()).add(tried(method, wire))
    assert len(outcomes) > 30
    assert wire.past == []
    for request in wire.sent:
        target = request.url.raw_path.decode().partition("?")[0]
        assert of_the_guard(target) or not request.content, target
        assert not request.content or SECRET not in looked_at(request.method, target, request.content), target
    assert {"sent", "refused"} <= {outcome for found in outcomes.values() for outcome in found}
    untried = {path: found for path, found in outcomes.items() if not found & {"sent", "refused"}}
    assert {path for path in untried if not any([local in path for local in LOCAL])} == set()


@pytest.mark.parametrize("name", ["openai", "anthropic", "genai"])
async def test_a_proxy_and_a_middleware_refuse_what_those_methods_send_elsewhere(name: str, wire: Wire) -> None:
    package = "google" if name == "genai" else name

    def every() -> None:
        for client in clients(name, wire):
            for path, method in methods(client, package):
                if not path.endswith("close") and "live" not in path and "realtime" not in path:
                    tried(method, wire)

    await asyncio.to_thread(every)
    elsewhere = {}
    for request in wire.sent:
        target = request.url.raw_path.decode().partition("?")[0]
        if request.content and not of_the_guard(target):
            elsewhere[request.method, target] = request.content
    assert len(elsewhere) > 10
    for (method, target), body in elsewhere.items():
        for app, model in ways():
            answer = await call(app, method, target, body)
            assert (answer.status, model.asked) == (404, []), (method, target)


def ways() -> Iterator[tuple[Any, Model]]:
    """Both ways in, each in front of a model of its own."""
    policy = {"name": "p", "rules": RULES}
    model = Model(b"{}")
    yield GuardMiddleware(model, guard=Guard(policy, detectors=[Pieces()])), model
    model = Model(b"{}")
    upstream = Upstream("http://model", transport=httpx.ASGITransport(model))
    yield Proxy(upstream, Guard(policy, detectors=[Pieces()])), model
