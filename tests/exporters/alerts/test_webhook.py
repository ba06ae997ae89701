"""Signed webhooks: the `standardwebhooks` package verifies what is sent."""

from __future__ import annotations

import base64
import json
import time

import pytest
from hypothesis import given, settings
from notices import TRACE, group, hostile_groups, large, notice
from receivers import Receiver, status
from schemas import check
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from llmguard import ConfigurationError
from llmguard.exporters.alerts.http import Sender
from llmguard.exporters.alerts.notice import Group
from llmguard.exporters.alerts.reach import Reach
from llmguard.exporters.alerts.sink import DELIVERED, GONE, RETRY, Sink
from llmguard.exporters.alerts.webhook import WebhookSink, header_id, key_of, payload


def secret(fill: bytes, size: int = 32) -> str:
    return "whsec_" + base64.b64encode(fill * size).decode()


def sink(receiver: Receiver, *secrets: str, authorization: str = "") -> WebhookSink:
    sender = Sender(receiver.url, Reach(["127.0.0.1"]), timeout_s=10.0)
    return WebhookSink("hook", sender, secrets or [secret(b"a")], authorization)


def test_what_is_sent_verifies_with_each_secret_and_no_other() -> None:
    with Receiver(status(204)) as receiver:
        one = sink(receiver, secret(b"n", 64), secret(b"o", 24))
        assert isinstance(one, Sink)
        assert one.send("msg_1", group(), time.time()).outcome == DELIVERED
    (seen,) = receiver.seen
    for known in (secret(b"n", 64), secret(b"o", 24)):
        told = Webhook(known).verify(seen.body, seen.headers)
        assert told["type"] == "alert.firing"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret(b"x")).verify(seen.body, seen.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret(b"n", 64)).verify(seen.body + b" ", seen.headers)


def test_the_id_and_the_body_stay_and_the_timestamp_moves() -> None:
    now = time.time()
    with Receiver(status(500), status(200)) as receiver:
        one = sink(receiver)
        assert one.send("msg_1", group(), now - 100.0).outcome == RETRY
        assert one.send("msg_1", group(), now).outcome == DELIVERED
    first, second = receiver.seen
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == "msg_1"
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) in (100, 101)
    for seen in receiver.seen:
        Webhook(secret(b"a")).verify(seen.body, seen.headers)


def test_a_receiver_that_wants_no_more() -> None:
    with Receiver(status(410)) as receiver:
        assert sink(receiver).send("m", group(), time.time()).outcome == GONE


def test_what_it_tells() -> None:
    told = json.loads(payload(group(notice(), notice(ended=1.0))))
    check("webhook", told)
    assert told["data"]["status"] == "firing"
    assert told["data"]["left_out"] == 0
    first, second = told["data"]["alerts"]
    assert first["labels"] == {"alertname": "Blocks", "severity": "critical", "model": "m-1"}
    assert first["annotations"]["trace_id"] == TRACE
    assert (first["ended_at"], second["ended_at"]) == (None, "1970-01-01T00:00:01.000Z")
    assert json.loads(payload(group(notice(ended=1.0))))["type"] == "alert.resolved"


def test_a_large_group_is_shortened_and_counted() -> None:
    body = payload(large(50))
    assert len(body) <= 384 * 1024
    told = json.loads(body)["data"]
    assert 0 < told["left_out"] == 50 - len(told["alerts"])


@settings(max_examples=40)
@given(hostile_groups())
def test_any_group_makes_a_valid_body(hostile: Group) -> None:
    check("webhook", payload(hostile))


def test_another_header_for_receivers_that_want_one() -> None:
    with Receiver() as receiver:
        sink(receiver, authorization="Bearer t").send("m", group(), time.time())
    assert receiver.seen[0].headers["authorization"] == "Bearer t"


@pytest.mark.parametrize("message", ["a.b", "a\r\nX: y", "", "x" * 500, "é", "\ud800"])
def test_an_id_that_no_header_holds_becomes_one_that_stays_the_same(message: str) -> None:
    assert header_id(message) == header_id(message)
    assert header_id(message).startswith("msg_")
    assert len(header_id(message)) == 36


@pytest.mark.parametrize(
    "written", ["whsec_", "canary", "whsec_canary!", secret(b"a", 23), secret(b"a", 65), secret(b"a")[6:]]
)
def test_a_secret_that_is_none_is_not_shown(written: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^it must be whsec_ and 24 to 64 bytes.*openssl") as caught:
        key_of(written, "it")
    assert "canary" not in str(caught.value)
    assert written == "whsec_" or written not in str(caught.value)


def test_a_secret_without_padding_is_the_same() -> None:
    assert key_of(secret(b"a", 25), "it") == key_of(secret(b"a", 25).rstrip("="), "it") == b"a" * 25
