"""TLS to receivers of alerts: always verified."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from llmguard.errors import ConfigurationError

if TYPE_CHECKING:
    import socket

    from llmguard.exporters.alerts.timed import Deadline


def tls_context(ca_file: str = "", what: str = "") -> ssl.SSLContext:
    """TLS 1.2 or newer, the certificate and the host's name verified.

    Args:
        ca_file: certificates of authorities in PEM; the system's where it is empty.
        what: how errors call it; by its path where nothing is said.

    Raises:
        ConfigurationError: the file cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{what or f'ca_file {ca_file!r}'} cannot be read as certificates in PEM: {type(error).__name__}"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def secured(sock: socket.socket, context: ssl.SSLContext, host: str, deadline: Deadline) -> ssl.SSLSocket:
    """The socket with TLS; closed where that fails.

    Args:
        sock: connected.
        context: says whom to trust.
        host: whose certificate it must be.
        deadline: for the handshake.
    """
    try:
        sock.settimeout(deadline.left())
        # The full stop that ends a full name is in no certificate.
        return context.wrap_socket(sock, server_hostname=host.removesuffix("."))
    except BaseException:
        sock.close()
        raise
