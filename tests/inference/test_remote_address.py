"""Addresses of servers, in a policy and on their own."""

from __future__ import annotations

import pytest

from llmguard import Policy
from llmguard.errors import ConfigurationError
from llmguard.inference.remote_address import Address, is_address
from llmguard.inference.session import open_session


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("grpc://host", Address("grpc", "host", 8001)),
        ("grpc://host:8001", Address("grpc", "host", 8001)),
        ("grpcs://host:1/m", Address("grpcs", "host", 1, "m")),
        ("http://my_host-1.b", Address("http", "my_host-1.b", 80)),
        ("http://10.0.0.1:8000/guard-mini", Address("http", "10.0.0.1", 8000, "guard-mini")),
        ("https://[::1]/a.b_c", Address("https", "[::1]", 443, "a.b_c")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address == Address.parse(str(address))
    assert address.secure == (text.split(":")[0][-1] == "s")
    assert is_address(text)
    assert Policy(device=text).device == text


@pytest.mark.parametrize(
    "text",
    [
        "grpc://",
        "ftp://h:1",
        "http://h:0",
        "http://h:65536",
        "http://h:123456",
        "http://u:p@h:1",
        "http://h/a/b",
        "http://h:1/?q",
        "http://h:1/",
        "http://h\n:1",
        "HTTP://h",
        "://",
    ],
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(ConfigurationError, match="the address of a model's server is"):
        open_session({}, device=text)


@pytest.mark.parametrize("text", ["grpc://", "ftp://h:1", "http://u:p@h:1", "http://h/a/b", "http://h:1/?q"])
def test_a_policy_takes_no_others(text: str) -> None:
    with pytest.raises(ConfigurationError, match="device"):
        Policy(device=text)


def test_devices_of_this_machine_are_none() -> None:
    assert not any(is_address(text) for text in ("auto", "cpu", "cuda:0", "tensorrt"))
