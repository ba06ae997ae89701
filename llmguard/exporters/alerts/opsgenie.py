"""Alerts to Opsgenie: created and closed by the same alias.

References:
    https://docs.opsgenie.com/docs/alert-api (message 130 characters, alias 512, description 15,000, 20 tags of 50,
    details 8,000 in all; 202 is accepted).
"""

from __future__ import annotations

from typing import Any

from llmguard.exporters.alerts.http import Sender, as_json
from llmguard.exporters.alerts.notice import NAME, Group, Notice
from llmguard.exporters.alerts.settings import HTTP_KEYS, Settings
from llmguard.exporters.alerts.sink import Verdict
from llmguard.exporters.alerts.wording import (
    facts,
    heading,
    name,
    rows,
    runbook,
    severity,
    shorten,
    summary,
    units,
    when,
)

KEYS = HTTP_KEYS | {"url", "api_key", "region"}
_URLS = {"us": "https://api.opsgenie.com/v2/alerts", "eu": "https://api.eu.opsgenie.com/v2/alerts"}
_MESSAGE, _DESCRIPTION, _TAGS, _TAG, _DETAILS = 130, 15_000, 20, 50, 8000
_PRIORITIES = {"critical": "P1", "error": "P2", "warning": "P3", "info": "P5"}


class OpsgenieSink:
    """Creates an alert, and closes it.

    Args:
        name: of the sink.
        sender: posts to the API.
        api_key: of the integration.
    """

    most = 1
    pause_s = 0.0

    def __init__(self, name: str, sender: Sender, api_key: str) -> None:
        self.name = name
        self._sender = sender
        self._headers = {"Authorization": f"GenieKey {api_key}"}

    def send(self, message: str, group: Group, now: float) -> Verdict:
        """Create or close the group's one alert; see `llmguard.exporters.alerts.sink.Sink`.

        Raises:
            ValueError: the group holds more than one.
        """
        (notice,) = group.notices
        body = as_json(closing(notice) if notice.resolved else payload(notice))
        tail = f"/{notice.fingerprint}/close?identifierType=alias" if notice.resolved else ""
        return self._sender.post(body, self._headers, tail).verdict(now)

    def close(self) -> None:
        """Nothing is open between messages."""


def made(settings: Settings) -> OpsgenieSink:
    """The sink that these settings describe."""
    url = settings.base("url", _URLS[settings.choice("region", _URLS, "us")])
    return OpsgenieSink(settings.sink, settings.sender(url), settings.secret("api_key"))


def closing(notice: Notice) -> dict[str, Any]:
    """What closes an alert."""
    return {"source": "llmguard", "note": f"{name(notice)} is over since {when(notice.ended)}"}


def payload(notice: Notice) -> dict[str, Any]:
    """What creates an alert.

    Args:
        notice: what to tell.
    """
    lines = [heading(notice), *(f"{key}: {value}" for key, value in facts(notice))]
    if link := runbook(notice):
        lines.insert(1, f"runbook: {link}")
    return {
        "message": shorten(f"{name(notice)}: {summary(notice)}", _MESSAGE),
        "alias": notice.fingerprint,
        "description": shorten("\n".join(lines), _DESCRIPTION),
        "priority": _PRIORITIES[severity(notice)],
        "source": "llmguard",
        "entity": name(notice),
        "tags": _tags(notice),
        "details": _details(notice),
    }


def _tags(notice: Notice) -> list[str]:
    """Labels as ``name:value``; a comma would part one tag into two."""
    told = [f"{key}:{value}" for key, value in rows(notice)["labels"].items() if key != NAME]
    tags = ["llmguard", *(shorten(tag.replace(",", " "), _TAG) for tag in told)]
    return tags if len(tags) <= _TAGS else [*tags[: _TAGS - 1], f"{len(tags) - _TAGS + 1} more left out"]


def _details(notice: Notice) -> dict[str, str]:
    both = rows(notice)
    given = [*both["annotations"].items(), *both["labels"].items()]
    details: dict[str, str] = {}
    room = _DETAILS - 40
    for told, (key, value) in enumerate(given):
        room -= units(key) + units(value)
        if room < 0:
            details["left out"] = f"{len(given) - told} more"
            break
        details[key] = value
    return details
