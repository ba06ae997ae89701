"""From a policy to what a guard runs: its detectors made and checked, its pipeline put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llmguard.breaker import Breaker
from llmguard.checks import Setting
from llmguard.detectors.registry import available, load, takes
from llmguard.errors import ConfigurationError, DeviceError, MissingExtraError, ModelLoadError, nearest
from llmguard.pipeline import Pipeline
from llmguard.policy import Policy
from llmguard.resident import give_back
from llmguard.types import Detector, Stage, Text
from llmguard.workers import Workers

# What a detector builds at its first text, it builds before the first request.
_WARM_UP = (
    Text("Mail ada@example.com or call +1 212-555-0187, key=9f8a7c6b, <b>1.5</b> at http://example.com/?q=%41"),
)


_ANYWHERE = frozenset({"auto", "cpu"})


class Loader:
    """Makes the settings of one guard; what a changed policy leaves as it was is made only once.

    Args:
        own: detectors that the caller gives ready made.
        workers: threads for the detectors that are not inline.

    Raises:
        ConfigurationError: something given is no detector, or two have the same name.
    """

    def __init__(self, own: Iterable[Detector], workers: Workers) -> None:
        self._own = _by_name(own)
        self._workers = workers
        self._loaded: dict[str, tuple[object, Detector]] = {}
        self._breakers: dict[tuple[str, int, float], Breaker] = {}

    def load(self, policy: Policy) -> Setting:
        """What a guard needs to run a policy.

        Raises:
            ConfigurationError: the policy does not fit the detectors that there are; says where.
            MissingExtraError: a detector needs a package that is not installed.
        """
        before = dict(self._loaded)
        detectors = {name: self._detector(name, policy) for name in policy.detector_names}
        if self._loaded != before:
            give_back()
        policy.check_against({name: detector.categories for name, detector in detectors.items()})
        if policy.device not in _ANYWHERE and all(detector.inline for detector in detectors.values()):
            # A device that was asked for and is not used would be a silent fall-back.
            raise DeviceError(
                f"the policy {policy.name!r} asks for the device {policy.device!r}, and none of its detectors runs a "
                "model: use device: auto"
            )
        _overlap(policy, detectors)
        breakers = {name: self._breaker(name, policy) for name in detectors}
        pipeline = Pipeline(policy, detectors, breakers, self._workers)
        return Setting(policy, policy.ref, pipeline, {stage: policy.plan(stage).thresholds for stage in Stage})

    def detector(self, name: str, policy: Policy) -> Detector:
        """One detector of a policy.

        Raises:
            ConfigurationError: the policy has no detector of that name.
        """
        if name not in policy.detector_names:
            raise ConfigurationError(
                f"the policy {policy.name!r} has no detector {name!r}{nearest(name, policy.detector_names)}"
            )
        return self._detector(name, policy)

    def _breaker(self, name: str, policy: Policy) -> Breaker:
        key = (name, policy.breaker.failures, policy.breaker.reset_s)
        return self._breakers.setdefault(key, Breaker(policy.breaker.failures, policy.breaker.reset_s))

    def _detector(self, name: str, policy: Policy) -> Detector:
        options = policy.detectors.get(name, {})
        own = self._own.get(name)
        if own is not None:
            if options:
                raise ConfigurationError(f"the detector {name!r} was given ready made: it takes no options")
            return own
        rules = [rule for rule in policy.rules if rule.detector == name]
        wanted = frozenset(category for rule in rules for category in rule.categories or ())
        chosen = dict(options)
        if policy.device != "auto" and "device" not in options and takes(name, "device"):
            chosen["device"] = policy.device
        held = self._loaded.get(name)
        if held is None or held[0] != (chosen, wanted):
            if name not in available():
                known = [*available(), *self._own]
                raise policy.error(f"unknown detector {name!r}{nearest(name, known)}", detector=name)
            try:
                detector = load(name, chosen, wanted)
            except (DeviceError, MissingExtraError, ModelLoadError):
                raise
            except ConfigurationError as error:
                raise policy.error(error.message, detector=name, options=bool(options)) from error
            if detector.inline:
                detector.detect(_WARM_UP)
            held = self._loaded[name] = ((chosen, wanted), detector)
        return held[1]


def _by_name(detectors: Iterable[Detector]) -> dict[str, Detector]:
    named: dict[str, Detector] = {}
    for detector in detectors:
        if not isinstance(detector, Detector):
            raise ConfigurationError(
                f"{type(detector).__name__} is no detector: it needs name, version, scope, categories, inline and "
                "detect(texts); a function becomes one by @llmguard.detector(name, categories=[...])"
            )
        if detector.name in named:
            raise ConfigurationError(f"two of the given detectors are named {detector.name!r}")
        named[detector.name] = detector
    return named


def _overlap(policy: Policy, detectors: Mapping[str, Detector]) -> None:
    if not policy.overlap:
        return
    for stage in (Stage.INPUT, Stage.CONTEXT, Stage.TOOL_RESULT):
        plan = policy.plan(stage)
        for name in plan.detectors:
            if not detectors[name].inline and plan.redacts(name):
                raise policy.error(
                    f"overlap starts the call before {name!r} has answered, so its texts could not be redacted any "
                    f"more at stage {str(stage)!r}: use block or flag there, or set overlap: false",
                    detector=name,
                )
