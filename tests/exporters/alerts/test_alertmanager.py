"""Alerts for Alertmanager: its schema, names that it takes, and all members of a cluster."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notices import NOW, TRACE, group, hostile_groups, large, notice
from receivers import Answer, Receiver, hang, status
from schemas import check

from llmguard.exporters.alerts.alertmanager import AlertmanagerSink, named, payload
from llmguard.exporters.alerts.http import Sender
from llmguard.exporters.alerts.notice import Group
from llmguard.exporters.alerts.reach import Reach
from llmguard.exporters.alerts.sink import DELIVERED, REFUSED, RETRY, Forgetting, Sink, Verdict


def seconds(written: str) -> float:
    return datetime.fromisoformat(written).timestamp()


def test_what_it_tells() -> None:
    firing, over = payload(group(notice(), notice(ended=NOW - 10.0)), NOW, 600.0, "https://guard.example/")
    check("alertmanager", [firing, over])
    assert firing["labels"] == {"alertname": "Blocks", "severity": "critical", "model": "m-1"}
    assert firing["annotations"]["trace_id"] == TRACE
    assert "trace_id" not in firing["labels"]
    assert seconds(firing["startsAt"]) == NOW - 60.0
    assert seconds(firing["endsAt"]) == NOW + 600.0
    assert seconds(over["endsAt"]) == NOW - 10.0
    assert firing["generatorURL"] == "https://guard.example/"


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ([status(200), status(200)], Verdict(DELIVERED)),
        ([status(500), status(200)], Verdict(DELIVERED)),
        ([status(400), status(503)], Verdict(RETRY, "status 503")),
        ([status(400), status(400)], Verdict(REFUSED, "status 400")),
        ([hang, status(200)], Verdict(DELIVERED)),
        ([hang, hang], Verdict(RETRY, "timeout")),
    ],
)
def test_every_member_gets_it_and_one_that_takes_it_is_enough(answers: list[bytes | Answer], verdict: Verdict) -> None:
    first, second = answers
    with Receiver(first) as one, Receiver(second) as two:
        senders = [Sender(each.url + "/api/v2/alerts", Reach(["127.0.0.1"])) for each in (one, two)]
        timeout_s = {0: 15.0, 1: 4.0, 2: 1.0}[answers.count(hang)]
        sink = AlertmanagerSink("am", senders, timeout_s=timeout_s, authorization="Bearer t")
        assert isinstance(sink, Sink)
        assert sink.send("m", group(), NOW) == verdict
    for each in (one, two):
        (seen,) = each.seen
        assert seen.line == "POST /api/v2/alerts HTTP/1.1"
        assert seen.headers["authorization"] == "Bearer t"
        check("alertmanager", seen.body)


def test_names_that_prometheus_takes() -> None:
    assert named(
        {"llmguard.stage": "1", "llmguard_stage": "2", "llmguard-stage": "3", "0a": "4", "": "5", "é": "6"}
    ) == {
        "llmguard_stage": "2",
        "llmguard_stage_2": "1",
        "llmguard_stage_3": "3",
        "_0a": "4",
        "_": "5",
        "__2": "6",
    }


@given(st.dictionaries(st.text(max_size=5) | st.sampled_from(["a.b", "a_b", "a-b", "a_b_2"]), st.text(), max_size=8))
def test_no_label_is_lost_for_its_name(given_labels: dict[str, str]) -> None:
    made = named(given_labels)
    assert sorted(made.values()) == sorted(given_labels.values())
    assert named(made) == made


@settings(max_examples=60)
@given(hostile_groups())
def test_any_group_makes_valid_alerts(hostile: Group) -> None:
    told = payload(hostile, NOW)
    check("alertmanager", told)
    for alert in told:
        assert seconds(alert["startsAt"]) <= seconds(alert["endsAt"])
    json.dumps(told).encode("ascii")


def test_it_is_told_again_before_an_alert_ends_there() -> None:
    sink = AlertmanagerSink("am", [], hold_s=400.0)
    assert isinstance(sink, Forgetting)
    assert sink.repeat_s == 100.0


def test_many_alerts_go_out_as_one_message() -> None:
    check("alertmanager", payload(large(100), NOW))
