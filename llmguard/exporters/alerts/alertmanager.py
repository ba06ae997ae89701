"""Alerts to Prometheus' Alertmanager, one or all of a cluster, by its API v2.

Alertmanagers of a cluster share silences and what was told, not alerts: each gets all of them, as Prometheus does it.

References:
    https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml (postableAlerts),
    https://prometheus.io/docs/alerting/latest/clients/ (an alert ends at ``endsAt`` unless it is posted again).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.http import Sender, as_json, target
from llmguard.exporters.alerts.notice import Group, Notice
from llmguard.exporters.alerts.settings import HTTP_KEYS, Settings
from llmguard.exporters.alerts.sink import DELIVERED, RETRY, Verdict
from llmguard.exporters.alerts.wording import rows, when

KEYS = HTTP_KEYS | {"url", "authorization", "generator_url", "hold_s"}
_PATH = "/api/v2/alerts"
# Told again every five minutes, so that three may be lost; a process that died leaves no alert for longer than this.
HOLD_S = 1200.0
_TOLD_WHILE_HELD = 4


class AlertmanagerSink:
    """Posts alerts to every Alertmanager of a cluster; one that takes them is enough.

    Args:
        name: of the sink.
        senders: one a member of the cluster.
        hold_s: how long an alert stays that is neither resolved nor told again, in seconds.
            `repeat_s` is a quarter of it: when to tell it again.
        timeout_s: for all members together.
        generator_url: what the alert links to.
        authorization: a header of that name, for an Alertmanager behind a proxy.
    """

    most = 100
    pause_s = 0.0

    def __init__(
        self,
        name: str,
        senders: Sequence[Sender],
        hold_s: float = HOLD_S,
        timeout_s: float = 15.0,
        generator_url: str = "",
        authorization: str = "",
    ) -> None:
        self.name = name
        self._senders = senders
        self._hold_s = hold_s
        #: After so many seconds it has to be told again of what fires: well before that ends there by itself.
        self.repeat_s = hold_s / _TOLD_WHILE_HELD
        self._timeout_s = timeout_s
        self._generator_url = generator_url
        self._headers = {"Authorization": authorization} if authorization else {}

    def send(self, message: str, group: Group, now: float) -> Verdict:
        """Post a group once; see `llmguard.exporters.alerts.sink.Sink`."""
        body = as_json(payload(group, now, self._hold_s, self._generator_url))
        end = time.monotonic() + self._timeout_s
        verdicts = []
        for others, sender in zip(range(len(self._senders), 0, -1), self._senders, strict=True):
            # Each has its part of what is left, so that one that hangs does not take the others' time.
            share = max(end - time.monotonic(), 0.0) / others
            verdicts.append(sender.post(body, self._headers, timeout_s=share).verdict(now))
        outcomes = [verdict.outcome for verdict in verdicts]
        for best in (DELIVERED, RETRY):
            if best in outcomes:
                return verdicts[outcomes.index(best)]
        return verdicts[0]

    def close(self) -> None:
        """Nothing is open between messages."""


def made(settings: Settings) -> AlertmanagerSink:
    """The sink that these settings describe."""
    urls = settings.bases("url")
    if not 1 <= len(urls) <= 16:
        raise ConfigurationError(f"{settings.what('url')} must name 1 to 16 Alertmanagers")
    generator = settings.url("generator_url", "")
    if generator:
        target(generator, settings.what("generator_url"))
    return AlertmanagerSink(
        settings.sink,
        [settings.sender(url.rstrip("/").removesuffix(_PATH) + _PATH) for url in urls],
        settings.number("hold_s", HOLD_S, 60.0, 7 * 86400.0),
        settings.timeout_s(),
        generator,
        settings.secret("authorization", ""),
    )


def payload(group: Group, now: float, hold_s: float = HOLD_S, generator_url: str = "") -> list[dict[str, Any]]:
    """The alerts as the API takes them.

    Args:
        group: what to tell.
        now: seconds since 1970.
        hold_s: how long an alert stays that is not told again.
        generator_url: what the alerts link to, or ``""``.
    """
    return [_alert(notice, now, hold_s, generator_url) for notice in group.notices]


def _alert(notice: Notice, now: float, hold_s: float, generator_url: str) -> dict[str, Any]:
    data = rows(notice)
    ends = max(notice.ended, notice.started) if notice.resolved else max(now, notice.started) + hold_s
    alert: dict[str, Any] = {
        "labels": named(data["labels"]),
        "annotations": named(data["annotations"]),
        "startsAt": when(notice.started),
        "endsAt": when(ends),
    }
    return {**alert, "generatorURL": generator_url} if generator_url else alert


def named(given: Mapping[str, str]) -> dict[str, str]:
    """The same values under names that Prometheus allows: letters, digits and ``_``, no digit first.

    Args:
        given: a name that is allowed keeps itself; one that becomes another's gets a number.
    """
    valid = {key: key for key in given if re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", key)}
    for key in given:
        if key in valid:
            continue
        wanted = re.sub(r"[^a-zA-Z0-9_]", "_", key)
        wanted = f"_{wanted}" if not wanted or wanted[0].isdigit() else wanted
        made, number = wanted, 1
        while made in valid.values():
            number += 1
            made = f"{wanted}_{number}"
        valid[key] = made
    return {valid[key]: value for key, value in given.items()}
