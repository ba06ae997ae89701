"""That the files of deploy/ fit together: mounts are there, ports agree, nothing runs as root, no secret is in them."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_server import needed

from llmguard import Policy
from llmguard.exporters.alerts.prometheus_rules import rule_file

DEPLOY = Path("deploy")
_PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*")
_VARIABLE = re.compile(r"\$\{\w+(?::[-?]([^}]*))?\}")


def read(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_text(encoding="utf-8"))


COMPOSE = read("compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def mounts(service: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for volume in service.get("volumes", ()):
        source, target, *mode = volume.split(":")
        yield source, target, "".join(mode)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_small_and_not_root(name: str) -> None:
    service = SERVICES[name]
    assert _PINNED.fullmatch(service["image"]), service["image"]
    user, _, _ = service["user"].partition(":")
    assert int(user) > 0
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert "privileged" not in service
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    for source, target, mode in mounts(service):
        assert target.startswith("/")
        if source.startswith("."):
            assert (DEPLOY / source).exists(), source
            assert mode == "ro", source
        else:
            assert source in COMPOSE["volumes"]
    for other in service.get("depends_on", ()):
        assert "healthcheck" in SERVICES[other], other


def test_those_without_a_healthcheck_are_watched_by_prometheus() -> None:
    jobs = {job["job_name"] for job in read("prometheus/prometheus.yml")["scrape_configs"]}
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} - {"traffic"} <= jobs


def test_who_calls_whom_by_a_port_on_which_it_listens() -> None:
    serves = {
        "llmguard": {8080},
        "model": {8000},
        "collector": {4317, 4318, 8888},
        "tempo": {read("tempo/tempo.yaml")["server"]["http_listen_port"], 4317},
        "prometheus": {9090},
        "alertmanager": {9093},
        "grafana": {3000},
    }
    files = [*DEPLOY.rglob("*.y*ml"), DEPLOY / "Dockerfile"]
    called: set[tuple[str, int]] = set()
    for path in files:
        found = re.findall(rf"\b({'|'.join(serves)}):(\d{{4}})\b", path.read_text(encoding="utf-8"))
        called |= {(name, int(port)) for name, port in found}
        assert all(int(port) in serves[name] for name, port in found), path
    assert {name for name, _ in called} == set(serves)
    exposed = re.search(r"EXPOSE (.*)", (DEPLOY / "Dockerfile").read_text())
    assert exposed is not None
    assert {int(port) for port in exposed[1].split()} == serves["llmguard"]
    inside = {name: {int(port.split(":")[2]) for port in one.get("ports", ())} for name, one in SERVICES.items()}
    assert all(ports <= serves.get(name, set()) for name, ports in inside.items())


def test_boards_and_sources_are_where_grafana_looks_for_them() -> None:
    sources = read("grafana/provisioning/datasources/llmguard.yaml")["datasources"]
    by_uid = {source["uid"]: source for source in sources}
    links = by_uid["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert links == [{"name": "trace_id", "datasourceUid": "tempo"}]
    assert by_uid["tempo"]["type"] == "tempo"
    (provider,) = read("grafana/provisioning/dashboards/llmguard.yaml")["providers"]
    mounted = {target: source for source, target, _ in mounts(SERVICES["grafana"])}
    boards = DEPLOY / mounted[provider["options"]["path"]]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (boards / Path(home).name).is_file()
    assert "--enable-feature=exemplar-storage" in SERVICES["prometheus"]["command"]


def test_the_image_is_made_of_what_there_is_and_not_root() -> None:
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert len(bases) == 2
    assert all(_PINNED.fullmatch(base) for base in bases)
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users == [SERVICES["llmguard"]["user"]] == ["10001:10001"]
    for line in lines:
        if line.startswith("COPY") and "--from" not in line:
            assert all(Path(source).exists() for source in line.split()[1:-1]), line
    extras = re.search(r"'\.\[([\w,]+)\]'", "\n".join(lines))
    assert extras is not None
    known = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras[1].split(",")) <= set(known)
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY") and "--from" not in line]
    assert {f"!{source}" for sources in copied for source in sources} <= set(kept)


def test_no_secret_stands_in_it() -> None:
    grafana = SERVICES["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"]
    assert re.fullmatch(r"\$\{\w+:\?.*\}", grafana), "no default: the start fails without one"
    for path in DEPLOY.rglob("*"):
        if path.is_file() and "dashboards" not in path.parts:
            said = path.read_text(encoding="utf-8")
            assert not re.search(r"(?i)(password|token|secret|api_key)\s*[:=]\s*['\"]?[\w+/-]{8,}", said), path


def test_the_rules_are_those_of_the_policy() -> None:
    policy = Policy.load(DEPLOY / "policy.yaml")
    made = rule_file([one.rule for one in policy.alerts.rules], policy.ref, policy.alerts.every_s)
    assert not made.left_out
    written = (DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8")
    assert written == made.as_yaml(), "run: llmguard alerts rules deploy/policy.yaml > deploy/prometheus/rules.yml"


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (["promtool", "check", "config"], "prometheus/prometheus.yml"),
        (["amtool", "check-config"], "alertmanager/alertmanager.yml"),
    ],
)
def test_prometheus_and_alertmanager_take_their_files(command: list[str], file: str) -> None:
    done = subprocess.run([needed(command[0]), *command[1:], str(DEPLOY / file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
