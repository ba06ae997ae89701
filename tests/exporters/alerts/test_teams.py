"""Adaptive Cards for Teams: within 28 KB, valid, and with plain text alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from notices import HOSTILE, NOW, TRACE, group, hostile_groups, large, notice
from receivers import Receiver, status
from schemas import check, texts

from llmguard.exporters.alerts.http import Sender
from llmguard.exporters.alerts.notice import Group
from llmguard.exporters.alerts.reach import Reach
from llmguard.exporters.alerts.sink import DELIVERED, GONE, REFUSED, RETRY, Sink
from llmguard.exporters.alerts.teams import TeamsSink, payload


def test_what_it_tells() -> None:
    told = json.loads(payload(group()))
    check("teams", told)
    card = told["attachments"][0]["content"]
    lines = ["".join(run["text"] for run in block["inlines"]) for block in card["body"]]
    assert lines[:2] == ["[FIRING] Blocks (critical)", "[FIRING] more than 5 % of inputs are blocked"]
    assert {"policy: house 7", "model: m-1", f"trace_id: {TRACE}"} <= set(lines)
    assert card["actions"][0]["url"] == "https://runbooks.example.com/blocks?a=1&b=2"
    assert card["body"][0]["inlines"][0]["color"] == "attention"
    over = json.loads(payload(group(notice(ended=NOW))))["attachments"][0]["content"]
    assert over["body"][0]["inlines"][0]["color"] == "good"


@pytest.mark.parametrize(
    ("code", "body", "outcome"),
    [
        *((202, b"", DELIVERED), (200, b"1", DELIVERED), (400, b"", REFUSED), (429, b"", RETRY), (410, b"", GONE)),
        # What old connectors say of a message that Teams did not take.
        (200, b"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 x", RETRY),
        (
            200,
            b"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 413.",
            REFUSED,
        ),
    ],
)
def test_what_teams_answers(code: int, body: bytes, outcome: str) -> None:
    with Receiver(status(code, body)) as receiver:
        sink = TeamsSink("ops", Sender(receiver.url + "/workflows/x?sig=y", Reach(["127.0.0.1"])))
        assert isinstance(sink, Sink)
        assert sink.send("m", group(), NOW).outcome == outcome
    check("teams", receiver.seen[0].body)


def test_more_than_a_card_holds_is_counted() -> None:
    body = payload(large(10))
    check("teams", body)
    assert len(body) <= 24 * 1024
    last = json.loads(body)["attachments"][0]["content"]["body"][-1]["inlines"][0]["text"]
    assert last.endswith("alerts are left out of this message.")


def test_one_alert_that_is_too_large_is_shortened() -> None:
    huge = notice(**{f"k{number}": "\u1e9e" * 1000 for number in range(60)})
    body = payload(group(huge))
    check("teams", body)
    assert len(body) <= 24 * 1024
    assert "left out" in body.decode()


@settings(max_examples=60)
@given(hostile_groups(12))
def test_any_group_makes_a_valid_card(hostile: Group) -> None:
    body = payload(hostile)
    check("teams", body)
    assert len(body) <= 24 * 1024


def test_hostile_texts_are_never_read_as_markdown() -> None:
    # A TextRun is shown as it is; neither a TextBlock nor a FactSet is.
    told = json.loads(payload(group(*(notice(labels={"tenant": text}, summary=text) for text in HOSTILE[:10]))))
    assert not {"TextBlock", "FactSet"} & set(texts(told))
