"""Alerts to a channel of Slack, through an incoming webhook.

References:
    https://docs.slack.dev/reference/block-kit/blocks (50 blocks; 150 characters in a header, 3,000 in a section),
    https://docs.slack.dev/messaging/formatting-message-text (escape ``&``, ``<`` and ``>``),
    https://docs.slack.dev/apis/web-api/rate-limits (one message a second),
    https://github.com/slackapi/bolt-js/issues/2509 (all blocks together: about 13,000 characters).
"""

from __future__ import annotations

from typing import Any

from llmguard.exporters.alerts.http import Sender, as_json
from llmguard.exporters.alerts.notice import Group, Notice
from llmguard.exporters.alerts.settings import HTTP_KEYS, Settings
from llmguard.exporters.alerts.sink import Verdict
from llmguard.exporters.alerts.wording import facts, heading, left_out, runbook, shorten, title, units

KEYS = HTTP_KEYS | {"url"}
_HEADER, _SECTION, _LINK, _MESSAGE = 150, 3000, 1200, 12_000


class SlackSink:
    """Posts a group as one message of blocks, with a plain text for notifications.

    Args:
        name: of the sink.
        sender: posts to the webhook, whose URL is a secret.
    """

    most = 10
    pause_s = 1.0

    def __init__(self, name: str, sender: Sender) -> None:
        self.name = name
        self._sender = sender

    def send(self, message: str, group: Group, now: float) -> Verdict:
        """Post a group once; see `llmguard.exporters.alerts.sink.Sink`."""
        return self._sender.post(as_json(payload(group)), {}).verdict(now)

    def close(self) -> None:
        """Nothing is open between messages."""


def made(settings: Settings) -> SlackSink:
    """The sink that these settings describe."""
    return SlackSink(settings.sink, settings.sender(settings.secret("url")))


def payload(group: Group) -> dict[str, Any]:
    """The message.

    Args:
        group: what to tell; a last block says how many of its alerts have no room.
    """
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": escaped(title(group), _HEADER), "emoji": False}}
    ]
    room = _MESSAGE
    for told, notice in enumerate(group.notices):
        section = _section(notice)
        room -= units(section["text"]["text"])
        if room < 0 or told >= SlackSink.most:
            note = left_out(len(group.notices) - told)
            blocks.append({"type": "context", "elements": [{"type": "plain_text", "text": note, "emoji": False}]})
            break
        blocks.append(section)
    text = escaped(f"{title(group)}: {heading(group.notices[0])}", _SECTION)
    return {"text": text, "blocks": blocks, "unfurl_links": False, "unfurl_media": False}


def _section(notice: Notice) -> dict[str, Any]:
    link = f"<{_entities(runbook(notice))}|Runbook>" if runbook(notice) else ""
    link = link if units(link) <= _LINK else ""
    lines = [f"*{escaped(heading(notice), 1000)}*"]
    room = _SECTION - 60 - units(link) - units(lines[0])
    pairs = facts(notice)
    for told, (key, value) in enumerate(pairs):
        line = f"{escaped(key, 150)}: {escaped(value, 700)}"
        room -= units(line) + 1
        if room < 0:
            lines.append(f"({len(pairs) - told} more left out)")
            break
        lines.append(line)
    # Verbatim: Slack makes no mention of a user or a channel out of a name.
    return {
        "type": "section",
        "text": {"type": "mrkdwn", "text": "\n".join([*lines, link]).rstrip("\n"), "verbatim": True},
    }


def escaped(text: str, most: int) -> str:
    """A text in which Slack sees no command, such as ``<!channel>``.

    Args:
        text: one line.
        most: how long it may be once it is escaped; what is cut off is never half an escape.
    """
    room = most
    while (over := units(found := _entities(shorten(text, room))) - most) > 0:
        # An entity has five letters at most, so a fifth of the room is always enough.
        room = max(room - over, most // 5)
    return found


def _entities(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
