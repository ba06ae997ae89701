"""Triton itself, on a CPU: its four clients, wrapped, and HTTP through the proxy."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from asgi_calls import served

from llmguard import Blocked, Guard
from llmguard.exporters.prometheus import Scrape
from llmguard.exporters.prometheus_text import TEXT
from llmguard.integrations.proxy import Proxy
from llmguard.integrations.upstream import Upstream

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

TOLD = "mail ada@example.com"
SAID = "I am <EMAIL_ADDRESS_2>. You said: mail ada@example.com"  # what was told comes back; what was not is cleared
CLEARED = len("mail <EMAIL_ADDRESS_1>")  # what the model says that it counted
KINDS = ["http", "grpc"]


@pytest.fixture(scope="module")
def ports(free_port: Callable[[], int]) -> dict[str, int]:
    return {name: free_port() for name in ("http", "grpc", "metrics")}


@pytest.fixture(scope="module")
def url(python_of: Callable[[str], str], running: Any, ports: dict[str, int]) -> Iterator[str]:
    command = [python_of("triton"), str(Path(__file__).with_name("triton_server.py")), *map(str, ports.values())]
    with running(command, ports["http"], "/v2/models/pieces/ready") as found:  # it is the last one that is loaded
        yield found


@pytest.fixture(scope="module")
def client(url: str, proxied: Any) -> Iterator[httpx.Client]:
    with proxied(url) as at, httpx.Client(base_url=at, timeout=60) as made:
        yield made


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, url: str, ports: dict[str, int]) -> tuple[Any, Any, str]:
    """A client's module, that of its asynchronous sibling, and the server's address."""
    import tritonclient.grpc.aio
    import tritonclient.http.aio

    module = getattr(tritonclient, request.param)
    return module, module.aio, f"127.0.0.1:{ports[request.param]}"


def asked(module: Any, *texts: str, **how: Any) -> Any:
    tensor = module.InferInput("prompt", [1, len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array([[text.encode() for text in texts]], dtype=np.object_), **how)
    return tensor


def read(result: Any) -> tuple[list[bytes], list[float]]:
    return result.as_numpy("text").flatten().tolist(), result.as_numpy("size").flatten().tolist()


def test_its_clients_are_guarded(kind: tuple[Any, Any, str], guard: Guard) -> None:
    module, _, address = kind
    with guard.wrap(module.InferenceServerClient(address)) as own:
        assert own.is_model_ready("echo")
        assert read(own.infer("echo", [asked(module, TOLD)])) == ([SAID.encode()], [CLEARED])
        with pytest.raises(Blocked):
            own.infer("echo", [asked(module, "the heron")])


async def test_its_asynchronous_clients_are_guarded(kind: tuple[Any, Any, str], guard: Guard) -> None:
    module, aio, address = kind
    own = guard.wrap(aio.InferenceServerClient(address))
    assert read(await own.infer("echo", [asked(module, TOLD)])) == ([SAID.encode()], [CLEARED])
    with pytest.raises(Blocked):
        await own.infer("echo", [asked(module, "the heron")])
    await own.close()


LONG = "naïve 😀, mail ada@example.com or the größte"  # pieces of three bytes cut its letters
LONG_SAID = f"I am <EMAIL_ADDRESS_2>. You said: {LONG}"
REQUESTS = [("pieces", "a", LONG), ("echo", "", TOLD), ("pieces", "", TOLD), ("flaky", "f", "x"), ("none", "n", "x")]


class Heard:
    """What a callback got, by the ids of requests; errors have none."""

    def __init__(self) -> None:
        self.results: dict[str, list[Any]] = {}
        self.errors: list[Exception] = []

    def __call__(self, result: Any, error: Any) -> None:
        if error is None:
            self.results.setdefault(result.get_response().id, []).append(result)
        else:
            self.errors.append(error)

    def text(self, id: str, model: str = "") -> str:  # noqa: A002 - the protocol's word
        own = [one for one in self.results.get(id, ()) if one.get_response().model_name == (model or "pieces")]
        found = [one.as_numpy("text") for one in own]
        return b"".join([text for texts in found if texts is not None for text in texts.flatten()]).decode()


def told(heard: Heard) -> None:
    """Look at the answers to `REQUESTS`."""
    assert heard.text("a") == LONG_SAID
    assert heard.text("", "echo") == SAID
    assert heard.text("") == SAID
    assert len(heard.results["a"]) > 10
    assert "eva" not in str([one.get_response() for own in heard.results.values() for one in own])
    assert len(heard.errors) == 2
    assert ["half way" in str(error) for error in heard.errors].count(True) == 1
    assert heard.text("f", "flaky") == "I am "  # what was held back stays back


def test_its_streams_are_guarded(url: str, ports: dict[str, int], guard: Guard) -> None:
    import tritonclient.grpc as module

    with guard.wrap(module.InferenceServerClient(f"127.0.0.1:{ports['grpc']}")) as own:
        heard = Heard()
        own.start_stream(heard)
        for model, id_, text in REQUESTS:
            own.async_stream_infer(model, [asked(module, text)], request_id=id_)
        with pytest.raises(Blocked):
            own.async_stream_infer("pieces", [asked(module, "the heron")])
        own.stop_stream()
        told(heard)
        assert not [one for one in heard.results["a"] if not one.get_response().outputs]
        heard = Heard()
        own.start_stream(heard)
        own.async_stream_infer("pieces", [asked(module, TOLD)], request_id="e", enable_empty_final_response=True)
        own.stop_stream()
        *_, last = [one.get_response() for one in heard.results["e"]]
        assert (heard.text("e"), list(last.outputs)) == (SAID, [])
        assert last.parameters["triton_final_response"].bool_param


async def test_its_asynchronous_streams_are_guarded(url: str, ports: dict[str, int], guard: Guard) -> None:
    import tritonclient.grpc.aio as aio

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for model, id_, text in [*REQUESTS, ("pieces", "", "the heron")]:
            yield {"model_name": model, "inputs": [asked(aio, text)], "request_id": id_}

    own, heard = guard.wrap(aio.InferenceServerClient(f"127.0.0.1:{ports['grpc']}")), Heard()
    async for result, error in own.stream_infer(requests()):
        heard(result, error)
    (blocked,) = [error for error in heard.errors if isinstance(error, Blocked)]
    heard.errors.remove(blocked)
    told(heard)
    await own.close()


def test_a_stream_that_it_blocks_is_asked_for_again(url: str, ports: dict[str, int]) -> None:
    import tritonclient.grpc as module

    rules = [{"detector": "keywords", "stage": "output", "action": "block"}]
    policy = {"name": "p", "rules": rules, "detectors": {"keywords": {"deny": ["heron"]}}}
    address = f"127.0.0.1:{ports['grpc']}"
    with Guard({**policy, "on_block": {"retry": 1}}) as guard, guard.wrap(module.InferenceServerClient(address)) as own:
        heard = Heard()
        own.start_stream(heard)
        own.async_stream_infer("pieces", [asked(module, "the heron")])
        own.async_stream_infer("pieces", [asked(module, "fine")], request_id="x")
        own.stop_stream()
        assert heard.text("x") == "I am eva@example.com. You said: fine"
        assert [type(error) for error in heard.errors] == [Blocked]
        assert "You said: the heron" not in heard.text("")


def in_json(module: Any, text: str) -> dict[str, Any]:
    outputs = [module.InferRequestedOutput(name, binary_data=False) for name in ("text", "size")]
    return {"inputs": [asked(module, text, binary_data=False)], "outputs": outputs}


def test_texts_in_json_and_answers_that_come_later_are_guarded(url: str, guard: Guard) -> None:
    import tritonclient.http as module

    with guard.wrap(module.InferenceServerClient(url.removeprefix("http://"))) as own:
        assert read(own.infer("echo", **in_json(module, TOLD))) == ([SAID], [CLEARED])
        assert read(own.async_infer("echo", [asked(module, TOLD)]).get_result()) == ([SAID.encode()], [CLEARED])


def test_the_proxy_guards_its_http_client_in_json(client: httpx.Client) -> None:
    import tritonclient.http as module

    with module.InferenceServerClient(client.base_url.netloc.decode()) as bare:
        assert read(bare.infer("echo", **in_json(module, TOLD))) == ([SAID], [CLEARED])
        assert bare.get_model_metadata("echo")["platform"] == "python"
        with pytest.raises(module.InferenceServerException) as refused:
            bare.infer("echo", **in_json(module, "the heron"))
        assert "heron" not in str(refused.value)


def test_the_proxy_guards_texts_behind_the_json(client: httpx.Client) -> None:
    import tritonclient.http as module

    with module.InferenceServerClient(client.base_url.netloc.decode()) as bare:
        assert read(bare.infer("echo", [asked(module, TOLD)])) == ([SAID.encode()], [CLEARED])
        told = asked(module, TOLD, binary_data=False)
        assert read(bare.infer("echo", [told])) == ([SAID.encode()], [CLEARED])  # the answer alone stands there
        with pytest.raises(module.InferenceServerException) as refused:
            bare.infer("echo", [asked(module, "the heron")])
        assert "heron" not in str(refused.value)


def test_the_proxy_guards_generate(client: httpx.Client) -> None:
    got = client.post("/v2/models/echo/generate", json={"prompt": TOLD})
    assert got.status_code == 200, got.text
    assert (got.json()["text"], got.json()["size"]) == (SAID, CLEARED)
    refused = client.post("/v2/models/echo/generate", json={"prompt": "the heron"})
    assert "You said" not in refused.text


def test_the_proxy_guards_streams(client: httpx.Client) -> None:
    def events(text: str) -> list[Any]:
        got = client.post("/v2/models/pieces/generate_stream", json={"prompt": text})
        return [json.loads(line.removeprefix("data: ")) for line in got.text.splitlines() if line]

    said = events(TOLD)
    assert "".join([event["text"] for event in said]) == SAID
    assert len(said) > 5
    assert {event["model_name"] for event in said} == {"pieces"}
    assert "You" not in str(events("the heron"))


def test_its_figures_are_passed_on(url: str, ports: dict[str, int], guard: Guard) -> None:
    app = Proxy(Upstream(f"http://127.0.0.1:{ports['metrics']}"), guard, metrics=lambda _: Scrape(b"own 1\n", TEXT))
    with served(app) as (at, _):
        figures = httpx.get(f"{at}/metrics", timeout=60).text
    assert "own 1" in figures
    assert "nv_inference_request_success" in figures
