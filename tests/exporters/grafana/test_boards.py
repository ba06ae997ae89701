"""That every panel of every board shows something, on a real Prometheus, and leads to traces where it says so."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from loaded_demo import LABELS, Demo
from prometheus_server import PrometheusServer, until

from llmguard.exporters.grafana.__main__ import main

BOARDS = Path("deploy/grafana/dashboards")
NAMES = ["detectors", "operations", "overview", "quality"]
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


def board(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((BOARDS / f"{name}.json").read_text(encoding="utf-8"))
    return read


def panels(name: str) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in board(name)["panels"] if panel["type"] != "row")


def targets() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each target with the place where it stands."""
    for name in NAMES:
        for panel in panels(name):
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}: {target['refId']}", target


def asked(expr: str, *, picked: bool) -> str:
    """An expression as Grafana sends it, with everything or each value picked."""
    for name, values in LABELS.items():
        expr = expr.replace(f'"${name}"', f'"({"|".join(values)})"' if picked else '".*"')
    return expr.replace("$__rate_interval", "20s").replace("$__range", "1m")


def test_the_files_are_what_the_code_says(tmp_path: Path) -> None:
    assert main([str(tmp_path / "new")]) == 0
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "new").iterdir()}
    committed = {path.name: path.read_text(encoding="utf-8") for path in BOARDS.iterdir()}
    assert written == committed, f"run: python -m llmguard.exporters.grafana {BOARDS}"
    assert set(committed) == {f"{name}.json" for name in NAMES}


def test_what_was_asked_for_wrongly_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main([]) == main(["--help"]) == main(["a", "b"]) == 2
    assert "usage" in capsys.readouterr().err
    assert main([str(tmp_path / "file")]) == 2
    assert "can't be written: File exists" in capsys.readouterr().err


def test_without_the_package_it_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['grafana_foundation_sdk'] = None; from llmguard.exporters.grafana.__main__ import main"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; sys.exit(main([{str(tmp_path)!r}]))"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "pip install 'llmguard[grafana]'" in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_board_reads_back_as_the_same(name: str) -> None:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    told = board(name)
    assert json.loads(json.dumps(Dashboard.from_json(told), cls=JSONEncoder)) == told


@pytest.mark.parametrize("name", NAMES)
def test_a_board_is_whole(name: str) -> None:
    told = board(name)
    assert told["uid"] == f"llmguard-{name}"
    ids = [panel["id"] for panel in told["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in told["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels(name):
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        axis = panel.get("options", {}).get("yAxis", {})
        unit = axis.get("unit") or panel.get("fieldConfig", {}).get("defaults", {}).get("unit")
        assert unit or panel["type"] in ("table", "state-timeline"), panel["title"]
        assert panel["targets"]


@pytest.mark.parametrize("name", NAMES)
def test_its_variables_are_those_that_its_panels_use(name: str) -> None:
    used = set(re.findall(r"\$(\w+)", json.dumps([panel["targets"] for panel in panels(name)])))
    given = {one["name"] for one in board(name)["templating"]["list"]}
    assert given - {"datasource", "traces"} == used - {"__rate_interval", "__range"}


def test_every_expression_is_promql() -> None:
    for where, target in targets():
        for picked in (False, True):
            assert promql_parser.parse(asked(target["expr"], picked=picked)) is not None, where


def scraped(demo: Demo) -> dict[str, set[str]]:
    """The labels of each name on the pages of the service."""
    found: dict[str, set[str]] = defaultdict(set)
    for host in (demo.own, demo.proxy):
        with urllib.request.urlopen(f"http://{host}/metrics", timeout=60) as page:
            for line in page.read().decode().splitlines():
                if not line.startswith("#"):
                    name, _, rest = line.partition("{")
                    found[name.split(" ")[0]] |= {*re.findall(r'(\w+)="', rest), "job", "instance"}
    # Prometheus' own.
    found["up"] = {"job", "instance"}
    found["ALERTS"] = {"alertname", "alertstate", "severity"}
    return found


def test_every_name_is_on_a_real_page(demo: Demo, prometheus: PrometheusServer) -> None:
    def missing() -> list[str]:
        found = scraped(demo)
        return [
            f"{where}: {name} {label}"
            for where, target in targets()
            for name, inside in _SELECTOR.findall(target["expr"])
            for label in _LABEL.findall(inside)
            if label not in found.get(name, ())
        ]

    assert not (left_out := until(missing)), "\n".join(left_out)


def shows(prometheus: PrometheusServer, expr: str) -> bool:
    """Whether a query has a finite value now."""
    return any(math.isfinite(float(one["value"][1])) for one in prometheus.get("query", query=expr)["result"])


@pytest.mark.parametrize("picked", [False, True], ids=["all", "picked"])
def test_no_panel_is_empty(prometheus: PrometheusServer, picked: bool) -> None:
    left = {(where, asked(target["expr"], picked=picked)) for where, target in targets()}

    def missing() -> list[str]:
        left.difference_update([one for one in left if shows(prometheus, one[1])])
        return sorted(f"{where}: {expr}" for where, expr in left)

    assert not (left_out := until(missing)), "\n".join(left_out)


def test_every_selector_finds_series(prometheus: PrometheusServer) -> None:
    left = {
        f"{name}{{{inside}}}"
        for _, target in targets()
        for name, inside in _SELECTOR.findall(asked(target["expr"], picked=True))
    }
    assert len(left) > 60

    def missing() -> list[str]:
        left.difference_update([one for one in left if prometheus.get("query", query=one)["result"]])
        return sorted(left)

    assert not (left_out := until(missing)), "\n".join(left_out)


def test_exemplars_lead_to_traces(prometheus: PrometheusServer) -> None:
    left = {(where, asked(target["expr"], picked=False)) for where, target in targets() if target.get("exemplar")}
    assert len(left) >= 10

    def missing() -> list[str]:
        for one in list(left):
            now = time.time()
            got = prometheus.get("query_exemplars", query=one[1], start=f"{now - 60:.0f}", end=f"{now + 1:.0f}")
            traces = [exemplar["labels"]["trace_id"] for series in got for exemplar in series["exemplars"]]
            if traces and all(re.fullmatch("[0-9a-f]{32}", trace) for trace in traces):
                left.discard(one)
        return sorted(where for where, _ in left)

    assert not (left_out := until(missing)), "\n".join(left_out)


def test_variables_list_what_there_is(prometheus: PrometheusServer) -> None:
    variables = [one for name in NAMES for one in board(name)["templating"]["list"] if one["type"] == "query"]
    assert {one["name"] for one in variables} == set(LABELS)

    def missing() -> list[str]:
        left = []
        for one in variables:
            parts = re.fullmatch(r"label_values\((.*), (\w+)\)", one["query"]["query"])
            assert parts is not None
            found = prometheus.get("series", **{"match[]": asked(parts[1], picked=False)})
            left += sorted(set(LABELS[one["name"]]) - {series.get(parts[2]) for series in found})
        return left

    assert not (left_out := until(missing)), "\n".join(left_out)
