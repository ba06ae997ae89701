"""Telemetry of ``llmguard serve``: figures that Prometheus reads, and what the environment wants sent by OTLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llmguard.errors import MissingExtraError
from llmguard.exporters.otlp_providers import Otlp, configured
from llmguard.exporters.prometheus import Prometheus, Scrape

# Seconds that the last telemetry may take to a collector that does not answer.
_LAST_S = 5.0


class ServeTelemetry(NamedTuple):
    """What is set up.

    Attributes:
        providers: arguments of `Guard`; empty where the process has its own.
        scrape: the figures for an ``Accept`` header; None where there is nothing that they could be read with.
        end: sends what waits, and stops.
    """

    providers: dict[str, Any]
    scrape: Callable[[str], Scrape] | None
    end: Callable[[], None] | None


def set_up(share: float | None) -> ServeTelemetry:
    """Figures to be scraped, and the signals for which the environment names a collector.

    Providers that were set up around the process, as ``opentelemetry-instrument`` does it, stay as they are.

    Args:
        share: of the traces that are kept, see `Otlp`.

    Raises:
        ConfigurationError: a variable of OpenTelemetry is wrong.
        MissingExtraError: the environment names a collector, and opentelemetry-sdk or an exporter is not installed.
    """
    signals = configured()
    try:
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
    except ImportError:
        if signals:
            raise MissingExtraError("OTLP", "opentelemetry.sdk", "otel") from None
        return ServeTelemetry({}, None, None)
    figures = Prometheus()
    around = metrics.get_meter_provider()
    if isinstance(around, MeterProvider):
        # Older SDKs take a provider's readers when it is made alone.
        add = getattr(around, "add_metric_reader", None)
        if add is None:
            return ServeTelemetry({}, None, None)
        add(figures.reader)
        return ServeTelemetry({}, figures.scrape, None)
    if not signals:
        return ServeTelemetry({"meter_provider": figures.meter_provider()}, figures.scrape, None)
    otlp = Otlp(share=share, signals=signals, readers=[figures.reader], everywhere=False)
    providers: dict[str, Any] = {"meter_provider": otlp.meters}
    if "traces" in signals:
        providers["tracer_provider"] = otlp.tracers
    if "logs" in signals:
        providers["logger_provider"] = otlp.loggers
    return ServeTelemetry(providers, figures.scrape, lambda: otlp.shutdown(_LAST_S))
