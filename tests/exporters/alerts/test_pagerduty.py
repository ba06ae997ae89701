"""Events for PagerDuty: triggered and resolved by the same key, within its limits."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from notices import NOW, TRACE, group, hostile_notices, large, notice
from receivers import Receiver, status
from schemas import check

from llmguard.exporters.alerts.http import Sender, as_json
from llmguard.exporters.alerts.notice import Notice
from llmguard.exporters.alerts.pagerduty import PagerDutySink, payload
from llmguard.exporters.alerts.reach import Reach
from llmguard.exporters.alerts.sink import DELIVERED, REFUSED, RETRY, Sink

KEY = "k" * 32


def sink(receiver: Receiver) -> PagerDutySink:
    return PagerDutySink("pager", Sender(receiver.url + "/v2/enqueue", Reach(["127.0.0.1"])), KEY)


def test_an_alert_is_triggered_and_resolved_by_the_same_key() -> None:
    with Receiver(status(202)) as receiver:
        one = sink(receiver)
        assert isinstance(one, Sink)
        for told in (notice(), notice(ended=NOW)):
            assert one.send("m", group(told), NOW).outcome == DELIVERED
    trigger, resolve = (json.loads(seen.body) for seen in receiver.seen)
    check("pagerduty", trigger)
    check("pagerduty", resolve)
    assert (trigger["event_action"], resolve["event_action"]) == ("trigger", "resolve")
    assert trigger["dedup_key"] == resolve["dedup_key"] == notice().fingerprint
    assert trigger["payload"]["summary"] == "Blocks: more than 5 % of inputs are blocked"
    assert trigger["payload"]["severity"] == "critical"
    details = trigger["payload"]["custom_details"]
    assert details["status"] == "firing"
    assert details["labels"]["model"] == "m-1"
    assert details["annotations"] | {"policy": "house 7", "trace_id": TRACE} == details["annotations"]
    assert trigger["links"][0]["href"].startswith("https://runbooks")


@pytest.mark.parametrize(("code", "outcome"), [(202, DELIVERED), (400, REFUSED), (429, RETRY), (500, RETRY)])
def test_what_pagerduty_answers(code: int, outcome: str) -> None:
    with Receiver(status(code)) as receiver:
        assert sink(receiver).send("m", group(), NOW).outcome == outcome


def test_each_alert_is_an_event_of_its_own() -> None:
    with Receiver() as receiver:
        assert sink(receiver).most == 1
        with pytest.raises(ValueError, match="unpack"):
            sink(receiver).send("m", large(2), NOW)


@settings(max_examples=60)
@given(hostile_notices())
def test_any_alert_makes_a_valid_event(hostile: Notice) -> None:
    event = {"routing_key": KEY, **payload(hostile)}
    check("pagerduty", event)
    assert len(as_json(event)) < 512 * 1024


def test_the_largest_alert_is_within_512_kb() -> None:
    huge = {f"k{number}": "\u1e9e" * 5000 for number in range(500)}
    event = {"routing_key": KEY, **payload(notice(labels=huge, **huge), "\udcff" + "s" * 1000)}
    check("pagerduty", event)
    assert len(as_json(event)) < 512 * 1024
    assert event["payload"]["custom_details"]["labels"]["left_out"] == "471 more"
