"""Figures of model servers behind ours, in both formats that Prometheus reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from llmguard.exporters.prometheus import Scrape
from llmguard.exporters.prometheus_text import OPENMETRICS, TEXT
from llmguard.integrations.upstream_metrics import added, passed_on

OWN = Scrape(b"# TYPE llmguard_decisions counter\nllmguard_decisions_total 1.0\n# EOF\n", OPENMETRICS)


def page() -> bytes:
    """As vLLM shows its figures."""
    registry = CollectorRegistry()
    tokens = Counter("vllm:prompt_tokens", 'Tokens of "prompts".', ["model_name"], registry=registry)
    tokens.labels('m "x"\\ } 1').inc(5)
    Gauge("vllm:num_requests_running", "Requests.", registry=registry).set(3)
    Histogram("vllm:e2e_request_latency_seconds", "Latency.", buckets=(0.5, 1.0), registry=registry).observe(0.7)
    Counter("python_gc", "Not theirs.", registry=registry).inc()
    return generate_latest(registry)


def samples(families: object) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in families  # type: ignore[attr-defined]
        for one in family.samples
    }


def test_values_are_the_same_in_both_formats() -> None:
    text = samples(plain(added(Scrape(b"", TEXT), page()).decode()))
    strict = samples(openmetrics(added(OWN, page()).decode()))
    own = ("llmguard_decisions_total", ())
    assert strict.pop(own) == 1
    assert strict == {key: value for key, value in text.items() if not key[0].endswith("_created")}
    assert strict["vllm:prompt_tokens_total", (("model_name", 'm "x"\\ } 1'),)] == 5
    assert strict["vllm:e2e_request_latency_seconds_bucket", (("le", "1.0"),)] == 1
    assert not [name for name, _ in strict if name.startswith("python")]


def test_what_openmetrics_knows_otherwise_is_said_otherwise() -> None:
    triton = (
        b"# HELP nv_inference_request_success Successes.\n# TYPE nv_inference_request_success counter\n"
        b'nv_inference_request_success{model="m",version="1",} 7 1700000000000\n'
        b"# TYPE tgi_queue_size untyped\n# UNIT tgi_queue_size requests\ntgi_queue_size 2\r\n"
    )
    got = list(openmetrics(added(OWN, triton.replace(b",}", b"}")).decode()))
    assert {one.name: one.type for one in got if one.name != "llmguard_decisions"} == {
        "nv_inference_request_success": "unknown",
        "tgi_queue_size": "unknown",
    }
    assert all(sample.timestamp is None for one in got for sample in one.samples)
    assert passed_on(triton).count(b"\n") == 6


@pytest.mark.parametrize(
    "line",
    [
        b"vllm:x",
        b"vllm:x y",
        b'vllm:x{a="b} 1',
        b"vllm:x{a=b} 1",
        b"vllm:x 1 2 3",
        b"vllm:x 1.2.3",
        b'vllm:x{a="b"} 1 # {trace_id="c"} 1',
        b"my_vllm:x 1",
        b"VLLM:x 1",
        b"# TYPE vllm:x bird",
        b"# EOF",
        b"",
    ],
)
def test_a_line_that_prometheus_cant_read_costs_that_line_alone(line: bytes) -> None:
    both = line + b"\nvllm:y 1\n" + line
    assert passed_on(both) == passed_on(both, openmetrics=True) == b"vllm:y 1\n"


PIECES = [b"vllm:a", b"nv_", b'{a="', b'"}', b"\\", b" 1", b"\n", b"# TYPE ", b"\xff", b" counter"]


@given(st.lists(st.sampled_from(PIECES)))
def test_of_anything_something_readable_is_made(pieces: list[bytes]) -> None:
    for line in passed_on(b"".join(pieces)).decode().splitlines():
        if not line.startswith("# "):
            assert list(plain(line + "\n"))
