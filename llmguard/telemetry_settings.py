"""What telemetry a guard emits, as options that a policy file or the environment can set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from llmguard.errors import ConfigurationError, nearest
from llmguard.prices import Price, Prices
from llmguard.semconv import CONTENT_MODES, CONVENTIONS

_PREFIX = "LLMGUARD_TELEMETRY_"
_TRUE = frozenset({"1", "true", "on", "yes"})
_FALSE = frozenset({"0", "false", "off", "no"})
# NIST SP 800-107 r1, section 5.3.2: an HMAC key shorter than its security strength weakens it.
_MIN_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What telemetry a guard emits.

    Attributes:
        semconv: version of the GenAI conventions, ``v1.41`` or ``latest``.
        semconv_guardrail: ``experimental`` adds the proposed ``gen_ai.guardrail.result`` event.
        openinference: marks guard spans as OpenInference's kind ``GUARDRAIL``.
        detect_spans: adds a span for each detector that ran.
        span_events: repeats findings and failures as events of the guard span.
        content: where cleared texts go: ``NO_CONTENT``, ``SPAN_ONLY``, ``EVENT_ONLY``, ``SPAN_AND_EVENT`` in any
            case, or ``env`` for what ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` says.
        content_hash_key: key of ``llmguard.content.hash``, at least 16 bytes; None leaves the hash out.
        inference_span: who tells of the call of the model itself. ``auto``: llmguard does, unless another
            instrumentation of the client is active or the call is made inside its span; ``always``; ``never``.
        prices: what tokens cost, for ``llmguard.cost``: the path of a YAML or JSON file, or a mapping. There are none
            built in.
        enabled: False emits nothing at all.

    Raises:
        ConfigurationError: a value is none of those.
    """

    semconv: str = "v1.41"
    semconv_guardrail: str = "off"
    openinference: bool = False
    detect_spans: bool = False
    span_events: bool = False
    content: str = "env"
    content_hash_key: bytes | None = field(default=None, repr=False)
    inference_span: str = "auto"
    prices: Prices | Mapping[str, Price | Mapping[str, float]] | str | Path | None = None
    enabled: bool = True

    def __post_init__(self) -> None:
        _one_of("semconv", self.semconv, tuple(CONVENTIONS))
        _one_of("semconv_guardrail", self.semconv_guardrail, ("off", "experimental"))
        _one_of("inference_span", self.inference_span, ("auto", "always", "never"))
        if self.prices is not None:
            try:
                object.__setattr__(self, "prices", Prices.from_any(self.prices))
            except ConfigurationError as error:
                raise ConfigurationError(f"telemetry.prices: {error}") from None
        if not isinstance(self.content, str) or self.content.strip().upper() not in (*CONTENT_MODES, "ENV"):
            hint = nearest(str(self.content).upper(), CONTENT_MODES)
            raise ConfigurationError(f"telemetry.content: {self.content!r} is no content mode{hint}")
        for name in ("openinference", "detect_spans", "span_events", "enabled"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"telemetry.{name}: {getattr(self, name)!r} is neither true nor false")
        key = self.content_hash_key
        if key is not None and (not isinstance(key, bytes) or len(key) < _MIN_KEY_BYTES):
            raise ConfigurationError(f"telemetry.content_hash_key: it takes at least {_MIN_KEY_BYTES} bytes")

    @property
    def price_table(self) -> Prices | None:
        """``prices``, read; None where none are given."""
        return self.prices if isinstance(self.prices, Prices) else None

    @classmethod
    def parse(cls, options: Mapping[str, object], *, source: str = "") -> TelemetrySettings:
        """Settings from the ``telemetry`` section of a policy file.

        Args:
            options: by name; ``content_hash_key`` may be text, which is taken as UTF-8.
            source: the file, for errors.

        Raises:
            ConfigurationError: an unknown option or a wrong value.
        """
        known = [option.name for option in fields(cls)]
        values = dict(options)
        for name in values:
            if name not in known:
                raise ConfigurationError(f"telemetry.{name} is no option{nearest(str(name), known)}", source=source)
        if isinstance(key := values.get("content_hash_key"), str):
            values["content_hash_key"] = key.encode()
        for switch in ("semconv_guardrail",):
            if values.get(switch) is False:  # YAML 1.1 reads a bare `off` as false
                values[switch] = "off"
        try:
            return cls(**values)  # type: ignore[arg-type]
        except ConfigurationError as error:
            raise ConfigurationError(error.message, source=source) from None

    @classmethod
    def from_env(cls, base: TelemetrySettings | None = None) -> TelemetrySettings:
        """Settings with those that the environment says as ``LLMGUARD_TELEMETRY_`` and the option's name.

        Args:
            base: where the environment says nothing; the defaults without it.

        Raises:
            ConfigurationError: a value is wrong; names the variable.
        """
        said: dict[str, object] = {}
        for option in fields(cls):
            variable = _PREFIX + option.name.upper()
            value = os.environ.get(variable, "").strip()
            if not value:
                continue
            said[option.name] = value
            if option.type == "bool":
                if value.lower() not in _TRUE | _FALSE:
                    raise ConfigurationError(f"{value!r} is neither true nor false", source=variable)
                said[option.name] = value.lower() in _TRUE
            elif option.name == "content_hash_key":
                said[option.name] = value.encode()
        try:
            return replace(base or cls(), **said)  # type: ignore[arg-type]
        except ConfigurationError as error:
            raise ConfigurationError(error.message, source="environment") from None


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigurationError(f"telemetry.{name}: {value!r} is not one of them{nearest(str(value), known)}")
