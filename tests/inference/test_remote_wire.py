"""Who is spoken to, and with which credentials: TLS, the token, no proxies."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="graphs are built with onnx")
pytest.importorskip("onnxruntime", reason="runs behind the servers")
pytest.importorskip("httpx", reason="speaks HTTP")
pytest.importorskip("grpc", reason="speaks gRPC")

from inference_servers import Model, grpc_server, http_server
from small_graphs import expected, feeds, write

from llmguard.errors import DeviceError, InferenceError, MissingExtraError
from llmguard.inference import remote_http
from llmguard.inference.remote import RemoteSession

Serve = Callable[..., contextlib.AbstractContextManager[str]]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(write(tmp_path / "model.onnx"))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    x509 = pytest.importorskip("cryptography.x509", reason="makes the certificate")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(*kinds))
    return paths


@pytest.mark.parametrize("serve", [http_server, grpc_server])
def test_tls_trusts_whom_the_system_trusts_and_alone_carries_the_token(
    model: Model, serve: Serve, tls: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMGUARD_REMOTE_TOKEN", "s3cret")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with serve(model, tls=tls) as address:
        with pytest.raises(DeviceError, match="no server answers"):
            RemoteSession(f"{address}/small")
        assert model.seen == {}
        monkeypatch.setenv("SSL_CERT_FILE", str(tls[0]))
        opened = RemoteSession(f"{address}/small")
        assert opened.device.startswith(("https://localhost:", "grpcs://localhost:"))
        assert {key.lower(): value for key, value in model.seen.items()}["authorization"] == "Bearer s3cret"
        np.testing.assert_allclose(opened.run(feeds())["logits"], expected(feeds()), atol=1e-5)
    with serve(model) as address:
        RemoteSession(f"{address}/small")
        assert "authorization" not in {key.lower() for key in model.seen}


def test_the_environments_proxies_are_not_used(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "grpc_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for serve in (http_server, grpc_server):
        with serve(model) as address:
            RemoteSession(f"{address}/small").run(feeds())


def test_a_redirect_is_not_followed(model: Model) -> None:
    model.mode = "redirect"
    with http_server(model) as address, pytest.raises(DeviceError, match="sends us elsewhere"):
        RemoteSession(f"{address}/small")


def test_an_answer_without_end_is_not_read(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server(model) as address:
        opened = RemoteSession(f"{address}/small")
        monkeypatch.setattr(remote_http, "LARGEST", 1000)
        opened.run(feeds(1, 3))
        with pytest.raises(InferenceError, match="was not run"):
            opened.run(feeds(20, 30))


@pytest.mark.parametrize(("package", "scheme"), [("httpx", "http"), ("grpc", "grpc")])
def test_a_missing_package_is_named(package: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"'{package}'.*llmguard\[remote\]"):
        RemoteSession(f"{scheme}://127.0.0.1:9/small")
