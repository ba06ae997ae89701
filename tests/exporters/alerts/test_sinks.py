"""Sinks from a policy: what is understood, what is refused, and that no secret is written out or shown."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from certificates import certificate
from notices import NOW, group
from receivers import Receiver

from llmguard import ConfigurationError
from llmguard.exporters.alerts.settings import HTTP_KEYS
from llmguard.exporters.alerts.sink import DELIVERED, Sink
from llmguard.exporters.alerts.sinks import KINDS, build, keys

SECRET = "canary4711"
WHSEC = "whsec_" + base64.b64encode(b"canary4711" * 3).decode()
GOOD: dict[str, dict[str, Any]] = {
    "webhook": {"url": "https://hooks.example/x", "secret": "env:HOOK_SECRET"},
    "slack": {"url": "env:THE_URL"},
    "teams": {"url": "env:THE_URL"},
    "pagerduty": {"routing_key": "env:THE_KEY"},
    "opsgenie": {"api_key": "env:THE_KEY", "region": "eu"},
    "alertmanager": {"url": ["http://am-1:9093", "http://am-2:9093/api/v2/alerts"], "allow": ["am-1", "am-2"]},
    "email": {"host": "smtp.example", "from": "a@b.c", "to": "d@e.f", "username": "me", "password": "env:THE_KEY"},
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", WHSEC)
    monkeypatch.setenv("OLD_SECRET", "whsec_" + base64.b64encode(b"b" * 32).decode())
    monkeypatch.setenv("THE_URL", f"https://hooks.example/{SECRET}")
    monkeypatch.setenv("THE_KEY", SECRET)


def refusal(name: str, settings: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        build(name, settings)
    shown = "".join(traceback.TracebackException.from_exception(caught.value).format_exception_only())
    assert SECRET not in shown
    assert WHSEC not in shown
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind(kind: str) -> None:
    sink = build("ops", {"kind": kind, **GOOD[kind]})
    assert isinstance(sink, Sink)
    assert sink.name == "ops"
    assert sink.most >= 1
    assert sink.pause_s >= 0.0
    assert SECRET not in repr(sink) + str(sink)
    sink.close()


def test_the_kinds_are_all_that_there_are() -> None:
    assert set(KINDS) == set(GOOD)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "'kind' is missing (known: alertmanager, email"),
        ({"kind": "slak"}, "unknown kind 'slak' (did you mean 'slack'?)"),
        ({"kind": 7}, "unknown kind 7 (known: alertmanager"),
        ({"kind": ["slack"]}, "unknown kind ['slack'] (known: alertmanager"),
        ("slack", "must be a mapping with a kind, not str"),
        ({"kind": "slack"}, "'url' is missing: say env:NAME or file:PATH"),
        (
            {"kind": "slack", "url": "env:THE_URL", "urll": "x"},
            "'urll' is no setting of this kind (did you mean 'url'?)",
        ),
        ({"kind": "slack", "url": "env:THE_URL", 7: "x"}, ": 7 is no setting of this kind"),
        ({"kind": "webhook", "url": "https://a.b"}, "'secret' is missing: say env:NAME or file:PATH"),
        ({"kind": "webhook", "url": "https://a.b", "secret": []}, "'secret' is missing"),
        ({"kind": "webhook", "secret": "env:HOOK_SECRET"}, "'url' is missing"),
        ({"kind": "webhook", "secret": "env:HOOK_SECRET", "url": 7}, "'url' must be a text, not int"),
        ({"kind": "webhook", "secret": "env:THE_KEY", "url": "https://a.b"}, "'secret' must be whsec_"),
        ({"kind": "opsgenie", "api_key": "env:THE_KEY", "region": "mars"}, "'region' must be one of eu, us"),
        ({"kind": "slack", "url": "env:THE_URL", "timeout_s": 0}, "'timeout_s' must be a number from 0.1 to 60"),
        ({"kind": "slack", "url": "env:THE_URL", "timeout_s": True}, "'timeout_s' must be a number"),
        ({"kind": "slack", "url": "env:THE_URL", "timeout_s": float("nan")}, "'timeout_s' must be a number"),
        ({"kind": "slack", "url": "env:THE_URL", "insecure": "yes"}, "'insecure' must be true or false, not str"),
        ({"kind": "slack", "url": "env:THE_URL", "allow": 7}, "'allow' must be a text or a list of texts"),
        ({"kind": "slack", "url": "env:THE_URL", "allow": ["10.0.0.0/99"]}, "'allow'[0] is no network"),
        (
            {"kind": "slack", "url": "env:THE_URL", "ca_file": "/nowhere.pem"},
            "'ca_file' cannot be read as certificates in PEM: FileNotFoundError",
        ),
        ({"kind": "slack", "url": "env:THE_URL", "ca_file": "env:THE_URL"}, "'ca_file' cannot be read"),
        ({"kind": "slack", "url": "env:THE_URL", "ca_file": "file:/nowhere.pem"}, "'ca_file' cannot be read"),
        ({"kind": "slack", "url": "env:THE_URL", "ca_file": 7}, "'ca_file' must be a text, not int"),
        ({"kind": "slack", "url": "env:THE_URL", "allow": ["10.0.0.1", "*.corp"]}, "'allow'[1] must be a network"),
        ({"kind": "slack", "url": f"env:https://a.b/{SECRET}"}, "env: takes the name of a variable, such as env:"),
        ({"kind": "slack", "url": "env:\ud800"}, "env: takes the name of a variable"),
        ({"kind": "opsgenie", "api_key": "env:THE_KEY", "region": ["eu"]}, "'region' must be one of eu, us"),
        (
            {"kind": "alertmanager", "url": "http://a:1", "generator_url": "http://[x"},
            "'generator_url' is no URL",
        ),
        (
            {"kind": "email", "host": "h", "from": "a@b.c", "to": "a@b.c", "password": "env:THE_KEY"},
            "'password' is of no use without 'username'",
        ),
        ({"kind": "alertmanager", "url": "http://a:1/?b"}, "'url' must end with its path"),
        ({"kind": "opsgenie", "api_key": "env:THE_KEY", "url": "https://a.b/#c"}, "'url' must end with its path"),
        ({"kind": "alertmanager"}, "'url' must name 1 to 16 Alertmanagers"),
        (
            {"kind": "alertmanager", "url": "http://a:1", "generator_url": "x"},
            "'generator_url' must begin with https://",
        ),
        ({"kind": "email", "host": "h", "from": "a@b.c", "to": "x"}, "'to' must be a mailbox"),
        ({"kind": "email", "host": "h", "from": "a@b.c", "to": "a@b.c", "tls": "ssl"}, "'tls' must be one of none"),
        ({"kind": "email", "host": "h/x", "from": "a@b.c", "to": "a@b.c"}, "'host' must be a host's name"),
        ({"kind": "email", "host": "h", "from": "a@b.c", "to": "a@b.c", "username": "me"}, "'password' is missing"),
    ],
)
def test_what_is_wrong_is_named_with_the_way_out(settings: Any, said: str) -> None:
    told = refusal("ops", settings)
    assert told.startswith("sink 'ops'")
    assert said in told


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        *(("webhook", "secret"), ("slack", "url"), ("teams", "url"), ("pagerduty", "routing_key")),
        *(
            ("opsgenie", "api_key"),
            ("email", "password"),
            ("webhook", "authorization"),
            ("alertmanager", "authorization"),
        ),
    ],
)
def test_a_secret_that_is_written_out_is_refused_and_not_shown(kind: str, key: str) -> None:
    for written in (SECRET, WHSEC, f"https://hooks.example/{SECRET}", 4711, ["x"], {"env": SECRET}):
        told = refusal("ops", {"kind": kind, **GOOD[kind], key: written})
        assert f"'{key}' is a secret, which a policy never holds" in told
        assert "env:NAME or file:PATH" in told


@pytest.mark.parametrize(("kind", "key"), [("webhook", "url"), ("alertmanager", "url"), ("pagerduty", "proxy")])
def test_a_password_in_a_url_is_refused_unless_it_is_pointed_to(
    kind: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = refusal("ops", {"kind": kind, **GOOD[kind], key: f"http://me:{SECRET}@proxy.example"})
    assert f"'{key}' holds a password" in told
    monkeypatch.setenv("WHOLE", f"http://me:{SECRET}@proxy.example")
    build("ops", {"kind": kind, **GOOD[kind], key: "env:WHOLE"})


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "", "  "):
        monkeypatch.delenv("THE_URL") if value is None else monkeypatch.setenv("THE_URL", value)
        told = refusal("ops", {"kind": "slack", "url": "env:THE_URL"})
        assert told == "sink 'ops': 'url': the environment variable 'THE_URL' is not set or is empty"


def test_a_secret_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    for content, said in ((None, "FileNotFoundError"), (b" \n", "empty or too large"), (b"x" * 70_000, "too large")):
        if content is not None:
            path.write_bytes(content)
        assert said in refusal("ops", {"kind": "slack", "url": f"file:{path}"})
    path.write_bytes(b"\xff\xfe")
    assert "UnicodeDecodeError" in refusal("ops", {"kind": "slack", "url": f"file:{path}"})
    path.write_text(f"a\n{SECRET}")
    assert "one line of printable ASCII" in refusal("ops", {"kind": "slack", "url": f"file:{path}"})
    assert "IsADirectoryError" in refusal("ops", {"kind": "slack", "url": f"file:{tmp_path}"})
    path.write_text(f"https://hooks.example/{SECRET}\n")
    assert build("ops", {"kind": "slack", "url": f"file:{path}"}).name == "ops"


def test_a_file_of_certificates_is_named_by_its_path_or_by_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("CA_FILE", str(own.path))
    with Receiver(tls=own.context) as receiver:
        monkeypatch.setenv("LOCAL", receiver.url)
        for said in (str(own.path), f"file:{own.path}", "env:CA_FILE"):
            sink = build("ops", {"kind": "slack", "url": "env:LOCAL", "allow": "127.0.0.1", "ca_file": said})
            assert sink.send("m", group(), NOW).outcome == DELIVERED


def test_what_a_policy_says_is_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as receiver:
        allowed = {"allow": ["127.0.0.1"], "timeout_s": 10}
        monkeypatch.setenv("LOCAL", receiver.url + "/hook")
        secrets = ["env:HOOK_SECRET", "env:OLD_SECRET"]
        sinks: list[dict[str, Any]] = [
            {"kind": "webhook", "url": "env:LOCAL", "secret": secrets},
            {"kind": "slack", "url": "env:LOCAL"},
            {"kind": "teams", "url": "env:LOCAL"},
            {"kind": "pagerduty", "url": "env:LOCAL", "routing_key": "env:THE_KEY", "source": "gate-1"},
            {"kind": "opsgenie", "url": "env:LOCAL", "api_key": "env:THE_KEY"},
            {"kind": "alertmanager", "url": receiver.url},
        ]
        for settings in sinks:
            assert build("ops", {**settings, **allowed}).send("m", group(), NOW).outcome == DELIVERED
    hook, _, _, pager, genie, manager = receiver.seen
    assert len(hook.headers["webhook-signature"].split()) == 2
    assert json.loads(pager.body)["routing_key"] == SECRET
    assert json.loads(pager.body)["payload"]["source"] == "gate-1"
    assert genie.headers["authorization"] == f"GenieKey {SECRET}"
    assert manager.line == "POST /api/v2/alerts HTTP/1.1"


def test_only_the_kinds_that_are_used_are_imported() -> None:
    code = (
        "import sys, llmguard.exporters.alerts.sinks as s; "
        "s.build('a', {'kind': 'slack', 'url': 'env:THE_URL'}); assert 'smtplib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class TestPage:
    page = Path("docs/alert_sinks.md").read_text(encoding="utf-8")

    def test_its_example_runs(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SLACK_URL", "")  # put back afterwards
        for block in re.findall(r"^```python\n(.*?)^```", self.page, re.MULTILINE | re.DOTALL):
            exec(block, {})  # noqa: S102 - our own page
        told = capsys.readouterr().out.splitlines()
        assert told[0] == "ops"
        assert told[1].startswith("sink 'ops': 'url' is a secret, which a policy never holds")

    def test_it_names_every_key_of_every_kind(self) -> None:
        kinds, _, shared = self.page.partition("## For all")
        sections = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^### |\Z)", kinds, re.MULTILINE | re.DOTALL))
        assert sorted(sections) == sorted(KINDS)
        common = {key for key in HTTP_KEYS if f"| `{key}` |" in shared}
        assert common == HTTP_KEYS
        for kind, section in sections.items():
            rows = "".join(row.partition(" | ")[0] for row in section.splitlines() if row.startswith("| `"))
            assert set(re.findall(r"`(\w+)`", rows)) | {"kind"} == keys(kind) - HTTP_KEYS
