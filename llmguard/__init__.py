"""llmguard looks at every text of an LLM call, decides by a policy, and tells OpenTelemetry.

::

    guard = llmguard.Guard()
    decision = guard.check("Mail me at ada@example.com", stage="input")
    decision.action, decision.text, decision.findings
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from llmguard.errors import (
    Blocked,
    ConfigurationError,
    DetectorError,
    LlmGuardError,
    MissingExtraError,
    VaultError,
)
from llmguard.types import (
    Action,
    Decision,
    Detector,
    DetectorRun,
    Finding,
    Incremental,
    Outcome,
    PolicyRef,
    Role,
    Scope,
    Stage,
    Text,
)

if TYPE_CHECKING:
    from llmguard.detectors.function import detector
    from llmguard.guard import Guard
    from llmguard.guarded_stream import GuardedStream
    from llmguard.policy import Policy, Rule
    from llmguard.telemetry import TelemetrySettings
    from llmguard.vault import Vault

__version__ = "0.1.0"

__all__ = [
    "Action",
    "Blocked",
    "ConfigurationError",
    "Decision",
    "Detector",
    "DetectorError",
    "DetectorRun",
    "Finding",
    "Guard",
    "GuardedStream",
    "Incremental",
    "LlmGuardError",
    "MissingExtraError",
    "Outcome",
    "Policy",
    "PolicyRef",
    "Role",
    "Rule",
    "Scope",
    "Stage",
    "TelemetrySettings",
    "Text",
    "Vault",
    "VaultError",
    "detector",
]

# Loaded at first use, so that `import llmguard` costs its users next to nothing.
_LAZY = {
    "Guard": "llmguard.guard",
    "GuardedStream": "llmguard.guarded_stream",
    "Policy": "llmguard.policy",
    "Rule": "llmguard.policy",
    "TelemetrySettings": "llmguard.telemetry",
    "Vault": "llmguard.vault",
    "detector": "llmguard.detectors.function",
}


def __getattr__(name: str) -> object:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'llmguard' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
