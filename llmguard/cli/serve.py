"""``llmguard serve``: a reverse proxy that guards."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from llmguard.cli.policy import named
from llmguard.cli.serve_files import more_files
from llmguard.cli.serve_telemetry import set_up
from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.guard import Guard

# Objects between two looks for cycles, and looks until an older generation has its own: one look each ten calls or so.
_COLLECTED = (20_000, 20, 50)
# Where uvicorn's access log has a request's path and query: behind the client's address and the method.
_TARGET = 2


def serve(
    upstream: Annotated[str, typer.Option(help="URL of the server that answers.", show_default=False)],
    policy: Annotated[
        str | None, typer.Option(metavar="FILE|PRESET", help="Policy file or preset; the default preset if not given.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any.", min=0, max=65535)] = 8080,
    dialect: Annotated[
        list[str] | None, typer.Option(help="Wire format that is let through; again for more; all by default.")
    ] = None,
    unmatched: Annotated[
        Literal["refuse", "pass"], typer.Option(help="What happens to calls in no known wire format.")
    ] = "refuse",
    limit_bytes: Annotated[int, typer.Option(help="Bytes of a body, decompressed.", min=1)] = 32 * 1024 * 1024,
    timeout: Annotated[float, typer.Option(help="Seconds for all of a call, streams included.")] = 900.0,
    connect_timeout: Annotated[float, typer.Option(help="Seconds until a connection to the upstream stands.")] = 5.0,
    read_timeout: Annotated[float, typer.Option(help="Seconds between two pieces of an answer.")] = 300.0,
    connections: Annotated[int, typer.Option(help="Calls to the upstream at a time.", min=1)] = 1000,
    drain: Annotated[int, typer.Option(help="Seconds that calls may still take when the server stops.", min=0)] = 30,
    conversation_header: Annotated[
        str | None,
        typer.Option(help="Header that names a conversation; who can set it can have its placeholders restored."),
    ] = None,
    prompt_header: Annotated[
        str | None, typer.Option(help="Header that names a prompt template: name, version, variant.")
    ] = None,
    tenant_header: Annotated[
        str | None, typer.Option(help="Header that names a tenant: tenants take turns at a model.")
    ] = None,
    health_path: Annotated[str, typer.Option(help="Path of the upstream that /readyz asks.")] = "/health",
    metrics_path: Annotated[str, typer.Option(help="Path of the upstream's own metrics; '' for none.")] = "/metrics",
    trust_proxy: Annotated[
        str, typer.Option(metavar="ADDRESSES", help="Proxies before this one whose X-Forwarded-For is believed.")
    ] = "",
    trace_share: Annotated[
        float | None,
        typer.Option(
            help="Share of the traces that are sent, besides those of blocks and failures; by default as "
            "OTEL_TRACES_SAMPLER says.",
            min=0,
            max=1,
        ),
    ] = None,
    access_log: Annotated[bool, typer.Option(help="Log every request's line: method, path, status.")] = False,
) -> None:
    """Guards every call to a model server: change your application's base URL to this one's.

    Stops on SIGTERM and SIGINT, after the calls that are under way have been answered. /metrics has its figures; where
    OTEL_EXPORTER_OTLP_ENDPOINT names a collector, traces, metrics and logs go there, too.
    """
    try:
        import uvicorn

        from llmguard.integrations.proxy import Proxy
        from llmguard.integrations.upstream import Limits, Upstream
    except ImportError as error:
        raise MissingExtraError("llmguard serve", error.name or "uvicorn", "proxy") from None
    for path in (health_path, metrics_path):
        if path and not path.startswith("/"):
            raise ConfigurationError(f"a path begins with a slash, not as {path!r}")
    limits = Limits(connect=connect_timeout, read=read_timeout, total=timeout, connections=connections)
    server = Upstream(upstream, limits)
    chosen = named(policy)
    telemetry = set_up(trace_share)
    guard = Guard(chosen, **telemetry.providers)
    app = Proxy(
        server,
        guard,
        metrics=telemetry.scrape,
        health=health_path,
        upstream_metrics=metrics_path,
        at_end=telemetry.end,
        dialects=dialect,
        unmatched=unmatched,
        limit=limit_bytes,
        conversation=conversation_header,
        prompt=prompt_header,
        tenant=tenant_header,
    )
    _collect_less()
    more_files(connections)
    typer.echo(f"llmguard: guarding {server.origin}{server.prefix} by policy {guard.policy.name!r}", err=True)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="info" if access_log else "warning",
        access_log=access_log,
        log_config=_logging(uvicorn.config.LOGGING_CONFIG),
        server_header=False,
        proxy_headers=bool(trust_proxy),
        forwarded_allow_ips=trust_proxy or None,
        ws="none",
        timeout_graceful_shutdown=drain,
    )


def _collect_less() -> None:
    """Has the garbage collector leave alone what stays as long as the server, and look for cycles more rarely.

    Python looks through what is new each 700 objects, which is several times a call, and now and then through all that
    was ever imported; each look drives the next call's code out of the processor's caches.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED)


class PathOnly(logging.Filter):
    """Takes the query off the lines of uvicorn's access log: some APIs have their keys there."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record, its third argument without what is behind a question mark."""
        if isinstance(record.args, tuple) and len(record.args) > _TARGET:
            args = list(record.args)
            args[_TARGET] = str(args[_TARGET]).partition("?")[0]
            record.args = tuple(args)
        return True


def _logging(config: Mapping[str, Any]) -> dict[str, Any]:
    """Uvicorn's own configuration of logging, with that filter."""
    loggers = config["loggers"]
    access = {**loggers["uvicorn.access"], "filters": ["path"]}
    filters = {**config.get("filters", {}), "path": {"()": PathOnly}}
    return {**config, "filters": filters, "loggers": {**loggers, "uvicorn.access": access}}
