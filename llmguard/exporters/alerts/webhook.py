"""Alerts to any receiver, signed by the Standard Webhooks scheme.

Three headers: ``webhook-id``, which is the same on each try, ``webhook-timestamp``, and ``webhook-signature`` with an
HMAC-SHA256 over ``{id}.{timestamp}.{body}`` for each secret, so that one can be changed without a gap.

References:
    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Any

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.http import Sender, as_json
from llmguard.exporters.alerts.notice import Group, Notice
from llmguard.exporters.alerts.settings import HTTP_KEYS, Settings
from llmguard.exporters.alerts.sink import Verdict
from llmguard.exporters.alerts.wording import name, rows, severity, status, when

KEYS = HTTP_KEYS | {"url", "secret", "authorization"}
_PREFIX = "whsec_"
# One alert of the largest kind fits, whatever its texts are.
_LIMIT = 384 * 1024


class WebhookSink:
    """Posts alerts as JSON, signed.

    Args:
        name: of the sink.
        sender: posts to the receiver.
        secrets: each ``whsec_`` and 24 to 64 bytes in base64; the first is the newest.
        authorization: a header of that name for receivers that want one.

    Raises:
        ConfigurationError: a secret is none.
    """

    most = 50
    pause_s = 0.0

    def __init__(self, name: str, sender: Sender, secrets: Sequence[str], authorization: str = "") -> None:
        self.name = name
        self._sender = sender
        self._keys = [key_of(secret, f"sink {name!r}: 'secret'") for secret in secrets]
        self._headers = {"Authorization": authorization} if authorization else {}

    def send(self, message: str, group: Group, now: float) -> Verdict:
        """Post a group once; see `llmguard.exporters.alerts.sink.Sink`."""
        body = payload(group)
        sent = {
            "webhook-id": header_id(message),
            "webhook-timestamp": str(int(now)),
            "webhook-signature": " ".join(signature(key, header_id(message), int(now), body) for key in self._keys),
        }
        return self._sender.post(body, {**self._headers, **sent}).verdict(now)

    def close(self) -> None:
        """Nothing is open between messages."""


def made(settings: Settings) -> WebhookSink:
    """The sink that these settings describe."""
    return WebhookSink(
        settings.sink,
        settings.sender(settings.url("url")),
        settings.secrets("secret"),
        settings.secret("authorization", ""),
    )


def payload(group: Group) -> bytes:
    """The body: the same bytes for the same group, on each try.

    Args:
        group: what to tell. ``left_out`` says how many of its alerts a body of 384 KB has no room for.
    """
    alerts = [_alert(notice) for notice in group.notices]
    body = _body(group, alerts)
    while len(body) > _LIMIT:
        alerts = alerts[: len(alerts) * 3 // 4]
        body = _body(group, alerts)
    return body


def _body(group: Group, alerts: Sequence[dict[str, Any]]) -> bytes:
    happened = max(max(notice.started, notice.ended) for notice in group.notices)
    whole = {
        "type": f"alert.{status(group)}",
        "timestamp": when(happened),
        "data": {
            "status": status(group),
            "severity": severity(group),
            "group": rows(Notice(group.labels, {}, 0.0))["labels"],
            "alerts": alerts,
            "left_out": len(group.notices) - len(alerts),
        },
    }
    return as_json(whole)


def _alert(notice: Notice) -> dict[str, Any]:
    return {
        "alertname": name(notice),
        "fingerprint": notice.fingerprint,
        "status": status(notice),
        "severity": severity(notice),
        "started_at": when(notice.started),
        "ended_at": when(notice.ended) if notice.resolved else None,
        **rows(notice),
    }


def header_id(message: str) -> str:
    """The message's id as a header may hold it; the full stop parts the signed text, so none may be in it."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,200}", message):
        return message
    return "msg_" + hashlib.sha256(message.encode("utf-8", "replace")).hexdigest()[:32]


def signature(key: bytes, message: str, timestamp: int, body: bytes) -> str:
    """``v1,`` and the base64 of the HMAC.

    Args:
        key: the secret, decoded.
        message: the id as the header has it.
        timestamp: seconds since 1970, as the header has it.
        body: exactly what is sent.
    """
    signed = hmac.digest(key, f"{message}.{timestamp}.".encode() + body, "sha256")
    return "v1," + base64.b64encode(signed).decode("ascii")


def key_of(secret: str, what: str) -> bytes:
    """A secret's bytes.

    Args:
        secret: ``whsec_`` and base64, padded or not.
        what: how errors call it.

    Raises:
        ConfigurationError: it is not ``whsec_`` and 24 to 64 bytes in base64.
    """
    written = secret.removeprefix(_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(written + "=" * (-len(written) % 4), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(_PREFIX) or not 24 <= len(key) <= 64:
        raise ConfigurationError(
            f"{what} must be whsec_ and 24 to 64 bytes in base64; make one with: "
            'echo "whsec_$(openssl rand -base64 32)"'
        )
    return key
