"""Where a model's server is: ``grpc://host:8001``, ``https://host/model-name``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmguard.errors import ConfigurationError

_HOST = r"[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]"
_MODEL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
#: An address as a regular expression that JSON Schema knows too. A name and password are no part of one.
PATTERN = rf"(?:grpcs?|https?)://(?:{_HOST})(?::\d{{1,5}})?(?:/{_MODEL})?"
_PARTS = re.compile(rf"(grpcs?|https?)://({_HOST})(?::(\d{{1,5}}))?(?:/({_MODEL}))?")

# 8001 is where servers of the protocol listen for gRPC; no port is registered for it.
_PORTS = {"grpc": 8001, "grpcs": 8001, "http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """A server, and maybe the name of a model there.

    Attributes:
        scheme: ``grpc``, ``grpcs``, ``http`` or ``https``; those with an s by TLS.
        host: a name, an IPv4 address, or an IPv6 address in brackets.
        port: 8001 for gRPC, 80 and 443 for HTTP, if none is given.
        model: what the server calls the model, or "".
    """

    scheme: str
    host: str
    port: int
    model: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        Args:
            text: as a policy says it.

        Raises:
            ConfigurationError: it is none.
        """
        match = _PARTS.fullmatch(text)
        port = int(match[3] or _PORTS[match[1]]) if match else 0
        if match is None or not 0 < port < 1 << 16:
            raise ConfigurationError(
                "the address of a model's server is grpc://host:8001, grpcs://host:8001, http://host:8000 or "
                "https://host, with /model-name behind it if the server has another name for the model; "
                "a port is from 1 to 65535"
            )
        return cls(match[1], match[2], port, match[4] or "")

    @property
    def secure(self) -> bool:
        """Whether it is spoken to by TLS."""
        return self.scheme in ("https", "grpcs")

    @property
    def authority(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{'/' if self.model else ''}{self.model}"


def is_address(device: str) -> bool:
    """Whether a device is a server and not of this machine.

    Args:
        device: as a policy says it.
    """
    return "://" in device
