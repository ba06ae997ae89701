"""What a policy says about alerts, as plain values."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.inhibition import Inhibition
from llmguard.exporters.alerts.routing import Routing
from llmguard.exporters.alerts.rule import Rule
from llmguard.exporters.alerts.silences import Silence
from llmguard.types import PolicyRef

_A_POLICY = PolicyRef("policy", "", "")


@dataclass(frozen=True)
class Plan:
    """Who is told what.

    Attributes:
        rules: when somebody is told.
        sinks: who, by name: the settings that `sinks.build` understands.
        policy: that says so; notices name it.
        routing: when groups of alerts go out.
        inhibitions: which alerts keep others from being told.
        silences: of which alerts nothing is told for a while.
        outbox: the file in which messages wait; without it one of the policy's in the state directory.
        every_s: seconds between two looks at the rules.

    Raises:
        ConfigurationError: a rule names a sink that is not there, or the time is none.
    """

    rules: tuple[Rule, ...]
    sinks: Mapping[str, Mapping[str, Any]] = field(repr=False)
    policy: PolicyRef = _A_POLICY
    routing: Routing = field(default_factory=Routing)
    inhibitions: tuple[Inhibition, ...] = ()
    silences: tuple[Silence, ...] = ()
    outbox: str | None = None
    every_s: float = 10.0

    def __post_init__(self) -> None:
        for rule in self.rules:
            for sink in rule.sinks:
                if sink not in self.sinks:
                    raise ConfigurationError(f"the rule {rule.alert!r} tells the sink {sink!r}, which there is not")
        if not 0 < self.every_s < math.inf or self.every_s > threading.TIMEOUT_MAX:
            raise ConfigurationError(f"every_s must be seconds, more than 0, not {self.every_s!r}")
