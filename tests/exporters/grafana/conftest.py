"""A service under load, and a real Prometheus that scrapes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from loaded_demo import Demo, loaded_demo
from prometheus_server import PrometheusServer, needed, scraping

_CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - {{job_name: demo, static_configs: [{{targets: ["{own}"]}}]}}
  - {{job_name: upstream, static_configs: [{{targets: ["{proxy}"], labels: {{job: demo}}}}]}}
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The service."""
    needed("prometheus")
    with loaded_demo(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture(scope="module")
def prometheus(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """What scrapes it."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "rules.yml").write_text(demo.rules)
    with scraping(_CONFIG.format(own=demo.own, proxy=demo.proxy), folder) as server:
        yield server
