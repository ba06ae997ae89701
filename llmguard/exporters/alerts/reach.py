"""Which addresses a message may go to: public ones, and others only where the operator names them.

A name is looked up once, and the connection goes to the very address that was checked, so that a name that
answers differently the second time (DNS rebinding) gains nothing.

References:
    IANA IPv4 and IPv6 Special-Purpose Address Registries; RFC 6052 (NAT64), RFC 7526 (6to4 is over).
"""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.timed import Deadline

IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_SPECIAL = [
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        # Of what is global by its first bits: Teredo and other protocols, documentation, 6to4, documentation.
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
]
# All that is handed out for the public lies here; loopback, private, link-local and multicast do not.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
# No wildcard, which would open nothing.
_is_name = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*").fullmatch
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# A name in `allow` does not open these: only the address itself, or its network, does.
_NEVER_BY_NAME = [
    ipaddress.ip_network(network)
    for network in ("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "::/128", "fe80::/10", "ff00::/8")
]
# Where clouds hand out credentials to whoever asks from inside: a network in `allow` does not open these.
_METADATA = {
    ipaddress.ip_address(address)
    for address in (
        *("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"),
        *("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd20:ce::254"),
        *("169.254.0.23", "169.254.42.42", "fd00:42::42", "fd00:c1::a9fe:a9fe", "fe80::a9fe:a9fe"),
    )
}


class Unreachable(Exception):  # noqa: N818 - says what the receiver is
    """Raised when a message may not go where its name leads; the reason holds no address."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Address(NamedTuple):
    """One address that was checked.

    Attributes:
        family: of the socket.
        at: what the socket connects to.
        named: whether `allow` names it, rather than that it is public.
    """

    family: int
    at: Any
    named: bool


class Reach:
    """Public addresses, and what the operator allows besides.

    Args:
        allow: networks (``10.0.0.0/8``), addresses, or names of hosts. A name opens the private addresses that it
            leads to, not link-local ones; the addresses of metadata services must be listed one by one.
        what: how errors call the setting.

    Raises:
        ConfigurationError: an entry is neither a network nor a name.
    """

    def __init__(self, allow: Iterable[str] = (), what: str = "allow") -> None:
        self._networks: list[_Network] = []
        self._names: set[str] = set()
        for number, entry in enumerate(allow):
            if isinstance(entry, str) and ("/" in entry or ":" in entry or entry.replace(".", "").isdigit()):
                self._networks.append(_network(entry, f"{what}[{number}]"))
            elif isinstance(entry, str) and _is_name(entry):
                self._names.add(entry.lower().rstrip("."))
            else:
                raise ConfigurationError(f"{what}[{number}] must be a network such as 10.0.0.0/8 or a host's name")

    def addresses(self, host: str, port: int, deadline: Deadline) -> list[Address]:
        """The addresses that a message to this host may go to, in the resolver's order.

        Args:
            host: a name, or an address in any spelling that the resolver takes.
            port: at that host.
            deadline: when to give the lookup up.

        Raises:
            Unreachable: there is none: the name is not known, or leads only to addresses that are refused.
            TimeoutError: the lookup takes too long.
        """
        by_name = host.lower().rstrip(".") in self._names
        found = [
            Address(family, at, named)
            for family, at in dict.fromkeys(_looked_up(host, port, deadline))
            for named in [self._named(at[0], by_name)]
            if named or public(_address(at[0]))
        ]
        if not found:
            raise Unreachable("address refused")
        return found

    def _named(self, written: str, by_name: bool) -> bool:
        address = unwrapped(_address(written))
        if address in _METADATA:
            return any(address in network and network.num_addresses == 1 for network in self._networks)
        if any(address in network for network in self._networks):
            return True
        return by_name and not any(address in network for network in _NEVER_BY_NAME)


def public(address: IP) -> bool:
    """Whether anybody on the internet has this address.

    Args:
        address: of either version; an IPv4 address inside an IPv6 one is judged as the IPv4 address.
    """
    inner = unwrapped(address)
    if inner in _METADATA or any(inner in network for network in _SPECIAL):
        return False
    return inner.version == 4 or inner in _GLOBAL_V6


def unwrapped(address: IP) -> IP:
    """The IPv4 address that an IPv6 one stands for (mapped, or NAT64), else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _address(written: str) -> IP:
    return ipaddress.ip_address(written.partition("%")[0])


def _network(entry: str, what: str) -> _Network:
    try:
        network = ipaddress.ip_network(entry)
    except ValueError:
        raise ConfigurationError(
            f"{what} is no network: write an address such as 10.0.0.7, or its first address and a length "
            "such as 10.0.0.0/8"
        ) from None
    if unwrapped(network[0]) != network[0]:
        raise ConfigurationError(
            f"{what} is an IPv4 network written as IPv6, which is never looked for: write it as IPv4"
        )
    return network


def _looked_up(host: str, port: int, deadline: Deadline) -> list[tuple[int, Any]]:
    """What the resolver says, on a thread of its own: the system's call has no timeout."""
    answer: queue.SimpleQueue[list[tuple[int, Any]] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put([(one[0], one[4]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except (OSError, ValueError) as error:
            answer.put(error)

    threading.Thread(target=ask, name="llmguard-lookup", daemon=True).start()
    try:
        found = answer.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise Unreachable("name not found")
    return found
