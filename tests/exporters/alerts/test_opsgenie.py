"""Alerts for Opsgenie: created and closed by the same alias, within its limits."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from notices import NOW, TRACE, group, hostile_notices, large, notice
from receivers import Receiver, status
from schemas import check

from llmguard.exporters.alerts.http import Sender
from llmguard.exporters.alerts.notice import Notice
from llmguard.exporters.alerts.opsgenie import OpsgenieSink, payload
from llmguard.exporters.alerts.reach import Reach
from llmguard.exporters.alerts.sink import DELIVERED, REFUSED, RETRY, Sink
from llmguard.exporters.alerts.wording import units


def sink(receiver: Receiver) -> OpsgenieSink:
    return OpsgenieSink("genie", Sender(receiver.url + "/v2/alerts", Reach(["127.0.0.1"])), "key-1")


def test_an_alert_is_created_and_closed_by_the_same_alias() -> None:
    with Receiver(status(202)) as receiver:
        one = sink(receiver)
        assert isinstance(one, Sink)
        for told in (notice(), notice(ended=NOW)):
            assert one.send("m", group(told), NOW).outcome == DELIVERED
    create, close = receiver.seen
    check("opsgenie", create.body)
    check("opsgenie", close.body)
    assert create.line == "POST /v2/alerts HTTP/1.1"
    alias = json.loads(create.body)["alias"]
    assert close.line == f"POST /v2/alerts/{alias}/close?identifierType=alias HTTP/1.1"
    assert create.headers["authorization"] == close.headers["authorization"] == "GenieKey key-1"


def test_what_it_tells() -> None:
    told = payload(notice())
    assert told["message"] == "Blocks: more than 5 % of inputs are blocked"
    assert told["priority"] == "P1"
    assert told["tags"] == ["llmguard", "model:m-1", "severity:critical"]
    assert told["details"]["policy"] == "house 7"
    assert f"trace_id: {TRACE}" in told["description"]
    assert "runbook: https://runbooks.example.com" in told["description"]


@pytest.mark.parametrize(
    ("code", "outcome"), [(202, DELIVERED), (422, REFUSED), (429, RETRY), (503, RETRY), (401, RETRY)]
)
def test_what_opsgenie_answers(code: int, outcome: str) -> None:
    with Receiver(status(code)) as receiver:
        assert sink(receiver).send("m", group(), NOW).outcome == outcome


def test_each_alert_is_one_of_its_own() -> None:
    with Receiver() as receiver:
        assert sink(receiver).most == 1
        with pytest.raises(ValueError, match="unpack"):
            sink(receiver).send("m", large(2), NOW)


@settings(max_examples=60)
@given(hostile_notices())
def test_any_alert_makes_a_valid_one(hostile: Notice) -> None:
    told = payload(hostile)
    check("opsgenie", told)
    assert not any("," in tag for tag in told["tags"])


def test_the_largest_alert_is_within_the_limits_and_says_what_is_left_out() -> None:
    huge = {f"k{number}": "\U0001f600" * 5000 for number in range(100)}
    told = payload(notice(labels=huge, **huge))
    check("opsgenie", told)
    assert units(told["description"]) <= 15_000
    assert told["description"].endswith("characters left out)")
    assert sum(units(key) + units(value) for key, value in told["details"].items()) <= 8000
    assert told["details"]["left out"].endswith(" more")
    assert (len(told["tags"]), told["tags"][-1]) == (20, "14 more left out")
