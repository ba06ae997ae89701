"""Panels about the model servers behind a proxy, by the figures that they have themselves.

The names are those that the servers document: https://docs.vllm.ai/en/stable/usage/metrics/,
https://huggingface.co/docs/text-generation-inference/reference/metrics, and
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html
"""

from __future__ import annotations

from collections.abc import Sequence

from llmguard.exporters.grafana import promql as q
from llmguard.exporters.grafana.panels import (
    COUNT,
    PER_SECOND,
    SECONDS,
    SHARE,
    Limits,
    PanelBuilder,
    Query,
    chart,
    quantiles,
)

_MICRO = "/ 1e6"


def vllm() -> Sequence[PanelBuilder]:
    """What vLLM says of itself."""
    cache = "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"  # the second one up to 0.9
    return [
        chart(
            "Requests that run and wait",
            "If some wait for long, the server is full: add one, or let clients send less at a time.",
            COUNT,
            Query(f"sum({q.named('vllm:num_requests_running')})", "running"),
            Query(f"sum({q.named('vllm:num_requests_waiting')})", "waiting"),
            width=8,
        ),
        chart(
            "Cache of keys and values",
            "How full it is. At 1 requests are put off, and begun again later: shorter contexts, or more memory.",
            SHARE,
            Query(
                f"max by (model_name) ({' or '.join([q.named(one) for one in cache])})",
                "{{model_name}}",
            ),
            limits=Limits(0.8, 0.95),
            most=1,
            width=8,
        ),
        chart(
            "Put off for want of memory",
            "Requests a second that lost their place in the cache and begin again.",
            PER_SECOND,
            Query(q.rate(q.named("vllm:num_preemptions_total")), "preempted"),
            limits=Limits(0.1, 1),
            width=8,
        ),
        chart(
            "Time to the first token",
            "As the server measures it. Where the overview's is much longer, the time is lost on the way.",
            SECONDS,
            *quantiles(q.named("vllm:time_to_first_token_seconds", "bucket")),
            limits=Limits(1, 5),
            width=8,
        ),
        chart(
            "A whole request",
            "From its arrival to its last token.",
            SECONDS,
            *quantiles(q.named("vllm:e2e_request_latency_seconds", "bucket")),
            width=8,
        ),
        chart(
            "Tokens",
            "Read and written a second.",
            PER_SECOND,
            Query(q.rate(q.named("vllm:prompt_tokens_total")), "input"),
            Query(q.rate(q.named("vllm:generation_tokens_total")), "output"),
            width=8,
        ),
    ]


def tgi() -> Sequence[PanelBuilder]:
    """What Text Generation Inference says of itself."""
    return [
        chart(
            "Queue and batch",
            "If the queue grows while the batch does not, memory is what lacks: `--max-batch-total-tokens`.",
            COUNT,
            Query(f"sum({q.named('tgi_queue_size')})", "waiting"),
            Query(f"sum({q.named('tgi_batch_current_size')})", "in the batch"),
            width=8,
        ),
        chart(
            "A whole request",
            "From its arrival to its last token.",
            SECONDS,
            *quantiles(q.named("tgi_request_duration", "bucket")),
            width=8,
        ),
        chart(
            "Waiting in the queue",
            "Before a request is begun.",
            SECONDS,
            *quantiles(q.named("tgi_request_queue_duration", "bucket")),
            limits=Limits(1, 5),
            width=8,
        ),
        chart(
            "Time per token",
            "The mean of each request.",
            SECONDS,
            *quantiles(q.named("tgi_request_mean_time_per_token_duration", "bucket")),
            limits=Limits(0.1, 0.5),
            width=8,
        ),
        chart(
            "Requests",
            "A second: those that came, and those that ended well. What lies between has failed.",
            PER_SECOND,
            Query(q.rate(q.named("tgi_request_count")), "came"),
            Query(q.rate(q.named("tgi_request_success")), "ended well"),
            width=8,
        ),
        chart(
            "Failures",
            "A second, by why. `overloaded` asks for another server, `validation` for shorter inputs.",
            PER_SECOND,
            Query(q.rate(q.named("tgi_request_failure"), "err"), "{{err}}"),
            width=8,
        ),
    ]


def triton() -> Sequence[PanelBuilder]:
    """What Triton says of itself."""
    asked = q.named("nv_inference_request_success")
    return [
        chart(
            "Requests",
            "Inferences that were answered, a second, by model.",
            PER_SECOND,
            Query(q.rate(asked, "model"), "{{model}}"),
            stacked=True,
            width=8,
        ),
        chart(
            "Failures",
            "Share of the requests that failed, by model. The server's log says why.",
            SHARE,
            Query(q.share(q.named("nv_inference_request_failure"), asked, "model"), "{{model}}"),
            limits=Limits(0.001, 0.01),
            width=8,
        ),
        chart(
            "Waiting",
            "Requests that have not begun, by model. If they grow: more instances of the model, or larger batches.",
            COUNT,
            Query(f"sum by (model) ({q.named('nv_inference_pending_request_count')})", "{{model}}"),
            width=8,
        ),
        chart(
            "In the queue",
            "The mean for a request, by model.",
            SECONDS,
            Query(_each("nv_inference_queue_duration_us"), "{{model}}"),
            limits=Limits(0.1, 1),
            width=8,
        ),
        chart(
            "A whole request",
            "The mean for a request from its arrival to its answer, by model.",
            SECONDS,
            Query(_each("nv_inference_request_duration_us"), "{{model}}"),
            width=8,
        ),
        chart(
            "Requests in a batch",
            "Inferences by executions, by model. Near 1 under load: no dynamic batching, or too short a delay.",
            COUNT,
            Query(
                q.ratio(
                    q.rate(q.named("nv_inference_count"), "model"), q.rate(q.named("nv_inference_exec_count"), "model")
                ),
                "{{model}}",
            ),
            width=8,
        ),
    ]


def _each(name: str) -> str:
    """The mean seconds of a request, by model, from a counter of microseconds."""
    counted = q.rate(q.named("nv_inference_request_success"), "model")
    return q.ratio(f"{q.rate(q.named(name), 'model')} {_MICRO}", counted)
