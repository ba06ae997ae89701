"""Alerts to a channel of Microsoft Teams: an Adaptive Card to a webhook of Workflows.

References:
    https://adaptivecards.io/explorer/RichTextBlock.html (its texts are shown as they are; a TextBlock reads Markdown),
    https://learn.microsoft.com/connectors/teams (28 KB a message, four requests a second).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llmguard.exporters.alerts.http import Reply, Sender, as_json
from llmguard.exporters.alerts.notice import Group, Notice
from llmguard.exporters.alerts.settings import HTTP_KEYS, Settings
from llmguard.exporters.alerts.sink import Verdict
from llmguard.exporters.alerts.wording import facts, heading, left_out, runbook, severity, title

KEYS = HTTP_KEYS | {"url"}
# 28 KB is the published limit; what Workflows wraps around the card counts, too.
_LIMIT = 24 * 1024
_COLORS = {"critical": "attention", "error": "attention", "warning": "warning", "info": "accent"}
# Old connectors say 200 and put what Teams itself answered into the body.
_INNER = re.compile(rb"returned HTTP error (\d{3})\b")


class TeamsSink:
    """Posts a group as one card.

    Args:
        name: of the sink.
        sender: posts to the webhook, whose URL is a secret.
    """

    most = 10
    pause_s = 0.25

    def __init__(self, name: str, sender: Sender) -> None:
        self.name = name
        self._sender = sender

    def send(self, message: str, group: Group, now: float) -> Verdict:
        """Post a group once; see `llmguard.exporters.alerts.sink.Sink`."""
        reply = self._sender.post(payload(group), {})
        inner = _INNER.search(reply.body) if reply.status == 200 else None
        if inner is not None:
            reply = Reply(int(inner[1]), retry_after=reply.retry_after)
        return reply.verdict(now)

    def close(self) -> None:
        """Nothing is open between messages."""


def made(settings: Settings) -> TeamsSink:
    """The sink that these settings describe."""
    return TeamsSink(settings.sink, settings.sender(settings.secret("url")))


def payload(group: Group) -> bytes:
    """The message in JSON.

    Args:
        group: what to tell; a last line says how many of its alerts have no room.
    """
    told = min(len(group.notices), TeamsSink.most)
    body = _message(group, told, 40)
    while len(body) > _LIMIT and told > 1:
        told = told * 3 // 4
        body = _message(group, told, 40)
    for most in (20, 10, 4):
        body = body if len(body) <= _LIMIT else _message(group, told, most)
    return body


def _message(group: Group, told: int, most: int) -> bytes:
    color = "good" if group.resolved else _COLORS[severity(group)]
    elements = [_text([_run(title(group), weight="bolder", size="large", color=color)])]
    for notice in group.notices[:told]:
        elements += _notice(notice, most)
    if told < len(group.notices):
        elements.append(_text([_run(left_out(len(group.notices) - told), isSubtle=True)], separator=True))
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": elements,
    }
    if links := [link for link in dict.fromkeys(map(runbook, group.notices[:told])) if link]:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Runbook", "url": link} for link in links[:4]]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return as_json({"type": "message", "attachments": [attachment]})


def _notice(notice: Notice, most: int) -> list[dict[str, Any]]:
    lines = [_text([_run(heading(notice), weight="bolder")], separator=True)]
    lines += [
        _text([_run(f"{key}: ", isSubtle=True), _run(value)], spacing="none") for key, value in facts(notice, most)
    ]
    return lines


def _text(runs: Sequence[dict[str, Any]], **look: Any) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": list(runs), **look}


def _run(text: str, **look: Any) -> dict[str, Any]:
    return {"type": "TextRun", "text": text, **look}
