"""Messages to Slack: within its limits, and without a command that a label slipped in."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notices import NOW, TRACE, group, hostile_groups, large, notice
from receivers import Receiver, status
from schemas import check, texts

from llmguard.exporters.alerts.http import Sender
from llmguard.exporters.alerts.notice import Group
from llmguard.exporters.alerts.reach import Reach
from llmguard.exporters.alerts.sink import DELIVERED, GONE, REFUSED, RETRY, Sink
from llmguard.exporters.alerts.slack import SlackSink, escaped, payload
from llmguard.exporters.alerts.wording import units


def test_what_it_tells() -> None:
    told = payload(group())
    check("slack", told)
    header, section = told["blocks"]
    assert header["text"]["text"] == "[FIRING] Blocks (critical)"
    lines = section["text"]["text"].splitlines()
    assert lines[0] == "*[FIRING] more than 5 % of inputs are blocked*"
    assert {"policy: house 7", "model: m-1", "count: 12", f"trace_id: {TRACE}"} <= set(lines)
    assert lines[-1] == "<https://runbooks.example.com/blocks?a=1&amp;b=2|Runbook>"
    assert told["text"].startswith("[FIRING] Blocks (critical): [FIRING] more than 5 %")


@pytest.mark.parametrize(
    ("code", "body", "outcome"),
    [
        *((200, b"ok", DELIVERED), (400, b"invalid_payload", REFUSED), (404, b"no_service", RETRY)),
        *((410, b"channel_is_archived", GONE), (429, b"rate_limited", RETRY), (500, b"rollup_error", RETRY)),
    ],
)
def test_what_slack_answers(code: int, body: bytes, outcome: str) -> None:
    with Receiver(status(code, body)) as receiver:
        sink = SlackSink("ops", Sender(receiver.url + "/services/T/B/x", Reach(["127.0.0.1"])))
        assert isinstance(sink, Sink)
        assert sink.send("m", group(), NOW).outcome == outcome
    check("slack", receiver.seen[0].body)
    assert sink.pause_s == 1.0


def test_more_than_a_message_holds_is_counted() -> None:
    told = payload(large(10))
    check("slack", told)
    shown = [block for block in told["blocks"] if block["type"] == "section"]
    note = told["blocks"][-1]["elements"][0]["text"]
    assert note == f"{10 - len(shown)} more alerts are left out of this message."
    assert all(re.search(r"\(\d+ more left out\)", block["text"]["text"]) for block in shown)
    assert sum(units(text) for text in texts(told["blocks"])) < 13_000


@settings(max_examples=60)
@given(hostile_groups(12))
def test_no_label_becomes_a_command(hostile: Group) -> None:
    told = payload(hostile)
    check("slack", told)
    assert sum(units(text) for text in texts(told["blocks"])) < 13_000
    for text in texts(told):
        for command in re.findall(r"<[^>]*>?", text):
            assert re.fullmatch(r"<https?://[^<>|]+\|Runbook>", command, re.IGNORECASE)
    json.dumps(told).encode("ascii")


@given(st.text("a&<> \U0001f600", max_size=400), st.integers(10, 200))
def test_an_escaped_text_fits_and_holds_no_half_entity(text: str, most: int) -> None:
    found = escaped(text, most)
    assert units(found) <= most
    assert re.fullmatch(r"(?:[^&<>]|&amp;|&lt;|&gt;)*", found)


def test_a_runbook_that_is_too_long_once_escaped_is_left_out() -> None:
    check("slack", payload(group(notice(runbook_url="https://a.b/?" + "&" * 900))))
