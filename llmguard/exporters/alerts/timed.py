"""A connection of which all waits together end at one deadline, however slowly the other side trickles."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from llmguard.exporters.alerts.reach import Address

# An address that does not answer leaves time for the next one.
_CONNECT_S = 5.0
# Far more than any answer; smtplib gathers lines for as long as a server sends them.
_MOST_READ = 1024 * 1024


class Flooded(OSError):  # noqa: N818 - says what happened
    """Raised when the other side sends more than any answer has."""


class Deadline:
    """A moment that nothing waits past.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """The seconds that are left, more than 0.

        Raises:
            TimeoutError: none are.
        """
        left = self._end - time.monotonic()
        if left <= 0.0:
            raise TimeoutError
        return left


def connected(addresses: Sequence[Address], deadline: Deadline) -> socket.socket:
    """A socket that is connected to the first of these addresses that answers.

    Args:
        addresses: at least one, each checked before.
        deadline: for all of them.

    Raises:
        OSError: of the last address, where none answers.
    """
    for last, address in enumerate(addresses, 1 - len(addresses)):
        try:
            return _connected(address, deadline.left() if last == 0 else min(deadline.left(), _CONNECT_S))
        except OSError:
            if last == 0:
                raise
    raise AssertionError


def _connected(address: Address, seconds: float) -> socket.socket:
    # A machine without IPv6 may refuse the socket itself, and IPv4 is still to be tried.
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(address.at)
    except BaseException:
        sock.close()
        raise
    return sock


class Timed:
    """What ``http.client`` and ``smtplib`` use of a socket, with one deadline and a megabyte to read at most.

    Its owner closes the socket.

    Args:
        sock: connected.
        deadline: for everything that is sent and read.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        """Send all of it, or raise `TimeoutError`."""
        rest = memoryview(data)
        while rest:
            self._sock.settimeout(self._deadline.left())
            rest = rest[self._sock.send(rest) :]

    def makefile(self, mode: str = "rb") -> io.BufferedReader:
        """What the other side sends.

        Args:
            mode: ``rb``, which is all that is asked for.
        """
        return io.BufferedReader(_Reader(self._sock, self._deadline))

    def close(self) -> None:
        """Nothing: an answer is still read after ``http.client`` closed its side."""


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        self._room = _MOST_READ

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._sock.settimeout(self._deadline.left())
        got = self._sock.recv_into(buffer)
        self._room -= got
        if self._room < 0:
            raise Flooded
        return got
