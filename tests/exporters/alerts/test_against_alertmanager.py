"""That conditions and inhibitions decide as those of a real Alertmanager do."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

from alertmanager_server import AlertmanagerServer, alertmanager

from llmguard.exporters.alerts.inhibition import Inhibition, Inhibitions
from llmguard.exporters.alerts.matching import Matcher, matchers

_VALUES = {"team": (None, "a", "ab", 'a"b\\c'), "model": (None, "m.1", "m-1"), "severity": ("critical", "warning")}
LABELS = [
    {"alertname": "X", **{name: value for name, value in zip(_VALUES, chosen, strict=True) if value is not None}}
    for chosen in itertools.product(*_VALUES.values())
]
COMPARED = (
    "",
    "a",
    "ab",
    "a|b",
    "a.*",
    ".+",
    ".*",
    "m.1",
    "m\\.1",
    'a"b\\c',
    "(?i)AB",
    "critical|warning",
    "[^a]*",
    "b$",
)
RULES = [
    (["severity=critical"], ["severity=warning"], ["team"]),
    (["team=a"], ["model=~m.1"], ["severity", "nowhere"]),
    (["model=~.*1", "severity!=critical"], ["model!=m-1"], ["model", "team"]),
]


def _nobody(folder: Path, more: str = "") -> tuple[str, Path, str]:
    return "http://127.0.0.1:9/", folder, more


def _posted(server: AlertmanagerServer) -> None:
    server.post(*LABELS)
    end = time.monotonic() + 30.0
    while len(server.alerts()) < len(LABELS):
        assert time.monotonic() < end
        time.sleep(0.05)


def _key(labels: dict[str, str]) -> str:
    return json.dumps(labels, sort_keys=True)


def test_a_condition_fits_the_alerts_that_it_fits_there(tmp_path: Path) -> None:
    with alertmanager(*_nobody(tmp_path)) as server:
        _posted(server)
        for name, operator, value in itertools.product(_VALUES, ("=", "!=", "=~", "!~"), COMPARED):
            if operator in ("=~", "!~") and "\\c" in value:
                continue  # no expression there, nor here
            condition = Matcher(name, operator, value)
            there = sorted(_key(alert["labels"]) for alert in server.alerts(str(condition)))
            assert sorted(_key(labels) for labels in LABELS if condition.matches(labels)) == there, str(condition)


def test_what_is_inhibited_here_is_inhibited_there(tmp_path: Path) -> None:
    written = [
        {"source_matchers": source, "target_matchers": target, "equal": equal} for source, target, equal in RULES
    ]
    with alertmanager(*_nobody(tmp_path, f"inhibit_rules: {json.dumps(written)}\n")) as server:
        _posted(server)
        ours = Inhibitions(
            [Inhibition(matchers(one), matchers(two), tuple(equal)) for one, two, equal in RULES], LABELS
        )
        expected = sorted(_key(labels) for labels in LABELS if ours.hold(labels))
        assert 0 < len(expected) < len(LABELS)
        end = time.monotonic() + 30.0
        while (there := _inhibited(server)) != expected:  # it looks at what was posted a moment later
            assert time.monotonic() < end, (there, expected)
            time.sleep(0.05)


def _inhibited(server: AlertmanagerServer) -> list[str]:
    return sorted(_key(alert["labels"]) for alert in server.alerts() if alert["status"]["inhibitedBy"])
