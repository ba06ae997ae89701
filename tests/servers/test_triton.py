"""Triton itself, on a CPU: its four clients, wrapped, and HTTP through the proxy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
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
