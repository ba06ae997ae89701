"""KServe v2 as mlserver serves it: Triton's clients, wrapped, and plain HTTP through the proxy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from llmguard import Blocked, Guard

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

TOLD = "mail ada@example.com"
SAID = "I am <EMAIL_ADDRESS_2>. You said: mail ada@example.com"  # what was told comes back; what was not is cleared
CLEARED = len("mail <EMAIL_ADDRESS_1>")  # what the model says that it counted


@pytest.fixture(scope="module")
def ports(free_port: Callable[[], int]) -> dict[str, int]:
    return {name: free_port() for name in ("http", "grpc", "metrics")}


@pytest.fixture(scope="module")
def url(
    python_of: Callable[[str], str], running: Any, ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlserver")
    settings = {f"{name}_port": port for name, port in ports.items()}
    # Its documentation wants both of them off for streams.
    settings |= {"host": "127.0.0.1", "parallel_workers": 0, "gzip_enabled": False}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text('{"name": "echo", "implementation": "mlserver_echo.Echo"}')
    command = [str(Path(python_of("mlserver")).with_name("mlserver")), "start", str(folder)]
    own = {"PYTHONPATH": str(Path(__file__).parent)}
    with running(command, ports["http"], "/v2/models/echo/ready", **own) as found:
        yield found


@pytest.fixture(scope="module")
def client(url: str, proxied: Any) -> Iterator[httpx.Client]:
    with proxied(url) as at, httpx.Client(base_url=at, timeout=60) as made:
        yield made


def asked(module: Any, *texts: str, **how: Any) -> Any:
    tensor = module.InferInput("prompt", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=np.object_), **how)
    return tensor


def body(*texts: str) -> dict[str, Any]:
    return {"inputs": [{"name": "prompt", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}]}


def test_the_http_client_of_triton_is_guarded(url: str, guard: Guard) -> None:
    import tritonclient.http as module

    with guard.wrap(module.InferenceServerClient(url.removeprefix("http://"))) as own:
        result = own.infer("echo", [asked(module, TOLD, binary_data=False)])
        assert result.as_numpy("text").flatten().tolist() == [SAID]
        assert result.as_numpy("size").flatten().tolist() == [CLEARED]
        with pytest.raises(Blocked):
            own.infer("echo", [asked(module, "the heron", binary_data=False)])


def test_tensors_behind_the_json_are_refused_by_the_server_itself(url: str, guard: Guard) -> None:
    import tritonclient.http as module

    with module.InferenceServerClient(url.removeprefix("http://")) as bare, guard.wrap(bare) as own:
        for client in (bare, own):
            with pytest.raises(module.InferenceServerException, match="422"):
                client.infer("echo", [asked(module, "fine")])


def test_the_grpc_client_of_triton_is_guarded(url: str, ports: dict[str, int], guard: Guard) -> None:
    import tritonclient.grpc as module

    with guard.wrap(module.InferenceServerClient(f"127.0.0.1:{ports['grpc']}")) as own:
        result = own.infer("echo", [asked(module, TOLD)])
        assert result.as_numpy("text").flatten().tolist() == [SAID.encode()]
        assert result.as_numpy("size").flatten().tolist() == [CLEARED]
        with pytest.raises(Blocked):
            own.infer("echo", [asked(module, "the heron")])


@pytest.mark.parametrize("route", ["infer", "generate"])  # two names of one thing here
def test_the_proxy_guards_tensors(client: httpx.Client, route: str) -> None:
    got = client.post(f"/v2/models/echo/{route}", json=body(TOLD, "fine"))
    assert got.status_code == 200, got.text
    text, size = got.json()["outputs"]
    assert text["data"] == [SAID, SAID.replace(TOLD, "fine")]
    assert (text["name"], text["datatype"], size["data"]) == ("text", "BYTES", [CLEARED, 4])
    refused = client.post(f"/v2/models/echo/{route}", json=body("the heron"))
    assert "heron" not in refused.text
    assert "You said" not in refused.text


@pytest.mark.parametrize("route", ["infer_stream", "generate_stream"])
def test_the_proxy_guards_streams(client: httpx.Client, route: str) -> None:
    def events(text: str) -> list[Any]:
        got = client.post(f"/v2/models/echo/{route}", json=body(text))
        return [json.loads(line.removeprefix("data: ")) for line in got.text.splitlines() if line]

    outputs = [output for event in events(TOLD) for output in event["outputs"]]
    assert "".join([output["data"][0] for output in outputs]) == SAID
    assert {(output["name"], output["datatype"]) for output in outputs} == {("text", "BYTES")}
    assert len(outputs) > 5
    assert "You" not in str(events("the heron"))


def test_the_servers_other_routes_are_passed_on_or_refused(client: httpx.Client) -> None:
    assert client.get("/v2").json()["name"] == "mlserver"
    assert client.get("/v2/models/echo").json()["name"] == "echo"
    assert client.get("/v2/models/echo/ready").status_code == 200
    assert client.post("/v2/repository/models/echo/unload").status_code == 404
    assert client.get("/v2/models/echo/ready").status_code == 200
