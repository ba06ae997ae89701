"""What both ways to a server have in common."""

from __future__ import annotations

import os

from llmguard.inference.remote_address import Address

#: Seconds for what is asked at the start, all questions together.
START_S = 10.0
#: Bytes of the largest answer that is read.
LARGEST = 1 << 28

_TOKEN = "LLMGUARD_REMOTE_TOKEN"  # noqa: S105 - the name of a variable


def token(address: Address) -> dict[str, str]:
    """The header that says who we are, if the environment has a token; sent by TLS alone.

    Args:
        address: where to.
    """
    value = os.environ.get(_TOKEN, "")
    return {"Authorization": f"Bearer {value}"} if value and address.secure else {}


def clipped(words: str) -> str:
    """A server's own words, from before it was sent anything of a text: one line, not long.

    Args:
        words: as the server says them.
    """
    return " ".join(words.split())[:200]
