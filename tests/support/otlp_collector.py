"""A collector of OpenTelemetry, as far as tests need one: keeps what it was sent."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb

KINDS = {
    "/v1/traces": (trace_pb.ExportTraceServiceRequest, trace_pb.ExportTraceServiceResponse),
    "/v1/metrics": (metrics_pb.ExportMetricsServiceRequest, metrics_pb.ExportMetricsServiceResponse),
    "/v1/logs": (logs_pb.ExportLogsServiceRequest, logs_pb.ExportLogsServiceResponse),
}


class Collector:
    """What a collector was sent, by path, with the headers of the requests."""

    def __init__(self) -> None:
        self.got: dict[str, list[Any]] = {path: [] for path in KINDS}
        self.headers: list[dict[str, str]] = []
        self.url = ""

    def take(self, path: str, message: Any, headers: Any) -> Any:
        self.got[path].append(message)
        self.headers.append({str(key).lower(): str(value) for key, value in headers})
        return KINDS[path][1]()

    @property
    def spans(self) -> list[str]:
        return [span.name for span in self._spans()]

    @property
    def traces(self) -> set[str]:
        return {span.trace_id.hex() for span in self._spans()}

    def _spans(self) -> list[Any]:
        return [
            span
            for message in self.got["/v1/traces"]
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def metrics(self) -> set[str]:
        return {
            metric.name
            for message in self.got["/v1/metrics"]
            for resource in message.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    @property
    def events(self) -> list[str]:
        return [
            record.event_name
            for message in self.got["/v1/logs"]
            for resource in message.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]


@contextmanager
def collecting() -> Iterator[Collector]:
    """One that is reached over HTTP."""
    collector = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = KINDS[self.path][0].FromString(self.rfile.read(int(self.headers["content-length"])))
            body = collector.take(self.path, message, self.headers.items()).SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
