"""The files of deploy/ at work, without containers: the proxy, Prometheus and Alertmanager on ports of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_server import free_port, needed, scraping, until

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")

from otlp_collector import collecting

DEPLOY = Path("deploy")


@contextmanager
def running(folder: Path, name: str, *command: str, **variables: str) -> Iterator[None]:
    """A process, until the block is left; its log is in the folder."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **variables})
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def found(url: str, **options: Any) -> Any:
    """What a server answers, or None."""
    try:
        answer = httpx.get(url, timeout=60, **options)
    except httpx.TransportError:
        return None
    return answer if answer.status_code == 200 else None


def test_blocks_reach_alertmanager_once_by_both_ways_and_exemplars_have_their_traces(tmp_path: Path) -> None:
    alertmanager, prometheus = needed("prometheus-alertmanager"), needed("prometheus")
    del prometheus
    names = ("model:8000", "llmguard:8080", "alertmanager:9093")
    at = {name: f"127.0.0.1:{free_port()}" for name in names}
    port = {name: where.partition(":")[2] for name, where in at.items()}

    def moved(path: str, *changes: tuple[str, str]) -> str:
        text = (DEPLOY / path).read_text(encoding="utf-8")
        for name, where in (*changes, *at.items()):
            text = text.replace(name, where)
        return text

    (tmp_path / "alertmanager.yml").write_text(moved("alertmanager/alertmanager.yml"))
    soon = (("for_s: 60", "for_s: 1"), ("at_least: 20", "at_least: 2"), ("allow: [alertmanager]", "allow: [127.0.0.1]"))
    policy = moved("policy.yaml", *soon, ("/var/lib/llmguard", str(tmp_path)))
    (tmp_path / "policy.yaml").write_text(policy.replace("alerts:\n", "alerts:\n  every_s: 1\n  group_wait_s: 0\n"))
    command = [sys.executable, "-c", "from llmguard.cli import run; run()", "alerts", "rules", tmp_path / "policy.yaml"]
    rules = subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "rules.yml").write_bytes(rules.stdout)
    (tmp_path / "service.yml").write_text(moved("prometheus/service.yml"))
    config = yaml.safe_load(moved("prometheus/prometheus.yml"))
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"] = [one for one in config["scrape_configs"] if one["job_name"] == "llmguard"]

    with ExitStack() as stack:
        collector = stack.enter_context(collecting())
        own = (("/etc/llmguard", str(tmp_path)), ("http://collector:4318", collector.url))
        composed = yaml.safe_load(moved("compose.yaml", *own))["services"]["llmguard"]

        def start(name: str, *command: str, **variables: str) -> None:
            stack.enter_context(running(tmp_path, name, *command, **variables))

        start("model", sys.executable, str(DEPLOY / "demo" / "model.py"), *at["model:8000"].split(":"))
        start(
            "alertmanager",
            alertmanager,
            f"--config.file={tmp_path / 'alertmanager.yml'}",
            f"--storage.path={tmp_path / 'alertmanager'}",
            f"--web.listen-address={at['alertmanager:9093']}",
            "--cluster.listen-address=",
        )
        start(
            "serve",
            *(sys.executable, "-c", "from llmguard.cli import run; run()", "serve", "--port", port["llmguard:8080"]),
            *[re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", option) for option in composed["command"]],
            **composed["environment"],
            OTEL_BSP_SCHEDULE_DELAY="200",
        )
        service = f"http://{at['llmguard:8080']}"
        ready = [f"{service}/readyz", f"http://{at['alertmanager:9093']}/-/ready"]
        assert until(lambda: [url for url in ready if found(url) is None]) == [], (tmp_path / "serve.log").read_text()
        start("traffic", sys.executable, str(DEPLOY / "demo" / "traffic.py"), service)
        server = stack.enter_context(scraping(yaml.safe_dump(config), tmp_path))

        def missing() -> list[str]:
            fired = {one["labels"]["alertname"] for one in server.get("alerts")["alerts"] if one["state"] == "firing"}
            sent = server.get("query", query='llmguard_alerts_total{llmguard_alert_outcome="delivered"} > 0')["result"]
            got = server.get("query_exemplars", query="llmguard_guard_duration_seconds_bucket", start="0", end="9e9")
            shown = {exemplar["labels"]["trace_id"] for series in got for exemplar in series["exemplars"]}
            told = {
                "Prometheus fires": "ManyBlocks" in fired,
                "the proxy has told": bool(sent),
                "exemplars have traces": bool(shown & collector.traces),
            }
            return [what for what, so in told.items() if not so]

        assert until(missing) == [], (tmp_path / "serve.log").read_text()
        (alert,) = httpx.get(f"http://{at['alertmanager:9093']}/api/v2/alerts", timeout=60).json()
        assert not collector.metrics
        assert not collector.events
        assert alert["labels"] == {"alertname": "ManyBlocks", "severity": "warning"}
        assert alert["annotations"]["policy"].startswith("proxy 1 ")
