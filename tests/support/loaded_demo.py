"""A guarded service under load that shows every figure there is: calls, blocks, failures, streams, drift, alerts."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from asgi_calls import served
from fakes import Broken, Words
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from upstream_server import UpstreamServer

from llmguard import ConfigurationError, Guard, Role, Text
from llmguard.detectors.drift import DriftMonitor
from llmguard.detectors.fairness import FairnessMonitor
from llmguard.exporters.alerts.prometheus_rules import rule_file
from llmguard.exporters.processor import Processor
from llmguard.exporters.prometheus import Prometheus, Scrape
from llmguard.exporters.prometheus_text import TEXT
from llmguard.exporters.record import Record
from llmguard.integrations.proxy import Proxy
from llmguard.integrations.upstream import Upstream
from llmguard.telemetry import TelemetrySettings

PATH = "/v1/chat/completions"
#: What its labels say, for the variables of a dashboard.
LABELS = {
    "service": ("demo",),
    "policy": ("shop", "trial", "judge"),
    "model": ("small", "large"),
    "prompt_version": ("1", "2"),
    "detector": ("words", "broken", "groundedness"),
}
_BOTH = ["input", "output"]
_SHOP = [
    {"detector": "words", "stage": _BOTH, "categories": ["BOMB"], "action": "block"},
    {"detector": "words", "stage": _BOTH, "categories": ["SECRET"], "action": "redact"},
    {"detector": "words", "stage": _BOTH, "categories": ["ODD"], "action": "flag"},
]
_TRIAL = [
    {"detector": "words", "action": "block"},
    {"detector": "broken", "action": "flag", "on_failure": "open"},
]
_JUDGES = 4
_DOCUMENT = Text("The shop opens at nine on Mondays. It sells 12 kinds of tea.", Role.RETRIEVAL)


def _alerts(folder: Path, receiver: str) -> dict[str, Any]:
    """Rules that always fire, told all the time; one of the two receivers never takes anything."""
    secret = folder / "secret"
    secret.write_text("whsec_" + base64.b64encode(b"0" * 32).decode())
    hook = {"kind": "webhook", "secret": f"file:{secret}", "allow": ["127.0.0.0/8"], "insecure": True}
    rules = [{"alert": "Blocks", "above": 0.0, "severity": severity} for severity in ("critical", "warning")]
    often = {"every_s": 0.2, "group_wait_s": 0.0, "group_interval_s": 0.5, "repeat_s": 0.5, "group_by": ["severity"]}
    sinks = {"good": {**hook, "url": f"{receiver}/health"}, "bad": {**hook, "url": f"{receiver}/refused"}}
    return {"outbox": str(folder / "alerts.sqlite"), **often, "rules": rules, "sinks": sinks}


@dataclass
class Demo:
    """Where its figures are.

    Attributes:
        own: host and port of the service's own figures, in OpenMetrics where that is asked for.
        proxy: host and port of the proxy, whose page has the upstream's figures.
        rules: the file of its alerts for Prometheus.
    """

    own: str
    proxy: str
    rules: str


class _Lost:
    """An exporter that can't."""

    def export(self, batch: Sequence[Record]) -> None:
        raise OSError("no space left")

    def force_flush(self, timeout_s: float = 30.0) -> bool:
        return True

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        return True


def _fails(texts: Sequence[Text]) -> list[list[Any]]:
    raise ValueError("broken")


@contextmanager
def loaded_demo(folder: Path) -> Iterator[Demo]:
    """The service, with traffic until the block is left."""
    with ExitStack() as stack:
        figures = Prometheus()
        stack.callback(figures.shutdown)
        meters = figures.meter_provider(resource=Resource({"service.name": "demo"}), shutdown_on_exit=False)
        stack.callback(meters.shutdown)
        tracers = TracerProvider(shutdown_on_exit=False)
        whole = {"meter_provider": meters, "tracer_provider": tracers}
        prices = {"small": {"input": 1.0, "output": 2.0}, "large": {"input": 10.0, "output": 20.0}}
        processor = Processor(_Lost(), delay_s=0.01)
        stack.callback(processor.shutdown, 1.0)
        receiver, _ = stack.enter_context(served(UpstreamServer(), lifespan="off"))
        shop = Guard(
            {"name": "shop", "version": "1", "rules": _SHOP, "alerts": _alerts(folder, receiver)},
            detectors=[Words("words", "bomb", "secret", "odd", score=0.9)],
            telemetry=TelemetrySettings(prices=prices),
            monitors=[
                DriftMonitor(reference=128, window=64, features=["length"]),
                FairnessMonitor(window=50, minimum=5),
                processor,
            ],
            **whole,
        )
        trial = stack.enter_context(
            Guard(
                {"name": "trial", "mode": "shadow", "rules": _TRIAL, "breaker": {"failures": 3, "reset_s": 1}},
                detectors=[Words("words", "odd"), Broken(_fails)],
                **whole,
            )
        )
        rule = {"detector": "groundedness", "stage": "output", "threshold": 0.5, "action": "flag"}
        judge = stack.enter_context(Guard({"name": "judge", "rules": [rule]}, **whole))
        upstream, _ = stack.enter_context(served(UpstreamServer(), lifespan="off"))
        app = Proxy(Upstream(upstream), shop, metrics=lambda _: Scrape(b"", TEXT), prompt="x-prompt")
        proxy, _ = stack.enter_context(served(app))
        shadow, _ = stack.enter_context(served(Proxy(Upstream(upstream), trial, metrics=None, prompt="x-prompt")))
        client = stack.enter_context(httpx.Client(base_url=proxy, timeout=60))
        stop, together = threading.Event(), threading.Barrier(_JUDGES)
        loads = [lambda n: _asked(client, shadow, n), lambda n: _checked(shop, trial, n)]
        loads += [lambda n, own=own: _judged(judge, together, f"{own}{n}") for own in range(_JUDGES)]
        threads = [threading.Thread(target=_until, args=(stop, load)) for load in loads]
        for thread in threads:
            thread.start()
        try:
            own = f"127.0.0.1:{figures.serve(0)}"
            said = shop.policy.alerts
            rules = rule_file([one.rule for one in said.rules], shop.policy.ref, said.every_s).as_yaml()
            yield Demo(own, proxy.removeprefix("http://"), rules)
        finally:
            stop.set()
            together.abort()
            for thread in threads:
                thread.join(60)


def _until(stop: threading.Event, load: Any) -> None:
    number = 0
    while not stop.is_set():
        load(number)
        number += 1
        stop.wait(0.05)


def _asked(client: httpx.Client, shadow: str, number: int) -> None:
    """Calls through the proxy: fine, changed, blocked, failed, streamed, and to nowhere."""
    prompt = {"x-prompt": f"greeting, {1 + number % 2}"}
    model = "large" if number % 3 else "small"
    for text in ("hello", "my secret", "the bomb", "fail now", "something odd"):
        asked = {"model": model, "messages": [{"role": "user", "content": text}]}
        client.post(PATH, json=asked, headers=prompt)
    told = {"model": model, "stream": True, "messages": [{"role": "user", "content": "one two three secret four"}]}
    client.post(PATH, json=told, headers=prompt)
    client.post("/nowhere", json={})
    odd = {"model": model, "messages": [{"role": "user", "content": "something odd"}]}
    client.post(f"{shadow}{PATH}", json=odd, headers=prompt)


def _checked(shop: Guard, trial: Guard, number: int) -> None:
    """Checks of two groups, of which one is stopped, and which change after a while; a detector that breaks."""
    with shop.prompt("greeting", version=str(1 + number % 2)):
        for turn in range(8):
            with shop.cohort(plan="free" if turn % 2 else "paid"):
                shop.check(("a bomb " if turn % 2 else "a cup of tea ") * (1 if number < 30 else 20))
    trial.check("something odd")
    if number % 10 == 0:
        shop.reload(shop.policy)
        try:
            shop.reload({"rules": 7})
        except ConfigurationError:
            return


def _judged(judge: Guard, together: threading.Barrier, number: str) -> None:
    """Answers that keep to a document, and that don't; so many at once that some wait for the model."""
    with suppress(threading.BrokenBarrierError):
        together.wait(60)
    more = f"It sells {number} camels on Mars." if int(number) % 2 else "It sells 12 kinds of tea."
    answers = [f"Visitor {number}{turn}: the shop opens at nine. {more}" for turn in range(3)]
    judge.check_batch([[_DOCUMENT, Text(answer, Role.ASSISTANT)] for answer in answers], stage="output")
