"""Everything that llmguard raises on purpose.

::

    LlmGuardError
    ├── ConfigurationError        a policy, an option or an argument is wrong; says where and what would be right
    │   ├── MissingExtraError     a package is not installed; names the pip command (also an ImportError)
    │   ├── DeviceError           a device was asked for and is not there; says what is missing
    │   └── ModelLoadError        a model's files are missing, damaged, tampered with, or don't fit together
    ├── DetectorError             a detector gave an answer that is none
    ├── DialectError              a body or an event is not in its wire format; says where
    │   └── RouteError            a method or path is spelt so that servers may read it in different ways
    ├── InferenceError            a model's run failed, or its answer is none
    │   ├── DeadlineError         the answer would come too late, so the run was not begun
    │   └── OverloadError         more texts wait for the model than its queue holds
    ├── VaultError                a vault is full, closed, expired, or its key does not fit
    └── Blocked                   the policy stopped the call; carries the decision

No message holds any part of a prompt or an answer.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmguard.types import Decision


class LlmGuardError(Exception):
    """The root of all errors of llmguard."""


class ConfigurationError(LlmGuardError):
    """Raised when a policy, an option or an argument is wrong.

    Attributes:
        source: the file or the name of the mapping, or "".
        line: 1-based line in ``source``, or None.
    """

    def __init__(self, message: str, *, source: str = "", line: int | None = None) -> None:
        where = f"{source}:{line}: " if source and line is not None else f"{source}: " if source else ""
        super().__init__(where + message)
        self.message = message
        self.source = source
        self.line = line


class MissingExtraError(ConfigurationError, ImportError):
    """Raised when a feature needs a package that is not installed.

    Attributes:
        feature: what needs it.
        package: the import name that is missing.
        extra: the extra of llmguard that brings it.
    """

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the package {package!r}, which is not installed: pip install 'llmguard[{extra}]'"
        )
        self.feature = feature
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        return type(self), (self.feature, self.package, self.extra)


class DetectorError(LlmGuardError):
    """Raised when a detector's answer has the wrong shape, a score outside [0, 1] or a span outside the text.

    Attributes:
        detector: its name.
        problem: what is wrong with the answer.
    """

    def __init__(self, detector: str, problem: str) -> None:
        super().__init__(f"detector {detector!r}: {problem}")
        self.detector = detector
        self.problem = problem

    def __reduce__(self) -> tuple[type[DetectorError], tuple[str, str]]:
        return type(self), (self.detector, self.problem)


class DeviceError(ConfigurationError):
    """Raised when a device was asked for and is not there; says what is missing."""


class ModelLoadError(ConfigurationError):
    """Raised when a model's files are missing, damaged, tampered with, or don't fit together."""


class DialectError(LlmGuardError, ValueError):
    """Raised for a body or an event that is not in its wire format; says where, by a JSON pointer or an offset."""


class RouteError(DialectError):
    """Raised for a method or a path that is spelt so that servers may read it in different ways."""


class InferenceError(LlmGuardError):
    """Raised when a model's run failed, or its answer is none: NaN, the wrong shape."""


class DeadlineError(InferenceError):
    """Raised when the answer would come too late, so that the run was not begun."""


class OverloadError(InferenceError):
    """Raised when more texts wait for a model than its queue holds."""


class VaultError(LlmGuardError):
    """Raised when a vault is full, closed, expired, or its key does not fit."""


class Blocked(LlmGuardError):  # noqa: N818 - reads as what happened: `except Blocked`
    """Raised when the policy stopped a call.

    Attributes:
        decision: what was decided, and why.
    """

    def __init__(self, decision: Decision) -> None:
        from llmguard.types import Action

        why = sorted({f"{f.detector}/{f.category}" for f in decision.findings if f.action is Action.BLOCK})
        why += [f"{name} could not say" for name in decision.unknown]
        super().__init__(
            f"blocked at stage {str(decision.stage)!r} by policy {decision.policy.name!r} "
            f"version {decision.policy.version!r}: {', '.join(why) or 'no reason given'}"
        )
        self.decision = decision

    def __reduce__(self) -> tuple[type[Blocked], tuple[Decision]]:
        return type(self), (self.decision,)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown word: `` (did you mean 'x'?)`` or the list of what there is.

    Args:
        word: what was written.
        known: what could have been written.
    """
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (known: {', '.join(words)})" if words else ""
