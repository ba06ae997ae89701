"""Alerts to PagerDuty by its Events API v2: one event an alert, triggered and resolved by the same key.

References:
    https://developer.pagerduty.com/docs/events-api-v2/trigger-events (summary 1,024 characters, dedup_key 255),
    https://developer.pagerduty.com/docs/events-api-v2/overview (512 KB; 202 is accepted; retry 429 and 5xx, never 400).
"""

from __future__ import annotations

from typing import Any

from llmguard.exporters.alerts.http import Sender, as_json
from llmguard.exporters.alerts.notice import Group, Notice
from llmguard.exporters.alerts.settings import HTTP_KEYS, Settings
from llmguard.exporters.alerts.sink import Verdict
from llmguard.exporters.alerts.wording import clean, name, rows, runbook, severity, shorten, status, summary, when

KEYS = HTTP_KEYS | {"url", "routing_key", "region", "source"}
_URLS = {"us": "https://events.pagerduty.com/v2/enqueue", "eu": "https://events.eu.pagerduty.com/v2/enqueue"}
_SUMMARY, _SHORT = 1024, 255


class PagerDutySink:
    """Posts one alert as one event.

    Args:
        name: of the sink.
        sender: posts to the API.
        routing_key: of the integration.
        source: which system has the problem.
    """

    most = 1
    pause_s = 0.0

    def __init__(self, name: str, sender: Sender, routing_key: str, source: str = "llmguard") -> None:
        self.name = name
        self._sender = sender
        self._routing_key = routing_key
        self._source = source

    def send(self, message: str, group: Group, now: float) -> Verdict:
        """Post the group's one alert; see `llmguard.exporters.alerts.sink.Sink`.

        Raises:
            ValueError: the group holds more than one.
        """
        (notice,) = group.notices
        body = {"routing_key": self._routing_key, **payload(notice, self._source)}
        return self._sender.post(as_json(body), {}).verdict(now)

    def close(self) -> None:
        """Nothing is open between messages."""


def made(settings: Settings) -> PagerDutySink:
    """The sink that these settings describe."""
    url = settings.url("url", _URLS[settings.choice("region", _URLS, "us")])
    return PagerDutySink(
        settings.sink,
        settings.sender(url),
        settings.secret("routing_key"),
        settings.text("source", "llmguard"),
    )


def payload(notice: Notice, source: str = "llmguard") -> dict[str, Any]:
    """The event, less the key of the integration.

    Args:
        notice: what to tell.
        source: which system has the problem.
    """
    if notice.resolved:
        return {"event_action": "resolve", "dedup_key": notice.fingerprint}
    event: dict[str, Any] = {
        "event_action": "trigger",
        "dedup_key": notice.fingerprint,
        "client": "llmguard",
        "payload": {
            "summary": shorten(f"{name(notice)}: {summary(notice)}", _SUMMARY),
            "source": shorten(clean(source), _SHORT),
            "severity": severity(notice),
            "timestamp": when(notice.started),
            "component": "llmguard",
            "class": name(notice),
            "custom_details": {"status": status(notice), **rows(notice)},
        },
    }
    if link := runbook(notice):
        event["links"] = [{"href": link, "text": "Runbook"}]
    return event
