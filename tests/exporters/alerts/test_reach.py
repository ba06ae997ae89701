"""That a message reaches public addresses, and others only where the operator names them."""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard import ConfigurationError
from llmguard.exporters.alerts.reach import Reach, Unreachable, public, unwrapped
from llmguard.exporters.alerts.timed import Deadline

REFUSED = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.254", "127.0.0.1", "127.255.255.254"),  # noqa: S104 - refused, not bound to
    *("169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1"),
    *("192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
    *("255.255.255.255", "100.100.100.200", "168.63.129.16", "169.254.0.23", "169.254.42.42", "fd00:42::42"),
    *("::", "::1", "::7f00:1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "100::1"),
    *("2001:db8::1", "2001::1", "2001:10::1", "3fff::1", "5f00::1"),
    # IPv4 inside IPv6: mapped, 6to4, NAT64 of both prefixes, Teredo, ISATAP.
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "2002:a00:1::1"),
    *("64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::10.0.0.1", "2001:0:7f00:1::1", "fe80::5efe:a00:1"),
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.0.1.1"]
PUBLIC += ["2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]


def addresses(reach: Reach, host: str, port: int = 443) -> list[str]:
    return [address.at[0] for address in reach.addresses(host, port, Deadline(10.0))]


def names(monkeypatch: pytest.MonkeyPatch, **known: list[str]) -> None:
    """A resolver that knows these."""

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        found = known.get(host.replace(".", "_").replace("-", "_"))
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, f"no {host}")
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in found]
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, port))
            for family, address in zip(families, found, strict=True)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_what_is_not_public_is_refused_as_an_address_and_behind_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [address for address in REFUSED if public(ipaddress.ip_address(address))] == []
    for address in REFUSED:
        with pytest.raises(Unreachable, match=r"^address refused$"):
            Reach().addresses(address, 443, Deadline(10.0))
    for address in REFUSED:
        names(monkeypatch, rebound_example=[address])
        with pytest.raises(Unreachable, match=r"^address refused$"):
            Reach().addresses("rebound.example", 443, Deadline(10.0))


def test_what_is_public_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in PUBLIC:
        names(monkeypatch, hooks_example=[address])
        assert addresses(Reach(), "hooks.example") == [address]
        assert not Reach().addresses("hooks.example", 443, Deadline(10.0))[0].named


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.1", "127.0.0.1", "0", "::1"]
)
def test_other_spellings_of_loopback_are_refused(host: str) -> None:
    with pytest.raises(Unreachable, match=r"address refused|name not found"):
        Reach().addresses(host, 443, Deadline(10.0))


def test_localhost_is_refused_by_name() -> None:
    for host in ("localhost", "LOCALHOST", "localhost."):
        with pytest.raises(Unreachable, match=r"address refused|name not found"):
            Reach().addresses(host, 443, Deadline(10.0))


def test_a_name_with_public_and_private_addresses_leads_to_the_public_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, mixed_example=["10.0.0.1", "1.1.1.1", "::1", "1.1.1.1"])
    assert addresses(Reach(), "mixed.example") == ["1.1.1.1"]


def test_a_network_or_an_address_opens_what_lies_in_it() -> None:
    assert addresses(Reach(["127.0.0.0/8"]), "127.0.0.1") == ["127.0.0.1"]
    assert addresses(Reach(["127.0.0.1"]), "127.0.0.1") == ["127.0.0.1"]
    assert addresses(Reach(["::1"]), "::1") == ["::1"]
    assert addresses(Reach(["10.0.0.0/8"]), "::ffff:10.1.2.3") == ["::ffff:10.1.2.3"]
    for reach in (Reach(["127.0.0.2"]), Reach(["10.0.0.0/8"]), Reach(["fc00::/7"])):
        with pytest.raises(Unreachable):
            reach.addresses("127.0.0.1", 443, Deadline(10.0))


def test_a_name_opens_its_private_addresses_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, hook_corp=["10.1.2.3"], other_corp=["10.1.2.3"], odd_corp=["169.254.7.7"], any_corp=["0.0.0.0"])  # noqa: S104 - refused, not bound to
    reach = Reach(["Hook.corp.", "odd.corp", "any.corp"])
    assert addresses(reach, "hook.corp") == addresses(reach, "HOOK.CORP.".lower().rstrip(".")) == ["10.1.2.3"]
    for host in ("other.corp", "odd.corp", "any.corp"):
        with pytest.raises(Unreachable, match="address refused"):
            reach.addresses(host, 443, Deadline(10.0))
    assert addresses(Reach(["169.254.7.0/24"]), "odd.corp") == ["169.254.7.7"]


@pytest.mark.parametrize("address", ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "fe80::a9fe:a9fe"])
def test_metadata_is_opened_by_its_very_address_alone(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, metadata_corp=[address])
    for allow in (["0.0.0.0/0", "::/0"], ["metadata.corp"]):
        with pytest.raises(Unreachable):
            Reach(allow).addresses("metadata.corp", 80, Deadline(10.0))
    assert addresses(Reach([address]), "metadata.corp", 80) == [address]


@pytest.mark.parametrize(
    "entry",
    [
        *("10.0.0.1/8", "10.0.0.0/33", "1.2.3.4.5", "::g", "2130706433", "", ".", "é.example", 7),
        *("*.corp.example", "hooks corp", "a,b", "https://hooks.corp", "hooks.corp:443", "hooks.corp\n"),
        *("::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "64:ff9b::/96"),
    ],
)
def test_an_entry_that_is_none_is_named_by_its_place(entry: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"allow\[1\]"):
        Reach(["10.0.0.0/8", entry])


def test_a_lookup_that_hangs_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        released.wait(30.0)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(TimeoutError):
        Reach().addresses("slow.example", 443, Deadline(0.05))
    released.set()


def test_a_name_that_no_resolver_takes_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreachable, match="name not found"):
        Reach().addresses("a" * 70 + ".example", 443, Deadline(10.0))
    names(monkeypatch)
    with pytest.raises(Unreachable, match="name not found") as caught:
        Reach().addresses("secret-name.example", 443, Deadline(10.0))
    assert "secret" not in repr(caught.value)


@given(st.ip_addresses(v=4))
def test_inside_ipv6_an_address_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    for prefix in (ipaddress.IPv6Address("::ffff:0:0"), ipaddress.IPv6Address("64:ff9b::")):
        inside = ipaddress.IPv6Address(int(prefix) | int(address))
        assert unwrapped(inside) == address
        assert public(inside) == public(address)
    assert not public(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80)))


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_public(address: Any) -> None:
    if unwrapped(address).is_private or unwrapped(address).is_multicast or unwrapped(address).is_reserved:
        assert not public(address)
