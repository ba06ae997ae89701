"""What Prometheus scrapes: in an ASGI application, or on a port of its own; with exemplars, and for many workers."""

from __future__ import annotations

import atexit
import http.server
import os
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakMethod

from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.exporters.prometheus_families import families
from llmguard.exporters.prometheus_text import OPENMETRICS, TEXT, wants_openmetrics, written
from llmguard.exporters.prometheus_workers import Workers

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader

Message = MutableMapping[str, Any]

_MAX_PORT = 65535


class Scrape(NamedTuple):
    """An answer to Prometheus: its body, and the value of ``content-type``."""

    body: bytes
    content_type: str


class Prometheus:
    """The figures of a meter provider, as Prometheus reads them.

    It is an ASGI application that can be mounted at ``/metrics``, serves itself (`serve`), or is asked (`scrape`).
    Names are those of OpenTelemetry's own exporter. Whoever asks for OpenMetrics gets exemplars, too, which lead from
    a bucket to a trace.

    ::

        prometheus = Prometheus()
        guard = Guard(meter_provider=prometheus.meter_provider())
        prometheus.serve(9464)

    Args:
        directory: that worker processes share, where there are several: each of them then answers for all. Those that
            nobody scrapes tell the others how they are every ``interval_s``. Empty it when the service starts.
        interval_s: see above.

    Attributes:
        reader: for a meter provider that is made elsewhere.

    Raises:
        ConfigurationError: an argument is none of those, or the directory can't be written.
        MissingExtraError: opentelemetry-sdk is not installed.
    """

    def __init__(self, *, directory: str | os.PathLike[str] | None = None, interval_s: float = 5.0) -> None:
        try:
            from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        except ImportError:
            raise MissingExtraError("Prometheus", "opentelemetry.sdk", "otel") from None
        if not isinstance(interval_s, int | float) or not 0 < interval_s <= threading.TIMEOUT_MAX:
            raise ConfigurationError(f"interval_s must be seconds, more than 0, not {interval_s!r}")
        if directory is not None and (not isinstance(directory, str | os.PathLike) or not os.fspath(directory)):
            raise ConfigurationError(f"directory must name one, not {directory!r}")
        self._collected = InMemoryMetricReader()
        self.reader: MetricReader = self._collected
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._server: http.server.ThreadingHTTPServer | None = None
        self._workers = Workers(directory) if directory is not None else None
        if self._workers is not None:
            self._tell_others()
            atexit.register(self.shutdown)
        if hasattr(os, "register_at_fork"):
            forked = WeakMethod(self._forked)
            os.register_at_fork(after_in_child=lambda: (reset := forked()) and reset())

    def meter_provider(self, **options: Any) -> MeterProvider:
        """A meter provider whose figures these are.

        Args:
            options: of the SDK's ``MeterProvider``, such as ``resource`` and further ``metric_readers``.
        """
        from opentelemetry.sdk.metrics import MeterProvider

        return MeterProvider([self.reader, *options.pop("metric_readers", ())], **options)

    def scrape(self, accept: str = "") -> Scrape:
        """All figures now.

        Args:
            accept: the header of the request; OpenMetrics where it asks for that.

        Raises:
            OSError: the directory of the workers can't be read or written.
        """
        with self._lock:
            figures = families(self._collected.get_metrics_data())
            if self._workers is not None:
                figures = self._workers.told(figures)
        openmetrics = wants_openmetrics(accept)
        return Scrape(written(figures, openmetrics), OPENMETRICS if openmetrics else TEXT)

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            raise ConfigurationError(f"Prometheus answers http alone, not {scope['type']}: mount it at a path")
        import asyncio

        del receive
        accept = b",".join(value for key, value in scope["headers"] if key.lower() == b"accept").decode("latin-1")
        if scope["method"] not in ("GET", "HEAD"):
            status, told = 405, Scrape(b"", TEXT)
        else:
            status, told = 200, await asyncio.to_thread(self.scrape, accept)
        headers = [
            (b"content-type", told.content_type.encode()),
            (b"content-length", str(len(told.body)).encode()),
            (b"vary", b"accept"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else told.body})

    def serve(self, port: int = 9464, host: str = "127.0.0.1") -> int:
        """Answer ``GET /metrics`` on a port of its own, on a thread, until `shutdown`.

        Args:
            port: to listen on; 0 for any.
            host: address to listen on.

        Returns:
            The port.

        Raises:
            ConfigurationError: it is served already, or the address can't be listened on.
        """
        if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= _MAX_PORT:
            raise ConfigurationError(f"port must be a whole number from 0 to {_MAX_PORT}, not {port!r}")
        if self._server is not None:
            raise ConfigurationError(f"the figures are served already, on port {self._server.server_port}")
        try:
            self._server = http.server.ThreadingHTTPServer((host, port), _handler(self))
        except OSError as error:
            raise ConfigurationError(f"can't listen on {host}:{port}: {error.strerror}") from error
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="llmguard-prometheus", daemon=True).start()
        return self._server.server_port

    def shutdown(self) -> None:
        """Stop serving; tell the other workers a last time.

        Raises:
            OSError: the directory of the workers can't be read or written.
        """
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        if self._workers is not None and not self._stop.is_set():
            self._stop.set()
            self.scrape()

    def _tell_others(self) -> None:
        stop = self._stop = threading.Event()

        def tell() -> None:
            while not stop.wait(self._interval_s):
                with suppress(OSError):  # a scrape says it
                    self.scrape()

        threading.Thread(target=tell, name="llmguard-prometheus", daemon=True).start()

    def _forked(self) -> None:
        self._lock = threading.Lock()
        if self._server is not None:
            self._server.server_close()  # the parent serves on; here the port would be held, and nobody would answer
            self._server = None
        if self._workers is not None:
            self._tell_others()


def _handler(prometheus: Prometheus) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        server_version = "llmguard"
        sys_version = ""
        timeout = 10.0

        def do_GET(self) -> None:
            if self.path.partition("?")[0] not in ("/", "/metrics"):
                self.send_error(404)
                return
            try:
                told = prometheus.scrape(self.headers.get("accept", ""))
            except OSError:
                self.send_error(500)
                return
            self.send_response(200)
            self.send_header("content-type", told.content_type)
            self.send_header("content-length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            del format, args

    return Handler
